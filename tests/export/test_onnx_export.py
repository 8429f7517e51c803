"""ONNX files: their answers in ONNX Runtime and OpenCV, the suppression in them, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.detectors import CLASSES, SIZE, make_net, write_image, write_images, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mnssd.cli.main import run_command
from mnssd.data.image import read_image, resize_for_network, to_network_input
from mnssd.errors import ExportError, OptionError
from mnssd.export import engines, options
from mnssd.export.detector import export_detector
from mnssd.export.engines import OnnxEngine
from mnssd.export.formats import onnx as onnx_format
from mnssd.export.options import Formats
from mnssd.export.parity import Rules
from mnssd.inference.detector import Detector
from mnssd.boxes import STDS
from mnssd.runtime import processor

ONNX = Formats(("onnx",))


@pytest.fixture(scope="module")
def trained() -> Tuple[Any, Any]:
    return make_net()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    return write_images(tmp_path_factory.mktemp("images"), 10)


@pytest.fixture(scope="module")
def exported(trained: Tuple[Any, Any], images: List[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both formats in one folder."""
    folder = tmp_path_factory.mktemp("exports") / "pets"
    export_detector(trained[0], folder, images, "pets", trained[1], Formats(("symbol", "onnx")))
    return folder


def run(model: Any, x: np.ndarray) -> List[np.ndarray]:
    """In ONNX Runtime; `model` is a path or a model."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    outputs: List[np.ndarray] = session.run(None, {session.get_inputs()[0].name: x})
    return outputs


def test_one_folder_holds_both_and_its_json_describes_them(exported: Path) -> None:
    sidecar = json.loads((exported / "pets.json").read_text())
    assert set(sidecar["files"]) == {"symbol", "params", "onnx"}
    assert set(sidecar["comparison"]) == {"plain", "fused", "onnx"}
    assert sidecar["comparison"]["onnx"]["detections"] > 100
    section = sidecar["onnx"]
    assert section["outputs"] == ["ids", "scores", "bboxes"]
    assert section["input"]["shape"] == [None, 3, SIZE[1], SIZE[0]]
    model = onnx.load(str(exported / "pets.onnx"))
    assert [o.version for o in model.opset_import] == [section["opset"]] == [13]
    assert [value.name for value in model.graph.input] == [section["input"]["name"]]
    for value, output in zip(model.graph.output, sidecar["outputs"]):
        dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert dims == ["batch", *output["shape"][1:]]


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
@pytest.mark.parametrize("pixels", [False, True])
def test_onnx_runtime_finds_what_mxnet_finds(
    head: str, pixels: bool, images: List[str], tmp_path: Path
) -> None:
    net, spec = make_net(1, head, "mobilenet_v1" if pixels else "mobilenet_v2")
    both = Formats(("symbol", "onnx"), pixels=pixels)
    export_detector(net, tmp_path / "both", images, "both", spec, both)
    ours, theirs = (Detector.load(tmp_path / "both", engine=e) for e in ("mxnet", "onnxruntime"))
    assert ours.classes == theirs.classes == CLASSES
    for a, b in zip(ours(images, score=0.05), theirs(images, score=0.05)):
        assert len(a.labels) > 3
        order_a, order_b = (np.lexsort([d.boxes[:, 0].round(0), d.labels]) for d in (a, b))
        np.testing.assert_array_equal(a.labels[order_a], b.labels[order_b])
        np.testing.assert_allclose(a.scores[order_a], b.scores[order_b], rtol=0, atol=1e-3)
        np.testing.assert_allclose(a.boxes[order_a], b.boxes[order_b], rtol=0, atol=0.5)


def test_any_batch_has_the_same_answers(exported: Path, images: List[str]) -> None:
    x = to_network_input([resize_for_network(read_image(path), SIZE) for path in images[:5]])
    together = run(exported / "pets.onnx", x)
    for i in range(5):
        for one, all_of_them in zip(run(exported / "pets.onnx", x[i : i + 1]), together):
            np.testing.assert_allclose(one[0], all_of_them[i], rtol=0, atol=1e-3)


OUTSIDE = """
import json, sys
sys.modules["mnssd"] = sys.modules["mxnet"] = None  # importing them would now fail
import cv2, numpy as np, onnxruntime

