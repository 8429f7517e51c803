"""Export formats of TensorFlow Lite, in LiteRT: float32, float16, 8 bits; damaged and other files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from helpers.detectors import CLASSES, SIZE, make_classifier, make_image, random_network, write_run
from helpers.layer_exports import assert_same_detections, copy_files, export_small, replace_file

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert" if sys.version_info >= (3, 9) else "tflite_runtime")

from mnssd import zoo
from mnssd.boxes import iou
from mnssd.cli.main import main
from mnssd.errors import ExportError, OptionError
from mnssd.export.load import load_export
from mnssd.export.options import ExportOptions, parse_formats
from mnssd.export.tflite_engine import load_interpreter
from mnssd.export.tflite_model import same_padding
from mnssd.export.write import export_network
from mnssd.inference.classifier import Classifier
from mnssd.inference.detector import Detector
from mnssd.nn.backbones import Backbone, Tap, backbones
from mnssd.nn.head_layouts import LAYOUTS
from mnssd.runtime.settings import pick_context

FORMATS = ("tflite", "tflite-fp16", "tflite-int8")
FILES = {"tflite": "x.tflite", "tflite-fp16": "x-fp16.tflite", "tflite-int8": "x-int8.tflite"}
RESCALED = {"rotated": True, "pixel_mean": [0.5] * 3, "pixel_std": [0.5] * 3}


@pytest.mark.parametrize("pixels", [False, pytest.param(True, marks=pytest.mark.slow)])
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
def test_detectors_detect_the_same(
    head: str, network: str, pixels: bool, image_files: List[str], tmp_path: Path
) -> None:
    assert_same_detections("tflite", head, network, image_files, tmp_path / "e", pixels)


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
    exported = export_network(
        random_network(spec), spec, tmp_path / "e", images, "x", ExportOptions(("tflite", "tflite-int8"))
    )
    assert exported.parity["tflite"].as_dict()["images"] == 2
    assert exported.parity["tflite_int8"].as_dict()["cosine"] > 0.95


def test_sigmoid_scores(tmp_path: Path) -> None:
    layout = LAYOUTS["ssdlite"]
    values = {**vars(layout), "scores": "sigmoid", "nms_iou": 0.6}
    spec = zoo.DetectorSpec(
        CLASSES, "mobilenet_v1", 0.25, SIZE, head="ssdlite", layout=type(layout)(**values)
    )
    images = [make_image(i, *SIZE) for i in range(2)]
    options = ExportOptions(("symbol", "tflite"))
    export_network(random_network(spec), spec, tmp_path / "e", images, "x", options)
    sidecar = json.loads((tmp_path / "e" / "x.json").read_text())
    assert (sidecar["tflite"]["scores"], sidecar["thresholds"]["nms_iou"]) == ("sigmoid", 0.6)
    ours, theirs = (
        Detector.load(tmp_path / "e", engine=name)(images[0], score=0.1) for name in ("mxnet", "tflite")
    )
    assert len(ours) == len(theirs) > 10
    np.testing.assert_allclose(np.sort(ours.scores), np.sort(theirs.scores), atol=1e-4)


@pytest.mark.parametrize(
    ("network", "pixels"),
    [("mobilenet_v1", True), pytest.param("mobilenet_v2", False, marks=pytest.mark.slow)],
)
def test_classifiers_and_sizes(network: str, pixels: bool, image_files: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier(network, size=(64, 64))
    options = ExportOptions(("symbol", *FORMATS), pixels=pixels)
    export_network(net, spec, tmp_path / "e", image_files[:4], "x", options)
    image, table = make_image(3, 64, 64), {}
    for engine in ("mxnet", *FORMATS):
        predictions = Classifier.load(tmp_path / "e", engine=engine)(image, top=9)
        table[engine] = {prediction.name: prediction.probability for prediction in predictions}
    for engine, tolerance in zip(FORMATS, (1e-4, 0.01, 0.2)):
        assert table[engine] == pytest.approx(table["mxnet"], abs=tolerance)
    assert table["tflite-int8"] != pytest.approx(table["mxnet"], abs=1e-5)
    full, half, quarter = ((tmp_path / "e" / FILES[name]).stat().st_size for name in FORMATS)
    assert 0.45 < half / full < 0.6
    assert 0.2 < quarter / full < 0.45  # of a tiny network, whose names and steps weigh more


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Any, Any, Path]:
    """A detector and its export in the three formats; not to be modified."""
    return export_small(tmp_path_factory.mktemp("tflite") / "e", "mobilenet_v1", FORMATS)


@pytest.fixture
def copy(exported: Any, tmp_path: Path) -> Path:
    return copy_files(exported[2], tmp_path / "copy")


@pytest.mark.parametrize("name", FORMATS)
def test_batches_equal_single_images(name: str, exported: Any) -> None:
    loaded = load_export(exported[2], "detection", pick_context("cpu"), name, ("cls_preds", "box_preds"))
    assert loaded
    pixels = [make_image(i, *SIZE) for i in range(3)]
    batch = loaded.engine(pixels)
    for i, image in enumerate(pixels):
        for together, alone in zip(batch, loaded.engine([image])):
            np.testing.assert_allclose(together[i], alone[0], atol=1e-4)


def test_int8_files_have_integers_from_the_first_to_the_last_convolution(exported: Any) -> None:
    path = exported[2] / FILES["tflite-int8"]
    interpreter = load_interpreter(path.read_bytes(), path)
    (source,), targets = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["dtype"] == np.float32
    assert [target["name"] for target in targets] == ["cls_preds", "box_preds"]
    assert {target["dtype"] for target in targets} == {np.float32}
    tensors = interpreter.get_tensor_details()
    weights = [tensor for tensor in tensors if tensor["name"].endswith("/weight")]
    assert len(weights) > 50
    for tensor in weights:
        scales = tensor["quantization_parameters"]["scales"]
        axis = tensor["quantization_parameters"]["quantized_dimension"]
        assert tensor["dtype"] == np.int8
        assert len(scales) == tensor["shape"][axis]
        assert (scales > 0).all()
    floats = [tensor for tensor in tensors if tensor["dtype"] == np.float32]
    assert not [tensor["name"] for tensor in floats if tensor["name"].endswith(("_fwd", "/padded"))]


def test_channels_without_weights(tmp_path: Path) -> None:
    """Their steps would be 0, and their biases would not fit in 32 bits."""
    net, spec = make_classifier("mobilenet_v1", size=(64, 64))
    weight = net.features[6].weight.data()
    weight[:3] = 0
    weight[1] = 1e-12
    net.features[6].weight.set_data(weight)
    net.features[7].beta.set_data(net.features[7].beta.data() + 3)
    images = [make_image(i, 64, 64) for i in range(3)]
    exported = export_network(net, spec, tmp_path / "e", images, "x", ExportOptions("tflite-int8"))
    assert exported.parity["tflite_int8"].as_dict()["cosine"] > 0.95


def test_raw_heads_are_the_same_file(exported: Any, tmp_path: Path) -> None:
    net, spec, folder = exported
    options = ExportOptions("tflite", raw_heads=True)
    export_network(net, spec, tmp_path / "raw", [make_image(0, *SIZE)], "x", options)
    assert (tmp_path / "raw" / "x.tflite").read_bytes() == (folder / "x.tflite").read_bytes()
    assert len(Detector.load(tmp_path / "raw")(make_image(0, *SIZE), score=0.1)) > 3


def test_detect_command(exported: Any, image_files: List[str], tmp_path: Path) -> None:
    found = {}
    for engine in ("tflite", "tflite-int8"):
        target = tmp_path / f"{engine}.json"
        arguments = ["detect", str(exported[2]), image_files[0], "--engine", engine, "--json", str(target)]
        arguments += ["--score", "0.3"]
        assert main(arguments) == 0
        (image,) = json.loads(target.read_text())["images"]
        found[engine] = [(d["class"], np.array(d["box"], float)) for d in image["detections"]]
    shared = [
        any(name == other and iou(box, place) > 0.5 for other, place in found["tflite-int8"])
        for name, box in found["tflite"]
    ]
    assert len(shared) > 3
    assert np.mean(shared) > 0.8


@pytest.mark.parametrize("kind", ["tflite", "tflite_int8"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "text", "offset"])
def test_damaged_files_are_refused(
    kind: str, damage: str, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = copy / FILES[kind.replace("_", "-")]
    content = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    damaged = {
        "cut": content[: len(content) // 2], "empty": b"", "noise": content[:8] + noise, "text": b"hello",
        "offset": b"\xff\xff\xff\x7f" + content[4:],
    }[damage]  # fmt: skip
    replace_file(copy, path.name, damaged)
    with pytest.raises(ExportError, match=path.name):
        Detector.load(copy, engine=kind.replace("_", "-"))


def test_a_changed_file_is_refused_by_its_checksum(copy: Path) -> None:
    content = bytearray((copy / "x.tflite").read_bytes())
    content[-100] ^= 1
    (copy / "x.tflite").write_bytes(bytes(content))
    with pytest.raises(ExportError, match=r"x\.tflite"):
        Detector.load(copy, engine="tflite")


@pytest.mark.parametrize(
    "other",
    [{"size": (96, 96)}, {"classes": ("a", "b")}, {"pixels": True}],
    ids=["size", "classes", "pixels"],
)
def test_files_of_another_network_are_refused(other: Any, exported: Any, copy: Path, tmp_path: Path) -> None:
    pixels = other.pop("pixels", False)
    spec = zoo.DetectorSpec(**{**vars(exported[1]), **other})
    options = ExportOptions("tflite", pixels=pixels)
    export_network(random_network(spec), spec, tmp_path / "o", [make_image(0, *SIZE)], "x", options)
    replace_file(copy, FILES["tflite"], (tmp_path / "o" / "x.tflite").read_bytes())
    with pytest.raises(ExportError, match=r"x\.tflite"):
        Detector.load(copy, engine="tflite")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anchors", [[1, 2, 3]]), ("anchors", "none"), ("anchors", [[1, 2, 0, 4]] * 354), ("scores", "mean"),
        ("scores", None), ("anchors", [[1, 2, 3, 4]] * 10), ("outputs", ["cls_preds"]),
    ],
)  # fmt: skip
def test_damaged_descriptions_are_refused(key: str, value: Any, copy: Path) -> None:
    sidecar = json.loads((copy / "x.json").read_text())
    sidecar["tflite"][key] = value
    (copy / "x.json").write_text(json.dumps(sidecar))
    with pytest.raises(ExportError, match=r"x\.(tflite|json)"):
        Detector.load(copy, engine="tflite")


@pytest.mark.parametrize("modules", [("tflite",), ("flatbuffers",), ("ai_edge_litert", "tflite_runtime")])
def test_export_without_the_packages(
    modules: Tuple[str, ...], exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionError, match="pip install"):
        export_network(*exported[:2], tmp_path / "e", [make_image(0)], "x", ExportOptions("tflite"))
    assert not (tmp_path / "e").exists()
    assert not [name for name in parse_formats("all") if name.startswith("tflite")]


def test_engine_without_the_package(
    exported: Any, image_files: List[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExportError, match=r"x\.tflite.*pip install"):
        Detector.load(exported[2], engine="tflite")
    assert main(["detect", str(exported[2]), image_files[0], "--engine", "tflite"]) not in (0, 70)
    assert "x.tflite" in capsys.readouterr().err


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
        export_network(net, spec, tmp_path / "e", [make_image(0)], "x", ExportOptions("tflite"))
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [(7, 3, 1, (1, 1)), (7, 3, 2, (1, 1)), (8, 3, 2, (0, 1)), (1, 3, 2, (1, 1)), (8, 2, 2, (0, 0))],
)
def test_same_padding(side: int, kernel: int, stride: int, expected: Tuple[int, int]) -> None:
    assert same_padding(side, kernel, stride) == expected


def test_fp16_weights_does_not_apply(exported: Any, tmp_path: Path, capsys: Any) -> None:
    run = write_run(tmp_path / "run", *exported[:2])
    assert main(["export", str(run), "--format", "tflite", "--fp16-weights"]) not in (0, 70)
    assert "--format" in capsys.readouterr().err
