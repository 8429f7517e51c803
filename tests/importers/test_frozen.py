"""Frozen graphs of TensorFlow that helpers.frozen_files writes, without TensorFlow."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest

pytest.importorskip("google.protobuf")
pytest.importorskip("tflite")

from helpers.caffe_files import field
from helpers.frozen_files import GraphWriter, attr, write_classifier, write_ssd
from helpers.tflite_files import tensorflow_anchors

import mnssd
from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.errors import ImportedFileError
from mnssd.importers.families import family_of
from mnssd.importers.network import build
from mnssd.importers.proof import unrotated

FIVE = ((32, 64), (16, 32), (16, 32))


def image_of(size: Tuple[int, int]) -> np.ndarray:
    """``(1, height, width, 3)`` uint8 RGB."""
    return np.random.default_rng(1).integers(0, 256, (1, size[1], size[0], 3), dtype=np.uint8)


def outputs_of(net: Any, image: np.ndarray) -> Tuple[np.ndarray, ...]:
    """Logits, offsets, and anchors as fractions of the sides, in the order of the file."""
    parts = [part.asnumpy() for part in net.heads(mx.nd.array(to_network_input(list(image))))]
    parts.append(net.anchors[None] / np.tile(net.size, 2))
    if net.heads.backbone.rotated:
        parts = [unrotated(net, part) for part in parts]
    return tuple(part[0] for part in parts)


def assert_close(own: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(own, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize(
    ("size", "options"),
    [
        pytest.param((160, 160), {}, marks=pytest.mark.slow),
        ((128, 128), {"norm": "unfused", "dynamic": True}),
        ((128, 96), {"norm": "folded", "dynamic": True}),
        ((96, 96), {"network": "v2", "lite": True, "columns": 4, "width": 0.175}),
        pytest.param((96, 96), {"network": "v2", "explicit": True, "post": "lite"}, marks=pytest.mark.slow),
        ((128, 128), {"last": 2, "extras": FIVE}),
        pytest.param((96, 96), {"last": 2, "extras": FIVE, "post": "none"}, marks=pytest.mark.slow),
    ],
)
def test_detector_has_heads_and_anchors_of_the_file(
    size: Tuple[int, int], options: Dict[str, Any], tmp_path: Path
) -> None:
    image, path = image_of(size), tmp_path / "frozen_inference_graph.pb"
    logits, boxes = write_ssd(path, image, **options)
    run = mnssd.import_model(path, output=tmp_path / "run")
    net = zoo.load_detector(str(run.path))
    assert net.size == size
    assert len(net.classes) == logits.shape[1] - 1
    assert net.spec.network == f"mobilenet_{options.get('network', 'v1')}"
    own_logits, own_boxes, anchors = outputs_of(net, image)
    assert_close(own_logits, logits)
    assert_close(own_boxes, boxes[:, [1, 0, 3, 2]])  # ty, tx, th, tw in the file
    if "extras" not in options and size[0] == size[1]:
        sides = [width for width, _ in net.map_sizes()]
        np.testing.assert_allclose(anchors, tensorflow_anchors(sides)[:, [1, 0, 3, 2]], atol=1e-6)
    np.testing.assert_allclose(net.anchors[0, 2:], 0.1 * min(size), atol=1e-3)  # a square, in pixels


def test_scales_threshold_and_labels(tmp_path: Path) -> None:
    image, path = image_of((96, 96)), tmp_path / "net.pb"
    _, boxes = write_ssd(path, image, columns=4, scales=(10, 20, 2.5, 5), iou=0.55, post="full")
    (tmp_path / "labels.txt").write_text("???\ncat\n???\ndog\n", encoding="utf-8")
    run = mnssd.import_model(path, tmp_path / "labels.txt", tmp_path / "run")
    net = zoo.load_detector(str(run.path))
    assert net.classes == ("cat", "dog")
    assert net.spec.layout.nms_iou == pytest.approx(0.55)
    _, own, _ = outputs_of(net, image)
    assert_close(own, boxes[:, [1, 0, 3, 2]] * [0.5, 1, 1, 2])


@pytest.mark.parametrize(
    ("norm", "network"), [("unfused", "v1"), pytest.param("fused", "v2", marks=pytest.mark.slow)]
)
def test_classifier_has_the_logits_of_the_file(norm: str, network: str, tmp_path: Path) -> None:
    image, path = image_of((96, 96)), tmp_path / "net.pb"
    logits = write_classifier(path, image, norm=norm, network=network)
    net, spec = zoo.load_classifier(str(mnssd.import_model(path, output=tmp_path / "run").path))
    assert (spec.network, spec.size, len(spec.classes)) == (f"mobilenet_{network}", (96, 96), 5)
    assert_close(net(mx.nd.array(to_network_input(list(image)))).asnumpy()[0], logits)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("frozen") / "net.pb"
    write_ssd(path, image_of((96, 96)), width=0.25)
    return path.read_bytes()


def renamed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


BAD: Dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"hello",
    "truncated": lambda data: data[: len(data) // 2],
    "saved model without a graph": lambda data: b"\x08\x01\x12\x00",
    "unknown operator": renamed(b"\x05Relu6", b"\x05Swish"),
    "variables": renamed(b"\x08Identity", b"\x08Variable"),
    "for 8 bits": renamed(b"\x08Identity", b"\x08FakeQuan"),
    "missing node": renamed(b"\n\x10Preprocessor/sub", b"\n\x10Preprocessor/sup"),
    "anchors of an unknown operator": renamed(b"\x04Sqrt", b"\x04Cosh"),
    "no predictors": renamed(b"\x08ConcatV2", b"\x08ConcatV9"),
    "a loop": lambda data: data.replace(b"Preprocessor/mul/x", b"Preprocessor/sub\0\0", 1),
}


@pytest.mark.parametrize("damage", BAD)
def test_other_and_damaged_files_are_refused_by_name(
    damage: str, graph: bytes, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "net.pb"
    path.write_bytes(BAD[damage](graph))
    assert main(["import", str(path), "--output", str(tmp_path / "run")]) == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["large result", "many nodes", "large constant", "cycle"])
def test_hostile_graphs_are_refused(kind: str, graph: bytes, tmp_path: Path) -> None:
    path, scales = tmp_path / "net.pb", b"MultipleGridAnchorGenerator/map0/scales"
    writer = GraphWriter(image_of((64, 64)))
    if kind == "large result":
        top = writer.const("one", np.array([1.0, 2.0]))
        for index in range(6):  # 2 * 10^12 values
            top = writer.node(
                f"tile{index}", "Tile", [top, writer.const(f"n{index}", np.array([100]), "int32")]
            )
        writer.node(scales.decode(), "Identity", [top])
    elif kind == "many nodes":
        writer.data = field(1, field(1, b"x") + field(2, b"Const")) * 60_000
    elif kind == "large constant":
        side = field(2, b"\x08" + b"\xff" * 8 + b"\x7f")
        tensor = b"\x08\x01" + field(2, side * 2) + field(5, b"\0" * 4)
        writer.node(scales.decode(), "Const", (), [attr("value", "tensor", tensor)])
    else:
        writer.node(scales.decode(), "Identity", ["Concatenate/concat"])
    path.write_bytes(graph.replace(b"\n\x27" + scales, b"\n\x27" + scales[:-1] + b"_") + writer.data)
    with pytest.raises(ImportedFileError, match="net.pb"):
        family_of(str(path)).read(str(path))


def fuzz(data: bytes, path: Path, count: int, seed: int) -> None:
    """Change bytes, cut and double parts: the file is read or refused by name."""
    rng, outcomes, built = random.Random(seed), set(), []
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 3, 20))):
            at = rng.randrange(len(changed))
            kind = rng.random()
            if kind < 0.6:
                changed[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            elif kind < 0.8:
                del changed[at : at + rng.choice((1, 2, 9, 100))]
            else:
                changed[at:at] = changed[at : at + rng.choice((1, 5, 50))]
        if rng.random() < 0.1:
            del changed[rng.randrange(len(changed)) :]
        path.write_bytes(changed)
        message = ""
        try:
            read = family_of(str(path)).read(str(path))
            read.check(str(path))
            if len(built) < 50:  # a tenth of a second each
                columns = list(range(1, read.column_count))
                built.append(build(read, [f"class {i}" for i in columns], columns, str(path)))
        except ImportedFileError as error:
            message = str(error)
        outcomes.add(str(path) in message if message else None)
    assert outcomes <= {None, True}
    assert True in outcomes


def test_random_damage_is_refused_or_read(graph: bytes, tmp_path: Path) -> None:
    fuzz(graph, tmp_path / "net.pb", 10, 0)


@pytest.mark.slow
def test_much_random_damage_is_refused_or_read(graph: bytes, tmp_path: Path) -> None:
    fuzz(graph, tmp_path / "net.pb", 2000, 1)