folder, answer, *images = sys.argv[1:]
sidecar = json.load(open(f"{folder}/pets.json"))
spec, section = sidecar["input"], sidecar["onnx"]
session = onnxruntime.InferenceSession(f"{folder}/{sidecar['files']['onnx']['file']}")
planes = []
for image in images:
    pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
    pixels = cv2.resize(pixels, tuple(spec["size"]), interpolation=cv2.INTER_LINEAR)
    planes.append(((pixels * spec["scale"] - spec["mean"]) / spec["std"]).transpose(2, 0, 1))
x = np.stack(planes).astype(section["input"]["dtype"])
np.savez(answer, *session.run(section["outputs"], {section["input"]["name"]: x}))
"""


def test_the_json_is_all_that_others_need(
    exported: Path, trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    answer = tmp_path / "answer.npz"
    subprocess.run([sys.executable, "-c", OUTSIDE, str(exported), str(answer), *images[:3]], check=True)
    with np.load(answer) as found:
        ids, scores = found["arr_0"], found["arr_1"]
    x = to_network_input([resize_for_network(read_image(path), SIZE) for path in images[:3]])
    expected_ids, expected_scores, _ = (array.asnumpy() for array in trained[0](mx.nd.array(x)))
    np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-3)
    for found_ids, wanted in zip(ids, expected_ids):
        assert sorted(found_ids.ravel()) == sorted(wanted.ravel())


def test_opencv_runs_raw_heads(trained: Tuple[Any, Any], images: List[str], tmp_path: Path) -> None:
    net, spec = trained
    export_detector(net, tmp_path / "raw", images[:2], "raw", spec, Formats(("onnx",), raw_heads=True))
    section = json.loads((tmp_path / "raw" / "raw.json").read_text())["onnx"]
    np.testing.assert_array_equal(np.array(section["anchors"], np.float32), net.anchors)
    x = to_network_input([resize_for_network(read_image(images[0]), SIZE)])
    network = cv2.dnn.readNetFromONNX(str(tmp_path / "raw" / "raw.onnx"))
    network.setInput(x, section["input"]["name"])
    found = network.forward(section["outputs"])
    for ours, theirs in zip(net.heads(mx.nd.array(x)), found):
        expected = ours.asnumpy()
        np.testing.assert_allclose(theirs, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(ExportError, match="raw heads"):
        Detector.load(tmp_path / "raw")


# ---- suppression -------------------------------------------------------------------------------------------

ANCHORS = np.array([[20, 20, 16, 16], [22, 20, 16, 16], [70, 60, 30, 20], [72, 60, 30, 20]], np.float32)


def suppressing(count: int, rules: Rules) -> onnx.ModelProto:
    """A model whose one input, ``(B, A, count + 1 + 4)``, holds what the heads say."""
    a = len(ANCHORS)
    graph = helper.make_graph(
        [helper.make_node("Split", ["data", "lengths"], ["cls_preds", "box_preds"], axis=2)],
        "heads",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", a, count + 5])],
        [
            helper.make_tensor_value_info("cls_preds", TensorProto.FLOAT, ["batch", a, count + 1]),
            helper.make_tensor_value_info("box_preds", TensorProto.FLOAT, ["batch", a, 4]),
        ],
        [onnx.numpy_helper.from_array(np.array([count + 1, 4], np.int64), "lengths")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx_format.append_detections(model, ANCHORS, rules, ["ids", "scores", "bboxes"])
    onnx.checker.check_model(model, full_check=True)
    return model


def reference(logits: np.ndarray, offsets: np.ndarray, rules: Rules) -> List[Tuple[int, float, np.ndarray]]:
    """The same for one image, written plainly."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (exponents / exponents.sum(axis=1, keepdims=True))[:, 1:]
    offsets = offsets * STDS
    centre = offsets[:, :2] * ANCHORS[:, 2:] + ANCHORS[:, :2]
    half = np.exp(offsets[:, 2:]) * ANCHORS[:, 2:] / 2
    boxes = np.hstack([centre - half, centre + half])
    rows = [(scores[a, c], c, a) for a in range(len(ANCHORS)) for c in range(scores.shape[1])]
    rows = sorted(rows, reverse=True)[: rules.nms_topk if rules.nms_topk > 0 else None]
    kept: List[Tuple[int, float, np.ndarray]] = []
    for score, label, anchor in rows:
        rivals = [box for other, _, box in kept if other == label]
        if score > rules.score_floor and all(overlap(boxes[anchor], r) <= rules.nms_thresh for r in rivals):
            kept.append((label, score, boxes[anchor]))
    return kept[: rules.post_nms]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    both = sides[0] * sides[1]
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def test_classes_do_not_suppress_one_another_and_boxes_of_one_class_do() -> None:
    model = suppressing(2, Rules(0.01, 0.45, 400, 200))
    heads = np.zeros((1, 4, 7), np.float32)
    heads[0, :, 0] = 12  # background
    heads[0, 0, :3] = [0, 3, 2.5]  # both classes in one place
    heads[0, 2, :3], heads[0, 3, :3] = [0, 6, -6], [0, 5, -6]  # one class in two places that overlap
    ids, scores, boxes = run(model, heads)
    assert ids[0, :3, 0].tolist() == [0, 0, 1]
    assert ids[0, 3:].max() == scores[0, 3:].max() == boxes[0, 3:].max() == -1
    np.testing.assert_allclose(boxes[0, 0], [55, 50, 85, 70])  # the better of the two
    np.testing.assert_array_equal(boxes[0, 1], boxes[0, 2])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([(400, 200), (5, 3), (-1, 4), (3, 2)]))
