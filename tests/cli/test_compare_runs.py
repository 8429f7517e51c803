"""`mnssd compare-runs` and `mnssd.compare_runs`: runs, exports and detection files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
from helpers.detectors import make_classifier, make_image, make_net, write_image, write_run

import mnssd
from mnssd.cli.main import main
from mnssd.errors import MnssdError, OptionError


def run_json(*arguments: object) -> Dict[str, Any]:
    """Result of a command that ends well."""
    target = Path(str(arguments[1])).parent / "result.json"
    assert main([*map(str, arguments), "--json", str(target)]) == 0
    return dict(json.loads(target.read_text()))


@pytest.fixture(scope="module")
def other_detector() -> Tuple[Any, Any]:
    return make_net(5)


@pytest.fixture
def detectors(
    tiny_detector: Tuple[Any, Any], other_detector: Tuple[Any, Any], devkit: Path, tmp_path: Path
) -> Tuple[Path, Path]:
    """Runs of two networks on `devkit`."""
    options = {"dataset": "voc", "data_root": str(devkit), "val_splits": "2012_val"}
    return (
        write_run(tmp_path / "one", *tiny_detector, **options),
        write_run(tmp_path / "two", *other_detector, **options),
    )


def test_runs_are_compared_as_eval_measures_them(
    detectors: Tuple[Path, Path], capsys: pytest.CaptureFixture
) -> None:
    options = ["--metric", "voc12", "--iou", "0.1"]
    single = [run_json("eval", run, *options) for run in detectors]
    assert single[0]["mAP"] != single[1]["mAP"]
    capsys.readouterr()
    result = run_json("compare-runs", *detectors, *options)
    printed = capsys.readouterr().out
    for side, alone in zip("ab", single):
        assert result[side] == {"value": alone["mAP"], "interval": alone["interval"]}
        assert f"{alone['mAP']:.4f}" in printed
    assert result["difference"]["value"] == single[1]["mAP"] - single[0]["mAP"]
    assert result["images"] == 5
    for name in ("cat", "dog"):
        a, b = (alone["ap_per_class"][name] for alone in single)
        assert result["per_class"][name]["difference"]["value"] == b - a
    assert result["per_class"]["cow"]["a"]["value"] is None


def test_tiny_run_equals_itself(tiny_run: Path, shapes: str) -> None:
    comparison = mnssd.compare_runs(
        mnssd.Run(tiny_run), tiny_run / "best.params", data=shapes, splits="train", metric="voc12"
    )
    assert comparison.images == 24
    assert comparison.score.a.value > 0
    assert comparison.score.difference == (0, (0, 0))
    assert comparison.better is None


def test_exports_and_detection_files_are_compared_with_runs(
    detectors: Tuple[Path, Path], tiny_export: Path, devkit: Path, tmp_path: Path
) -> None:
    run = detectors[0]
    result = run_json("compare-runs", run, tiny_export, "--iou", "0.1")
    assert result["a"]["value"] > 0
    assert result["difference"]["value"] == pytest.approx(0, abs=1e-3)
    files = tmp_path / "files"
    assert run_json("eval", run, "--save-detections", files)["mAP"] > 0
    result = run_json("compare-runs", files, run)  # its class cow has no object
    assert result["difference"] == {"value": 0, "interval": [0, 0]}
    data = ["--data-root", devkit, "--splits", "2012_val"]
    result = run_json("compare-runs", files, files, *data, "--classes", "cat,dog")
    assert list(result["per_class"]) == ["cat", "dog"]
    for pair in ((files, files), (tiny_export, files)):
        with pytest.raises(OptionError):  # on which images?
            mnssd.compare_runs(*pair)


def test_runs_on_different_images_need_a_choice(
    detectors: Tuple[Path, Path], devkit: Path, tmp_path: Path, tiny_detector: Tuple[Any, Any],
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(devkit, copy)
    options = {"dataset": "voc", "data_root": str(devkit), "val_splits": "2012_train"}
    list_of_its_own = write_run(tmp_path / "list", *tiny_detector, **options)
    options = {"dataset": "voc", "data_root": str(copy), "val_splits": "2012_val"}
    folder_of_its_own = write_run(tmp_path / "folder", *tiny_detector, **options)
    run = detectors[0]
    for other, named, choice in (
        (list_of_its_own, "2012_train", "--splits"),
        (folder_of_its_own, str(copy), "--data-root"),
    ):
        assert main(["compare-runs", str(run), str(other)]) == 2
        error = capsys.readouterr().err
        assert named in error
        assert choice in error
    assert run_json("compare-runs", run, other, "--data-root", copy)["difference"]["value"] == 0


def test_different_classes_are_refused_unless_chosen(
    detectors: Tuple[Path, Path], tiny_run: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    text = (detectors[1] / "config.yaml").read_text()
    (detectors[1] / "config.yaml").write_text(text.replace("cow", "sheep"))
    assert main(["compare-runs", *map(str, detectors)]) == 2
    error = capsys.readouterr().err
    assert "sheep" in error
    assert "--classes cat,dog" in error
    assert list(run_json("compare-runs", *detectors, "--classes", "dog,cat")["per_class"]) == ["dog", "cat"]
    assert main(["compare-runs", *map(str, detectors), "--classes", "cat,sheep"]) == 2
    assert str(detectors[0]) in capsys.readouterr().err
    assert main(["compare-runs", str(detectors[0]), str(tiny_run)]) == 2  # no class in common


# ---- classifiers


@pytest.fixture
def classifiers(tmp_path: Path) -> Tuple[Path, Path]:
    """Runs of two networks on class folders."""
    for number, name in enumerate(("cat", "dog", "cow", "hen")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(6):
            write_image(tmp_path / "photos" / name / f"{k}.png", make_image(10 * number + k, 40, 40))
    options = {"dataset": "folder", "data_root": str(tmp_path / "photos")}
    one, two = (make_classifier(network, size=(32, 32)) for network in ("mobilenet_v1", "mobilenet_v2"))
    return write_run(tmp_path / "one", *one, **options), write_run(tmp_path / "two", *two, **options)


@pytest.mark.slow
def test_classifiers_are_compared_by_top1(classifiers: Tuple[Path, Path], tmp_path: Path) -> None:
    data = ["--data-root", tmp_path / "photos"]
    single = [run_json("eval-cls", run, *data) for run in classifiers]
    result = run_json("compare-runs", *classifiers, *data)
    for side, alone in zip("ab", single):
        assert result[side] == {"value": alone["top1"], "interval": alone["interval"]}
    assert (result["images"], result["metric"], result["per_class"]) == (24, "top-1", {})
    held_out = run_json("eval-cls", classifiers[0])["images"]
    assert run_json("compare-runs", *classifiers)["images"] == held_out < 24
    assert run_json("compare-runs", *classifiers, *data, "--hold-out", "0.2")["images"] == held_out
    folder = mnssd.export(
        classifiers[1], output=tmp_path / "export", images=[tmp_path / "photos"], parity_images=4
    )
    for pair in ((classifiers[1], folder), (folder, folder)):
        comparison = mnssd.compare_runs(*pair, data=tmp_path / "photos")
        assert comparison.score.difference.value == 0
        assert comparison.score.a.value == single[1]["top1"]


def test_options_and_tasks_that_do_not_fit_are_refused(
    classifiers: Tuple[Path, Path], tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one, two = map(str, classifiers)
    for arguments, named in (
        ([one, str(tiny_run)], str(tiny_run)), ([one, two, "--iou", "0.4"], "--iou"),
        ([one, two, "--hold-out", "0.3"], "hold_out"), ([one, two, "--dataset", "coco"], "coco"),
        ([str(tiny_run), str(tiny_run), "--dataset", "cifar10"], "cifar10"),
        ([one, two, "--batch-size", "0"], "batch_size"),
    ):  # fmt: skip
        assert main(["compare-runs", *arguments]) == 2
        assert named in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "nowhere", tmp_path / "photos"):
        assert main(["compare-runs", one, str(path)]) == 1
        assert str(path) in capsys.readouterr().err
    (classifiers[1] / "best.params").unlink()
    with pytest.raises(MnssdError, match="best.params"):
        mnssd.compare_runs(one, two)
