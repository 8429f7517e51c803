"""TFLite files: those that helpers.tflite_files writes, and those of the reference data."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any, Dict, List

import mxnet as mx
import numpy as np
import pytest

pytest.importorskip("tflite")

from helpers.imports import outcome
from helpers.tflite_files import COUNTS, tensorflow_anchors, write_classifier, write_ssd

import mnssd
from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.importers.families import family_of
from mnssd.importers.network import build
from mnssd.importers.proof import unrotated
from mnssd.importers.run import import_file

SIDES = (10, 5, 3, 2, 1, 1)
"""Of the feature maps at 160 pixels: even and odd ones."""

KINDS = ("float", "uint8", "int8")
CLASSES = ["cat", "dog", "cow", "hen", "pig"]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (1, 160, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(["???", *CLASSES]), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_detector_has_the_heads_of_the_file(
    kind: str, image: np.ndarray, labels: str, tmp_path: Path
) -> None:
    scores, boxes = write_ssd(tmp_path / "ssd.tflite", image, kind)
    run = mnssd.import_model(tmp_path / "ssd.tflite", labels, tmp_path / "run")
    net = zoo.load_detector(str(run.path))
    assert net.classes == tuple(CLASSES)
    outputs = net.heads(mx.nd.array(to_network_input(list(image))))
    own_scores, own_boxes = (unrotated(net, output.asnumpy())[0] for output in outputs)
    np.testing.assert_allclose(own_scores, scores, atol=1e-5 * np.abs(scores).max())
    # The file's order is ty, tx, th, tw.
    np.testing.assert_allclose(own_boxes, boxes[:, [1, 0, 3, 2]], atol=1e-5 * np.abs(boxes).max())
    anchors = unrotated(net, net.anchors[None])[0] / 160
    np.testing.assert_allclose(anchors, tensorflow_anchors(SIDES)[:, [1, 0, 3, 2]], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_classifier_has_the_logits_of_the_file(kind: str, image: np.ndarray, tmp_path: Path) -> None:
    logits = write_classifier(tmp_path / "net.tflite", image, kind)
    run = mnssd.import_model(tmp_path / "net.tflite", output=tmp_path / "run")
    net, spec = zoo.load_classifier(str(run.path))
    assert (spec.network, spec.width, spec.size, len(spec.classes)) == ("mobilenet_v1", 0.25, (160, 160), 5)
    own = net(mx.nd.array(to_network_input(list(image)))).asnumpy()[0]
    np.testing.assert_allclose(own, logits, atol=1e-5 * np.abs(logits).max())


def test_detector_without_postprocessing(image: np.ndarray, tmp_path: Path) -> None:
    write_ssd(tmp_path / "ssd.tflite", image, postprocess=False)
    imported = import_file(str(tmp_path / "ssd.tflite"), None, str(tmp_path / "run"))
    net = zoo.load_detector(str(imported.path))
    anchors = unrotated(net, net.anchors[None])[0] / 160
    np.testing.assert_allclose(anchors, tensorflow_anchors(SIDES)[:, [1, 0, 3, 2]], atol=1e-6)
    assert len(net.classes) == 5


def test_scales_of_the_boxes(image: np.ndarray, tmp_path: Path) -> None:
    _, boxes = write_ssd(tmp_path / "ssd.tflite", image, x_scale=20.0, h_scale=2.5)
    net = zoo.load_detector(str(mnssd.import_model(tmp_path / "ssd.tflite", output=tmp_path / "run").path))
    offsets = net.heads(mx.nd.array(to_network_input(list(image))))[1]
    expected = boxes[:, [1, 0, 3, 2]] * [0.5, 1, 1, 2]
    own = unrotated(net, offsets.asnumpy())[0]
    np.testing.assert_allclose(own, expected, atol=1e-5 * np.abs(boxes).max())


def test_anchors_of_another_rule_are_kept(image: np.ndarray, tmp_path: Path) -> None:
    own = tensorflow_anchors(SIDES)
    own[:, 2:] *= (1.5, 0.8)
    write_ssd(tmp_path / "ssd.tflite", image, anchors=own)
    net = zoo.load_detector(str(mnssd.import_model(tmp_path / "ssd.tflite", output=tmp_path / "run").path))
    np.testing.assert_allclose(unrotated(net, net.anchors[None])[0] / 160, own[:, [1, 0, 3, 2]], atol=1e-6)


@pytest.mark.parametrize("row", [0, 500])
def test_anchors_that_are_no_grid_are_refused(row: int, image: np.ndarray, tmp_path: Path) -> None:
    own = tensorflow_anchors(SIDES)
    own[row] += 0.01
    write_ssd(tmp_path / "ssd.tflite", image, anchors=own)
    assert main(["import", str(tmp_path / "ssd.tflite"), "--output", str(tmp_path / "run")]) == 1
    assert not (tmp_path / "run").exists()


def test_run_is_like_any_other(
    image: np.ndarray, labels: str, image_files: List[str], tmp_path: Path, capsys: Any
) -> None:
    write_ssd(tmp_path / "ssd.tflite", image)
    run, files = str(tmp_path / "run"), image_files[:2]
    arguments = [str(tmp_path / "ssd.tflite"), "--labels", labels, "--output", run, "--images", *files]
    assert main(["import", *arguments]) == 0
    assert main(["detect", run, files[0], "--score", "0.2"]) == 0
    export = str(tmp_path / "export")
    assert main(["export", run, "--output", export, "--images", *files]) == 0
    own, exported = (mnssd.Detector.load(path)(files[0], score=0.2) for path in (run, export))
    assert len(own) == len(exported) > 0
    np.testing.assert_allclose(own.scores, exported.scores, atol=1e-4)
    assert main(["import", *arguments]) == 2  # the folder is not empty
    capsys.readouterr()
    assert main(["summary", run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["multiply_adds"] > 1e6
    pruning = ["--importance", "magnitude", "--epochs", "0", "--keep", "0.9"]
    assert main(["prune", run, "--output", str(tmp_path / "small"), *pruning]) == 0
    assert mnssd.Detector.load(tmp_path / "small-start").classes == tuple(CLASSES)


BAD: Dict[str, Any] = {
    "empty": lambda data: b"",
    "text": lambda data: b"hello",
    "header": lambda data: data[:8],
    "truncated": lambda data: data[: len(data) // 2],
    "root beyond the end": lambda data: struct.pack("<I", 2**31) + data[4:],
    "root at itself": lambda data: struct.pack("<I", 0) + data[4:],
    "zeros": lambda data: data[:8] + bytes(len(data) - 8),
    "ones": lambda data: data[:8] + b"\xff" * (len(data) - 8),
}


@pytest.mark.parametrize("damage", BAD)
def test_damaged_files_are_refused_by_name(
    damage: str, image: np.ndarray, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "net.tflite"
    write_classifier(path, image, "uint8")
    path.write_bytes(BAD[damage](path.read_bytes()))
    assert main(["import", str(path), "--output", str(tmp_path / "run")]) == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labels", ["missing.txt", "many.txt", "binary.txt", "blank.txt"])
def test_labels_that_do_not_fit(labels: str, image: np.ndarray, tmp_path: Path, capsys: Any) -> None:
    write_ssd(tmp_path / "ssd.tflite", image)
    (tmp_path / "many.txt").write_text("\n".join("abcdefghijk"), encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8" * 9)
    (tmp_path / "blank.txt").write_text("\n\n", encoding="utf-8")
    arguments = ["--labels", str(tmp_path / labels), "--output", str(tmp_path / "run")]
    assert main(["import", str(tmp_path / "ssd.tflite"), *arguments]) == 1
    assert labels in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "count", [100, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_random_damage_is_refused_or_read(count: int, image: np.ndarray, tmp_path: Path) -> None:
    path, rng = tmp_path / "net.tflite", random.Random(count)
    write_classifier(path, image, "uint8")
    original, outcomes = path.read_bytes(), []
    for _ in range(count):
        data = bytearray(original)
        for _ in range(rng.choice((1, 3, 20))):
            at = rng.choice((rng.randrange(64), rng.randrange(len(data) - 8)))
            value = rng.choice((0, 2**31, 2**32 - 1, len(data), rng.randrange(2**32)))
            data[at : at + 4] = struct.pack("<I", value)
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        outcomes.append(outcome(path))
    assert set(outcomes) == {None, True}  # read, or refused by name


@pytest.mark.parametrize("kind", KINDS)
def test_engine_agrees(kind: str, image: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = str(tmp_path / "ssd.tflite")
    scores, _ = write_ssd(Path(path), image, kind)
    outputs = family_of(path).run_engine(path, family_of(path).read(path), image)
    assert outputs is not None
    assert outputs.is_quantized == (kind != "float")
    tolerance = 1e-5 if kind == "float" else 0.1
    np.testing.assert_allclose(outputs.logits[0], scores, atol=tolerance * np.abs(scores).max())


@pytest.mark.parametrize(
    ("file", "network", "width", "columns"),
    [
        ("coco-ssd-mobilenet-v1-075-300-uint8.tflite", "mobilenet_v1", 0.75, 91),
        ("pets-ssd-mobilenet-v1-300-uint8.tflite", "mobilenet_v1", 0.75, 38),
        ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1", 0.25, 1001),
        ("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v2", 1.0, 1001),
    ],
)
def test_published_files(shared: Path, file: str, network: str, width: float, columns: int) -> None:
    path = str(shared / "import" / file)
    read = family_of(path).read(path)
    assert read.column_count == columns
    own = list(range(1 if read.is_detector else 0, columns))
    net, spec = build(read, [f"class {i}" for i in own], own, path)
    assert (spec.network, spec.width) == (network, width)
    if read.is_detector:
        assert len(net.anchors) == 1917 == sum(s * s * c for s, c in zip((19, 10, 5, 3, 2, 1), COUNTS))
