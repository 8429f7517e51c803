"""Export formats of ncnn: float32 and float16 weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from helpers.detectors import CLASSES, SIZE, make_classifier, make_image, random_network, write_run
from helpers.layer_exports import assert_same_detections, export_small

pytest.importorskip("ncnn")

from mnssd import zoo
from mnssd.boxes import iou
from mnssd.cli.main import main
from mnssd.errors import ExportError, OptionError
from mnssd.export.load import load_export
from mnssd.export.ncnn_file import (
    WEIGHT_FLAGS,
    ConvolutionShape,
    NcnnLayer,
    parse_param,
    split_tensors,
    to_bin,
    to_param,
)
from mnssd.export.options import ExportOptions, parse_formats
from mnssd.export.write import export_network
from mnssd.inference.classifier import Classifier
from mnssd.inference.detector import Detector
from mnssd.nn.backbones import Backbone, Tap, backbones
from mnssd.nn.head_layouts import LAYOUTS
from mnssd.runtime.settings import pick_context

FORMATS = ("ncnn", "ncnn-fp16")
PARAM, BIN = "x.ncnn.param", "x.ncnn.bin"
RESCALED = {"rotated": True, "pixel_mean": [0.5] * 3, "pixel_std": [0.5] * 3}


@pytest.mark.parametrize(
    ("head", "network"),
    [
        ("ssd", "mobilenet_v2"), ("ssdlite", "mobilenet_v1"), ("ssdfactorized", "mobilenet_v2"),
        ("ssdfpn", "mobilenet_v2"),
        pytest.param("ssd", "mobilenet_v1", marks=pytest.mark.slow),
        pytest.param("ssdlite", "mobilenet_v2", marks=pytest.mark.slow),
        pytest.param("ssdfactorized", "mobilenet_v1", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_detectors_detect_the_same(head: str, network: str, image_files: List[str], tmp_path: Path) -> None:
    assert_same_detections("ncnn", head, network, image_files, tmp_path / "e")


@pytest.mark.parametrize(
    "spec",
    [
        zoo.DetectorSpec(CLASSES, "mobilenet_v1", 0.25, (96, 300), variant=RESCALED),
        zoo.DetectorSpec(CLASSES, "mobilenet_v2", 0.25, SIZE, head="ssdlite", shortcut="projection-all"),
        zoo.DetectorSpec(CLASSES, "mobilenet_v1", 0.25, SIZE, head="gluoncv_lite_300"),
        zoo.DetectorSpec(CLASSES, "mobilenet_v1", 0.25, (300, 160), head="ssdfpn"),
        zoo.ClassifierSpec(CLASSES, "mobilenet_v1", 0.25, (111, 97), classifier="conv"),
    ],
    ids=[
        "rotated and rescaled",
        "projections",
        "1x1 predictors",
        "feature pyramid",
        "classifier with odd sides",
    ],
)
def test_other_structures_and_sides(spec: Any, tmp_path: Path) -> None:
    images = [make_image(i, 120, 140) for i in range(2)]
    options = ExportOptions(FORMATS)
    exported = export_network(random_network(spec), spec, tmp_path / "e", images, "x", options)
    assert exported.parity["ncnn"].as_dict()["images"] == 2
    assert exported.parity["ncnn_fp16"].as_dict()["cosine"] > 0.999


def test_sigmoid_scores(tmp_path: Path) -> None:
    layout = LAYOUTS["ssdlite"]
    values = {**vars(layout), "scores": "sigmoid", "nms_iou": 0.6}
    spec = zoo.DetectorSpec(
        CLASSES, "mobilenet_v1", 0.25, SIZE, head="ssdlite", layout=type(layout)(**values)
    )
    images = [make_image(i, *SIZE) for i in range(2)]
    options = ExportOptions(("symbol", "ncnn"))
    export_network(random_network(spec), spec, tmp_path / "e", images, "x", options)
    sidecar = json.loads((tmp_path / "e" / "x.json").read_text())
    assert (sidecar["ncnn"]["scores"], sidecar["thresholds"]["nms_iou"]) == ("sigmoid", 0.6)
    ours, theirs = (
        Detector.load(tmp_path / "e", engine=name)(images[0], score=0.1) for name in ("mxnet", "ncnn")
    )
    assert len(ours) == len(theirs) > 10
    np.testing.assert_allclose(np.sort(ours.scores), np.sort(theirs.scores), atol=1e-4)


@pytest.mark.parametrize("network", ["mobilenet_v1", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_classifiers_and_sizes(network: str, image_files: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier(network, size=(64, 64))
    export_network(net, spec, tmp_path / "e", image_files[:4], "x", ExportOptions(("symbol", *FORMATS)))
    image, table = make_image(3, 64, 64), {}
    for engine in ("mxnet", *FORMATS):
        predictions = Classifier.load(tmp_path / "e", engine=engine)(image, top=9)
        table[engine] = {prediction.name: prediction.probability for prediction in predictions}
    for engine, tolerance in zip(FORMATS, (1e-4, 0.01)):
        assert table[engine] == pytest.approx(table["mxnet"], abs=tolerance)
    assert table["ncnn-fp16"] != pytest.approx(table["mxnet"], abs=1e-7)
    full, half = ((tmp_path / "e" / name).stat().st_size for name in (BIN, "x-fp16.ncnn.bin"))
    assert 0.5 < half / full < 0.6


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Any, Any, Path]:
    """A detector and its export in both formats; not to be modified."""
    return export_small(tmp_path_factory.mktemp("ncnn") / "e", "mobilenet_v2", FORMATS)


# ---- the files ---------------------------------------------------------------------------------------------


def test_text_and_weights_of_one_convolution() -> None:
    weight = np.arange(2 * 1 * 3 * 1, dtype=np.float32).reshape(2, 1, 3, 1)
    shape = ConvolutionShape(2, 1, (3, 1), (2, 1), (1, 0), 1, "relu6")
    layers = [NcnnLayer("Convolution", "c", ("a",), ("c",), shape.values(), (weight, np.ones(2)))]
    assert to_param(layers) == (
        "7767517\n1 1\nConvolution c 1 1 a c 0=2 1=1 11=3 3=1 13=2 4=0 14=1 5=1 6=6 9=3 -23310=2,0.0,6.0\n"
    )
    assert parse_param(to_param(layers))[0].values == shape.values()
    full, half = (to_bin(layers, weights) for weights in WEIGHT_FLAGS)
    assert full == bytes(4) + weight.astype("<f4").tobytes() + np.ones(2, "<f4").tobytes()
    assert half == b"\x47\x6b\x30\x01" + weight.astype("<f2").tobytes() + np.ones(2, "<f4").tobytes()


def test_float16_weights_are_padded_to_four_bytes() -> None:
    values = ConvolutionShape(1, 3, (1, 1), (1, 1), (0, 0), 1, "").values()
    layer = NcnnLayer("Convolution", "c", ("a",), ("c",), values, (np.ones((1, 3, 1, 1)), np.zeros(1)))
    assert to_bin([layer], "float16") == b"\x47\x6b\x30\x01" + b"\0\x3c" * 3 + b"\0\0" + bytes(4)


def test_each_tensor_has_one_reader() -> None:
    layers = [
        NcnnLayer("Input", "a", (), ("a",)), NcnnLayer("ReLU", "b", ("a",), ("b",)),
        NcnnLayer("BinaryOp", "c", ("a", "b"), ("c",)),
    ]  # fmt: skip
    split = split_tensors(layers)
    assert [layer.kind for layer in split] == ["Input", "Split", "ReLU", "BinaryOp"]
    assert [layer.inputs for layer in split] == [(), ("a",), ("a/copy0",), ("a/copy1", "b")]


def test_files_have_the_input_and_the_outputs_that_the_sidecar_says(exported: Any) -> None:
    import ncnn

    folder, (width, height) = exported[2], SIZE
    sidecar = json.loads((folder / "x.json").read_text())
    for name, start in (("ncnn", "x"), ("ncnn_fp16", "x-fp16")):
        section = sidecar[name]
        assert section["input"] == {
            "name": "pixels", "layout": "CHW", "dtype": "float32", "shape": [3, height, width]
        }  # fmt: skip
        net = ncnn.Net()
        assert net.load_param(str(folder / f"{start}.ncnn.param")) == 0
        assert net.load_model(str(folder / f"{start}.ncnn.bin")) == 0
        assert list(net.input_names()) == ["pixels"]
        assert section["outputs"] == ["cls_preds", "box_preds"]
        assert sorted(net.output_names()) == ["anchors", "box_preds", "cls_preds"]
        status, anchors = net.create_extractor().extract("anchors")
        assert status == 0
        np.testing.assert_array_equal(np.array(anchors), np.array(section["anchors"], np.float32))
    assert (folder / PARAM).read_bytes() == (folder / "x-fp16.ncnn.param").read_bytes()


def test_pixels_and_raw_heads_are_the_same_files(exported: Any, tmp_path: Path) -> None:
    net, spec, folder = exported
    options = ExportOptions("ncnn", raw_heads=True, pixels=True)
    export_network(net, spec, tmp_path / "raw", [make_image(0, *SIZE)], "x", options)
    for name in (PARAM, BIN):
        assert (tmp_path / "raw" / name).read_bytes() == (folder / name).read_bytes()
    assert len(Detector.load(tmp_path / "raw")(make_image(0, *SIZE), score=0.1)) > 3


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    net, spec = make_classifier("mobilenet_v1", size=(64, 64))
    weight = net.output.weight.data()
    weight[0] = 1e5
    net.output.weight.set_data(weight)
    with pytest.raises(ExportError, match="--format ncnn"):
        export_network(net, spec, tmp_path / "e", [make_image(0, 64, 64)], "x", ExportOptions("ncnn-fp16"))
    assert not (tmp_path / "e").exists()


# ---- running -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_batches_equal_single_images(name: str, exported: Any) -> None:
    loaded = load_export(exported[2], "detection", pick_context("cpu"), name, ("cls_preds", "box_preds"))
    assert loaded
    pixels = [make_image(i, *SIZE) for i in range(3)]
    batch = loaded.engine(pixels)
    for i, image in enumerate(pixels):
        for together, alone in zip(batch, loaded.engine([image])):
            np.testing.assert_array_equal(together[i], alone[0])


def test_detect_command(exported: Any, image_files: List[str], tmp_path: Path) -> None:
    found = {}
    for engine in FORMATS:
        target = tmp_path / f"{engine}.json"
        arguments = ["detect", str(exported[2]), image_files[0], "--engine", engine, "--json", str(target)]
        arguments += ["--score", "0.3"]
        assert main(arguments) == 0
        (image,) = json.loads(target.read_text())["images"]
        found[engine] = [(d["class"], np.array(d["box"], float)) for d in image["detections"]]
    shared = [
        any(name == other and iou(box, place) > 0.5 for other, place in found["ncnn-fp16"])
        for name, box in found["ncnn"]
    ]
    assert len(shared) > 3
    assert np.mean(shared) > 0.9


def test_images_of_another_size_are_refused(exported: Any) -> None:
    loaded = load_export(exported[2], "detection", pick_context("cpu"), "ncnn")
    assert loaded
    with pytest.raises(ExportError, match=PARAM):
        loaded.engine([make_image(0, SIZE[0] + 1, SIZE[1])])


def test_folders_with_any_name(exported: Any, tmp_path: Path) -> None:
    folder = Path(str(tmp_path / "füße 日本") + "\udcff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system has no such names")
    for path in exported[2].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    image = make_image(0, *SIZE)
    expected, actual = (Detector.load(place, engine="ncnn")(image, 0.3) for place in (exported[2], folder))
    np.testing.assert_array_equal(expected.boxes, actual.boxes)


# ---- without the package, other networks -------------------------------------------------------------------


def test_export_without_the_package(exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(OptionError, match="pip install"):
        export_network(*exported[:2], tmp_path / "e", [make_image(0)], "x", ExportOptions("ncnn"))
    assert not (tmp_path / "e").exists()
    assert not [name for name in parse_formats("all") if name.startswith("ncnn")]


def test_engine_without_the_package(
    exported: Any, image_files: List[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(ExportError, match=r"x\.ncnn\.param.*pip install"):
        Detector.load(exported[2], engine="ncnn")
    assert main(["detect", str(exported[2]), image_files[0], "--engine", "ncnn"]) not in (0, 70)
    assert PARAM in capsys.readouterr().err


def swish(multiplier: float, classes: int) -> Any:
    from mxnet.gluon import nn
    from mxnet.gluon.block import HybridBlock

    class SwishNet(HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.output = nn.HybridSequential(), nn.Dense(classes)
            self.features.add(nn.Conv2D(8, 3, 2, 1), nn.Swish(), nn.GlobalAvgPool2D(), nn.Flatten())

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.output(self.features(x))

    return SwishNet()


def test_operators_without_an_equal_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(backbones)  # imports the built-in entries, which stay after the test
    monkeypatch.setattr(backbones, "_entries", dict(backbones._entries))
    backbones.register("swish", Backbone("swish", swish, (Tap("features.0", 2),)))
    spec = zoo.ClassifierSpec(CLASSES, "swish", 1.0, (64, 64))
    net = random_network(spec)
    with pytest.raises(ExportError, match="swish"):
        export_network(net, spec, tmp_path / "e", [make_image(0)], "x", ExportOptions("ncnn"))
    assert not (tmp_path / "e").exists()


def test_fp16_weights_does_not_apply(exported: Any, tmp_path: Path, capsys: Any) -> None:
    run = write_run(tmp_path / "run", *exported[:2])
    assert main(["export", str(run), "--format", "ncnn", "--fp16-weights"]) not in (0, 70)
    assert "--format" in capsys.readouterr().err