def test_it_is_what_a_plain_program_finds(seed: int, batch: int, limits: Tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    rules = Rules(0.01, 0.45, *limits)
    heads = rng.normal(0, 2, (batch, 4, count + 5)).astype(np.float32)
    heads[:, :, -4:] *= 0.7
    ids, scores, boxes = run(suppressing(count, rules), heads)
    kept = min(rules.post_nms, 4 * count)
    assert ids.shape == scores.shape == (batch, kept, 1)
    for image in range(batch):
        there = ids[image, :, 0] >= 0
        expected = reference(heads[image, :, :-4], heads[image, :, -4:], rules)
        assert ids[image, there, 0].tolist() == [label for label, _, _ in expected]
        np.testing.assert_allclose(scores[image, there, 0], [s for _, s, _ in expected], rtol=0, atol=1e-5)
        wanted = np.array([box for _, _, box in expected]).reshape(-1, 4)
        np.testing.assert_allclose(boxes[image, there], wanted, rtol=1e-4, atol=1e-3)


# ---- errors ------------------------------------------------------------------------------------------------


def test_a_file_that_answers_otherwise_is_not_written(
    trained: Tuple[Any, Any], images: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "STDS", (0.1, 0.1, 0.2, 0.21))
    with pytest.raises(ExportError, match="image0.jpg: only the"):
        export_detector(trained[0], tmp_path / "x", images[:2], "x", None, ONNX)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_cannot_run_it_says_why(
    exported: Path, trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    export_detector(trained[0], tmp_path / "mx", images[:1], "mx")
    export_detector(trained[0], tmp_path / "ort", images[:1], "ort", None, ONNX)
    assert Detector.load(tmp_path / "ort").classes == CLASSES  # without being asked for
    for folder, engine, said in (
        (tmp_path / "mx", "onnxruntime", "holds no files for onnxruntime.*--format onnx"),
        (tmp_path / "ort", "mxnet", "holds no files for mxnet.*--format symbol"),
        (exported, "tensorrt", "engine is auto or one of mxnet, onnxruntime"),
        (write_run(tmp_path / "run", *trained), "onnxruntime", "mnssd export --format onnx"),
    ):
        with pytest.raises(OptionError, match=said):
            Detector.load(folder, engine=engine)
    (tmp_path / "ort" / "ort.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="damaged or changed"):
        Detector.load(tmp_path / "ort")


def test_without_onnx_runtime_the_way_out_is_said(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="pip install onnxruntime"):
        Detector.load(exported, engine="onnxruntime")


def test_an_export_says_what_is_not_installed(
    trained: Tuple[Any, Any], images: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(OptionError, match="needs onnx; install with: pip install 'onnx>=1.16,<1.17'"):
        export_detector(trained[0], tmp_path / "x", images, "x", None, ONNX)
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_model_are_refused() -> None:
    from mnssd.export.engines import OnnxEngine

    with pytest.raises(ExportError, match="the ONNX model: ONNX Runtime cannot load it"):
        OnnxEngine(b"no model", False)


# ---- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_and_uses_them(
    trained: Tuple[Any, Any], images: List[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = str(write_run(tmp_path / "run", *trained))
    arguments = [folder, "--output", str(tmp_path / "out"), "--format", "symbol,onnx", "--pixels"]
    assert run_command("export", [*arguments, "--images", *images[:3]]) == 0
    said = capsys.readouterr().out
    assert "run.onnx" in said
    assert "onnx: " in said
    found: Dict[str, Any] = {}
    for engine in ("mxnet", "onnxruntime"):
        result = tmp_path / f"{engine}.json"
        arguments = [str(tmp_path / "out"), images[4], "--json", str(result), "--engine", engine]
        assert run_command("detect", arguments) == 0
        found[engine] = json.loads(result.read_text())["images"][0]["detections"]
    assert len(found["mxnet"]) == len(found["onnxruntime"]) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "onyx"], "did you mean onnx"),
        (["--format", "onnx,symbl"], "did you mean symbol"),
    ],
)
def test_formats_that_make_no_sense_are_refused(
    arguments: List[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_command("export", [str(tmp_path), "--output", str(tmp_path / "x"), *arguments]) != 0
    assert said in capsys.readouterr().err


def test_pictures_of_any_kind_reach_onnx_runtime(exported: Path, tmp_path: Path) -> None:
    detector = Detector.load(exported, engine="onnxruntime")
    grey = np.full((1, 1), 90, np.uint8)
    tiny = write_image(tmp_path / "tiny.png", np.dstack([grey] * 3))
    assert cv2.imwrite(str(tmp_path / "deep.png"), np.full((40, 30), 40000, np.uint16))
    for path, size in ((tiny, (1, 1)), (tmp_path / "deep.png", (30, 40))):
        boxes = detector(path, score=0.0).boxes
        assert (boxes[:, 2] < size[0]).all()
        assert (boxes[:, 3] < size[1]).all()


def test_eight_bits_are_multiplied_exactly_without_vnni_too() -> None:
    """Inputs and weights so large that two products do not fit in 16 bits; see `engines._compute_exactly`."""
    rng = np.random.default_rng(0)
    weight = rng.integers(90, 128, (32, 64, 3, 3)).astype(np.int8) * np.int8([1, -1] * 16).reshape(
        -1, 1, 1, 1
    )
    steps = {"data": 0.02, "weight": 0.01, "answer": 30.0}
    zeros = {"data": np.uint8(0), "weight": np.int8(0), "answer": np.uint8(128)}
    constants = {"integers": weight, **{f"{name}_zero": value for name, value in zeros.items()}}
    constants.update({f"{name}_step": np.float32(value) for name, value in steps.items()})

    def rounded(tensor: str, name: str, result: str) -> List[onnx.NodeProto]:
        step = [f"{name}_step", f"{name}_zero"]
        return [
            helper.make_node("QuantizeLinear", [tensor, *step], [f"{name}_integers"]),
            helper.make_node("DequantizeLinear", [f"{name}_integers", *step], [result]),
        ]

    nodes = [
        *rounded("x", "data", "rounded"),
        helper.make_node("DequantizeLinear", ["integers", "weight_step", "weight_zero"], ["weight"]),
        helper.make_node("Conv", ["rounded", "weight"], ["sums"], kernel_shape=[3, 3]),
        *rounded("sums", "answer", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_format.OPSET)])
    model.ir_version = onnx_format.IR_VERSION
    x = rng.uniform(3, 5.1, (1, 64, 3, 3)).astype(np.float32)
    (answer,) = OnnxEngine(model.SerializeToString(), takes_pixels=False).answer(x)
    integers = np.clip(np.rint(x[0] / np.float32(0.02)), 0, 255)
    sums = np.einsum("oyxc,yxc->o", weight.transpose(0, 2, 3, 1).astype(float), integers.transpose(1, 2, 0))
    exact = sums * 0.02 * 0.01
    assert np.abs(exact).max() > 1000
    np.testing.assert_allclose(answer.ravel(), exact, atol=steps["answer"])


@pytest.mark.parametrize("has_vnni", [True, False])
def test_what_makes_them_exact_is_asked_for_where_it_is_needed(
    has_vnni: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "has_vnni", lambda: has_vnni)
    options = onnxruntime.SessionOptions()
    engines._compute_exactly(options)
    if has_vnni:
        with pytest.raises(RuntimeError):  # no such entry
            options.get_session_config_entry(engines.EXACTLY)
    else:
        assert options.get_session_config_entry(engines.EXACTLY) == "1"
