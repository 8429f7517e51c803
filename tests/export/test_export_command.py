"""`mnssd export`: images of the run or of the user, options, and errors that name what was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from helpers.detectors import make_classifier, write_image, write_images, write_run

from mnssd.cli.main import main


def export(capfd: pytest.CaptureFixture[str], *arguments: Any) -> Tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    status = main(["export", *map(str, arguments)])
    return status, *capfd.readouterr()


def test_validation_images_of_the_run_are_used(
    tiny_detector: Tuple[Any, Any], shapes: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "my run", *tiny_detector, dataset="shapes", data_root=shapes)
    status, out, err = export(capfd, run, "--output", tmp_path / "e", "--parity-images", 3)
    assert (status, err) == (0, "")
    assert f"{tmp_path / 'e' / 'my_run-symbol.json'}" in out
    sidecar = json.loads((tmp_path / "e" / "my_run.json").read_text())
    assert sidecar["detector"] == tiny_detector[1].as_dict()
    assert sidecar["parity"]["plain"]["images"] == 3


def test_training_images_of_the_run_are_used_for_calibration(
    tiny_detector: Tuple[Any, Any], shapes: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", *tiny_detector, dataset="shapes", data_root=shapes)
    options = ["--format", "symbol,int8", "--calibration-images", 4, "--parity-images", 3]
    status, out, _ = export(capfd, run, "--output", tmp_path / "e", *options)
    assert status == 0
    assert {line.split(":")[0] for line in out.splitlines()} >= {"plain", "fused", "int8"}
    sidecar = json.loads((tmp_path / "e" / "run.json").read_text())
    assert sidecar["int8"]["calibration"] == {"method": "naive", "images": 4}


def test_images_and_folders_of_the_user_are_used(
    tiny_detector: Tuple[Any, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", *tiny_detector, dataset="voc", data_root=str(tmp_path / "gone"))
    folder = tmp_path / "some" / "below"
    folder.mkdir(parents=True)
    arguments = [run, "--output", tmp_path / "e", "--name", "n", "--images", tmp_path / "some"]
    status, _, err = export(capfd, *arguments)
    assert status == 2
    assert str(tmp_path / "some") in err
    write_image(folder / "a.PNG", np.full((50, 60, 3), 90, np.uint8))
    (folder / "readme.txt").write_text("not an image")
    assert export(capfd, *arguments, *write_images(tmp_path, 2))[0] == 0
    assert json.loads((tmp_path / "e" / "n.json").read_text())["parity"]["plain"]["images"] == 3


def test_error_names_missing_dataset_and_images_option(
    tiny_detector: Tuple[Any, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", *tiny_detector, dataset="voc", data_root=str(tmp_path / "gone"))
    status, _, err = export(capfd, run, "--output", tmp_path / "e")
    assert status == 2
    assert str(tmp_path / "gone") in err
    assert "--images" in err


@pytest.mark.parametrize("network", [pytest.param("mobilenet_v1", marks=pytest.mark.slow), "mobilenet_v2"])
@pytest.mark.parametrize("format_name", ["symbol", "int8"])
def test_classifier_is_exported(
    format_name: str, network: str, image_files: List[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """MobileNetV2's last convolution has no bias; MobileNetV1's dense layer is fused in the int8 graph."""
    run = write_run(tmp_path / "run", *make_classifier(network))
    arguments = [run, "--output", tmp_path / "e", "--format", format_name, "--images", *image_files[:4]]
    assert export(capfd, *arguments)[0] == 0
    sidecar = json.loads((tmp_path / "e" / "run.json").read_text())
    assert sidecar["task"] == "classification"
    figures = sidecar["parity"]["plain" if format_name == "symbol" else "int8"]
    assert figures["images"] == 4


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["RUN"], 2, "--output"),
        (["nowhere", "--output", "OUT"], 1, "nowhere"),
        (["EMPTY", "--output", "OUT"], 1, "empty"),
        (["RUN", "--output", "OUT", "--parity-images", "0"], 2, "parity_images"),
        (["RUN", "--output", "OUT", "--calibration-images", "0"], 2, "calibration_images"),
        (["RUN", "--output", "OUT", "--calibration", "guess"], 2, "guess"),
        (["RUN", "--output", "OUT", "--format", "onnx", "--fp16-weights"], 2, "fp16_weights"),
        (["RUN", "--output", "OUT", "--format", "onyx"], 2, "'onyx'"),
        (["RUN", "--output", "OUT", "--format", "onnx,symbl"], 2, "'symbl'"),
    ],
)
def test_invalid_arguments_are_named(
    arguments: List[str],
    status: int,
    named: str,
    tiny_detector: Tuple[Any, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    run = write_run(tmp_path / "run", *tiny_detector)
    paths = {"RUN": run, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    exit_status, _, err = export(capfd, *(paths.get(argument, argument) for argument in arguments))
    assert exit_status == status
    assert named in err
    assert not (tmp_path / "out").exists()
