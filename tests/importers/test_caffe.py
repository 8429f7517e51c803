"""Caffe networks that helpers.caffe_files writes; OpenCV runs them."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import cv2
import mxnet as mx
import numpy as np
import pytest

pytest.importorskip("google.protobuf")

from helpers.caffe_files import write_classifier, write_ssd
from helpers.imports import outcome

import mnssd
from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.importers.families import family_of

NARROW = {"width": 0.25}


def image_of(size: Tuple[int, int]) -> np.ndarray:
    """``(1, height, width, 3)`` uint8 RGB."""
    return np.random.default_rng(1).integers(0, 256, (1, size[1], size[0], 3), dtype=np.uint8)


def run_opencv(structure: Path, image: np.ndarray, names: Any, mean: Any, scale: float) -> Any:
    """Outputs of the file in OpenCV for an RGB image, which the network takes as BGR."""
    net = cv2.dnn.readNetFromCaffe(str(structure), str(next(structure.parent.glob("*.caffemodel"))))
    blob = cv2.dnn.blobFromImage(image[0, ..., ::-1].copy(), 1.0, mean=mean) * scale
    net.setInput(blob)
    return net.forward(names)


def assert_close(own: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(own, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((160, 160), {}),
        ((160, 160), {"kind": "apart", "inputs": "layer"}),
        ((192, 128), {"kind": "folded", "inputs": "dim", "legacy": True}),
        ((300, 300), {"prior": "img_size: 300", "steps": (16, 32, 64, 100, 150, 300)}),
    ],
)
def test_detector_has_heads_and_anchors_of_the_file(
    size: Tuple[int, int], options: Dict[str, Any], tmp_path: Path
) -> None:
    structure, image = write_ssd(tmp_path, size, **NARROW, **options), image_of(size)
    (tmp_path / "labels.txt").write_text("cat\ndog\ncow\n", encoding="utf-8")
    run = mnssd.import_model(structure, tmp_path / "labels.txt", tmp_path / "run")
    net = zoo.load_detector(str(run.path))
    assert (net.classes, net.size, net.spec.network) == (("cat", "dog", "cow"), size, "mobilenet_v1")
    names = ["mbox_conf", "mbox_loc", "mbox_priorbox"]
    logits, boxes, priors = run_opencv(structure, image, names, (127.5,) * 3, 0.007843)
    own_logits, own_boxes = (
        output.asnumpy()[0] for output in net.heads(mx.nd.array(to_network_input(list(image))))
    )
    assert_close(own_logits, logits.reshape(-1, 4))
    assert_close(own_boxes, boxes.reshape(-1, 4))
    corners = priors[0, 0].reshape(-1, 4) * np.tile(size, 2)
    centers = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
    np.testing.assert_allclose(net.anchors, centers, atol=1e-6 * 320)


def test_detections_are_those_of_opencv(tmp_path: Path) -> None:
    structure, image = write_ssd(tmp_path, **NARROW), image_of((160, 160))
    run = mnssd.import_model(structure, output=tmp_path / "run")
    rows = run_opencv(structure, image, "detection_out", (127.5,) * 3, 0.007843)[0, 0]
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, image[0, ..., ::-1])
    found = mnssd.Detector.load(str(run.path))(path, score=0.25)
    best = rows[np.argsort(-rows[:, 2])][:20]
    assert len(best) == 20
    np.testing.assert_allclose(found.scores[:20], best[:, 2], atol=1e-4)


@pytest.mark.parametrize(
    ("network", "options"),
    [("v1", {}), ("v1", {"depthwise": "ConvolutionDepthwise"}), ("v2", {"kind": "apart"})],
)
def test_classifier_has_the_logits_of_the_file(network: str, options: Dict[str, Any], tmp_path: Path) -> None:
    width = {"width": 1.0 if network == "v2" else 0.25}
    structure, image = write_classifier(tmp_path, network, **width, **options), image_of((64, 64))
    run = mnssd.import_model(tmp_path / "net.caffemodel", output=tmp_path / "run")
    net, spec = zoo.load_classifier(str(run.path))
    assert (spec.network, len(spec.classes)) == (f"mobilenet_{network}", 5)
    logits = run_opencv(structure, image, "fc7", (103.94, 116.78, 123.68), 0.017)
    assert_close(net(mx.nd.array(to_network_input(list(image)))).asnumpy()[0], logits.reshape(-1))


def test_import_is_compared_with_opencv(tmp_path: Path) -> None:
    structure, image = write_ssd(tmp_path, **NARROW), image_of((160, 160))
    family = family_of(str(structure))
    outputs = family.run_engine(str(structure), family.read(str(structure)), image)
    assert outputs is not None
    assert (outputs.engine, outputs.is_quantized) == ("OpenCV", False)
    logits = run_opencv(structure, image, "mbox_conf", (127.5,) * 3, 0.007843)
    assert_close(outputs.logits[0], logits.reshape(-1, 4))


def test_float64_weights(tmp_path: Path) -> None:
    operators = []
    for double in (False, True):
        folder = tmp_path / str(double)
        folder.mkdir()
        structure = str(write_classifier(folder, double=double, **NARROW))  # OpenCV does not read float64
        operators.append(family_of(structure).read(structure).graph.operators)
    for one, other in zip(*operators):
        np.testing.assert_allclose(one.weight, other.weight, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.bias, other.bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("structure", "weights", "given"),
    [
        (
            "MobileNetSSD_deploy.prototxt.txt",
            "MobileNetSSD_deploy.caffemodel",
            "MobileNetSSD_deploy.caffemodel",
        ),
        ("mobilenet_v2_deploy.prototxt", "mobilenet_v2.caffemodel", "mobilenet_v2_deploy.prototxt"),
        ("deploy.prototxt", "mobilenet_iter_73000.caffemodel", "mobilenet_iter_73000.caffemodel"),
        ("net.PROTOTXT", "other.caffemodel", "net.PROTOTXT"),
    ],
)
def test_the_other_file_is_found(structure: str, weights: str, given: str, tmp_path: Path) -> None:
    write_classifier(tmp_path, **NARROW).rename(tmp_path / structure)
    (tmp_path / "net.caffemodel").rename(tmp_path / weights)
    if "deploy" in structure:
        (tmp_path / "train.prototxt").write_text("layer { }", encoding="utf-8")
    if structure.startswith("mobilenet_v2"):
        (tmp_path / "mobilenet.caffemodel").write_bytes(b"")
    path = str(tmp_path / given)
    assert family_of(path).read(path).column_count == 5


@pytest.mark.parametrize("others", [(), ("a.caffemodel", "b.caffemodel")])
def test_the_other_file_is_missing_or_ambiguous(others: Any, tmp_path: Path, capsys: Any) -> None:
    structure = write_classifier(tmp_path, **NARROW)
    (tmp_path / "net.caffemodel").unlink()
    for name in others:
        (tmp_path / name).write_bytes(b"")
    assert main(["import", str(structure), "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert str(structure) in error
    assert all(name in error for name in others)


def replaced(pattern: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, new, text, count=1)


CHANGES: Dict[str, Callable[[str], str]] = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "binary": lambda text: "layer {\0\1\2",
    "no input": replaced(r"input_shape \{[^}]*\}", ""),
    "input of one channel": replaced(r"dim: 3", "dim: 1"),
    "huge input": replaced(r"dim: 160", "dim: 99999999"),
    "old layers": replaced(r"layer \{", "layers {} layer {"),
    "unknown layer": replaced(r'"ReLU"', '"PReLU"'),
    "slope": replaced(r'"ReLU"\n(.*)\n', r'"ReLU"\n\1\n relu_param { negative_slope: 0.1 }'),
    "padding": replaced(r"pad: 1", "pad: 2"),
    "dilation": replaced(r"pad: 1", "pad: 1 dilation: 2"),
    "kernel": replaced(r"kernel_size: 3", "kernel_h: 3 kernel_w: 1"),
    "outputs": replaced(r"num_output: 8", "num_output: 9999999999"),
    "groups": replaced(r"group: 8", "group: 2"),
    "blob": replaced(r'bottom: "conv0"', 'bottom: "missing"'),
    "two of one name": replaced(r'name: "conv0/relu"', 'name: "conv0"'),
    "offset": replaced(r"offset: 0.5", "offset: 0.25"),
    "clip": replaced(r"clip: false", "clip: true"),
    "size": replaced(r"min_size: 60", "min_size: -60"),
    "no size": replaced(r"min_size: 60", ""),
    "two sizes": replaced(r"min_size: 60", "min_size: 60 min_size: 70"),
    "ratio": replaced(r"aspect_ratio: 2.0", "aspect_ratio: 0"),
    "some steps": replaced(r"offset: 0.5", "offset: 0.5 step: 16"),
    "steps": replaced(r"offset: 0.5", "offset: 0.5 step_w: 16 step_h: 8"),
    "image of anchors": replaced(r"offset: 0.5", "offset: 0.5 img_size: 512"),
    "variance": replaced(r"variance: 0.2", "variance: 0.3"),
    "corners": replaced("CENTER_SIZE", "CORNER"),
    "not shared": replaced("share_location: true", "share_location: false"),
    "classes": replaced("num_classes: 4", "num_classes: 5"),
    "order of axes": replaced(r"order: 2 order: 3 order: 1", "order: 3 order: 2 order: 1"),
    "axis of scores": replaced(r"softmax_param \{ axis: 2", "softmax_param { axis: 1"),
    "nesting": lambda text: text + "unknown " + "{ a " * 5000,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ssd(tmp_path_factory.mktemp("caffe"), **NARROW)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """Both files in a folder of their own."""
    for file in original.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / original.name


@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_are_refused_by_name(change: str, copy: Path, capsys: Any) -> None:
    text = copy.read_text(encoding="utf-8")
    changed = CHANGES[change](text)
    assert changed != text
    copy.write_text(changed, encoding="utf-8")
    assert main(["import", str(copy), "--output", str(copy.parent / "run")]) == 1
    assert str(copy) in capsys.readouterr().err
    assert not (copy.parent / "run").exists()


@pytest.mark.parametrize("size", [0, 5, 1000, 100_000])
def test_short_weights_are_refused_by_name(size: int, copy: Path, capsys: Any) -> None:
    weights = copy.parent / "net.caffemodel"
    weights.write_bytes(weights.read_bytes()[:size])
    assert main(["import", str(copy), "--output", str(copy.parent / "run")]) == 1
    assert str(weights) in capsys.readouterr().err
    assert not (copy.parent / "run").exists()


@pytest.mark.parametrize(
    "count", [30, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_random_damage_is_refused_or_read(count: int, copy: Path) -> None:
    weights, text = copy.parent / "net.caffemodel", copy.read_text(encoding="utf-8")
    rng = random.Random(count)
    data, outcomes = weights.read_bytes(), []
    places = [match.span() for match in re.finditer(r'(?<=: )[^ "\n]+', text)]
    for _ in range(count):
        start, end = rng.choice(places)
        value = rng.choice(("-1", "0", "9" * 20, "x", "{", "1e400", "nan", "true", '"a"'))
        copy.write_text(text[:start] + value + text[end:], encoding="utf-8")
        outcomes.append(outcome(copy, copy.parent))  # or the file beside it
    copy.write_text(text, encoding="utf-8")
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 10, 1000))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        weights.write_bytes(damaged)
        outcomes.append(outcome(weights, weights.parent))
    assert set(outcomes) <= {None, True}
    assert True in outcomes
