"""ONNX models in ONNX Runtime and OpenCV, and the non-maximum suppression in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import cv2
import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.detectors import CLASSES, SIZE, make_net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mnssd.boxes import STDS, iou
from mnssd.data.image import read_image, resize_for_network, to_network_input
from mnssd.errors import ExportError, OptionError
from mnssd.export import formats, onnx_model
from mnssd.export.detection_parity import Suppression
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector

ONNX = ExportOptions("onnx")


def run(model: Any, x: np.ndarray) -> List[np.ndarray]:
    """In ONNX Runtime; `model` is a path or a model."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    outputs: List[np.ndarray] = session.run(None, {session.get_inputs()[0].name: x})
    return outputs


def test_sidecar_describes_the_model(tiny_export: Path) -> None:
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    optional = {"openvino", "tflite", "tflite_fp16", "ncnn", "ncnn_fp16"}
    assert set(sidecar["parity"]) - optional == {"plain", "fused", "onnx", "int8", "onnx_int8", "shared"}
    for section in ("int8", "onnx_int8"):
        assert sidecar[section]["calibration"] == {"method": "naive", "images": 10}
        assert sidecar["parity"][section]["images"] == 10
        assert sidecar["parity"][section]["cosine"] > 0.9
    sizes = {kind: entry["bytes"] for kind, entry in sidecar["files"].items()}
    assert sizes["int8_params"] < 0.35 * sizes["params"]
    section = sidecar["onnx"]
    assert section["outputs"] == ["ids", "scores", "bboxes"]
    assert section["input"]["shape"] == [None, 3, SIZE[1], SIZE[0]]
    model = onnx.load(str(tiny_export / "pets.onnx"))
    assert [o.version for o in model.opset_import] == [section["opset"]] == [13]
    assert [value.name for value in model.graph.input] == [section["input"]["name"]]
    for value, output in zip(model.graph.output, sidecar["outputs"]):
        dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert dims == ["batch", *output["shape"][1:]]


@pytest.mark.parametrize(
    ("head", "pixels"),
    [
        ("ssd", False),
        ("ssdfpn", False),
        pytest.param("ssdlite", True, marks=pytest.mark.slow),
        pytest.param("ssd", True, marks=pytest.mark.slow),
        pytest.param("ssdlite", False, marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_detects_the_same_as_mxnet(
    head: str, pixels: bool, image_files: List[str], tmp_path: Path
) -> None:
    net, spec = make_net(1, head, "mobilenet_v1" if pixels else "mobilenet_v2")
    options = ExportOptions(("symbol", "onnx"), pixels=pixels)
    export_network(net, spec, tmp_path / "both", image_files, "both", options)
    ours, theirs = (Detector.load(tmp_path / "both", engine=e) for e in ("mxnet", "onnxruntime"))
    assert ours.classes == theirs.classes == CLASSES
    for a, b in zip(ours(image_files, score=0.3), theirs(image_files, score=0.3)):
        assert len(a.labels) > 3
        order_a, order_b = (np.lexsort([d.boxes[:, 0].round(0), d.labels]) for d in (a, b))
        np.testing.assert_array_equal(a.labels[order_a], b.labels[order_b])
        np.testing.assert_allclose(a.scores[order_a], b.scores[order_b], rtol=0, atol=1e-3)
        np.testing.assert_allclose(a.boxes[order_a], b.boxes[order_b], rtol=0, atol=0.5)


def test_batch_outputs_equal_single_image_outputs(tiny_export: Path, image_files: List[str]) -> None:
    x = to_network_input([resize_for_network(read_image(path), SIZE) for path in image_files[:5]])
    together = run(tiny_export / "pets.onnx", x)
    for i in range(5):
        for alone, batch in zip(run(tiny_export / "pets.onnx", x[i : i + 1]), together):
            np.testing.assert_allclose(alone[0], batch[i], rtol=0, atol=1e-3)


OUTSIDE = """
import json, sys
sys.modules["mnssd"] = sys.modules["mxnet"] = None  # importing them would now fail
import cv2, numpy as np, onnxruntime

folder, target, *images = sys.argv[1:]
sidecar = json.load(open(f"{folder}/pets.json"))
spec, section = sidecar["input"], sidecar["onnx"]
session = onnxruntime.InferenceSession(f"{folder}/{sidecar['files']['onnx']['file']}")
planes = []
for image in images:
    pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
    pixels = cv2.resize(pixels, tuple(spec["size"]), interpolation=cv2.INTER_LINEAR)
    planes.append(((pixels * spec["scale"] - spec["mean"]) / spec["std"]).transpose(2, 0, 1))
x = np.stack(planes).astype(section["input"]["dtype"])
np.savez(target, *session.run(section["outputs"], {section["input"]["name"]: x}))
"""


def test_model_runs_without_mnssd(
    tiny_export: Path, tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    target = tmp_path / "outputs.npz"
    subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(tiny_export), str(target), *image_files[:3]], check=True
    )
    with np.load(target) as outputs:
        ids, scores = outputs["arr_0"], outputs["arr_1"]
    x = to_network_input([resize_for_network(read_image(path), SIZE) for path in image_files[:3]])
    expected_ids, expected_scores, _ = (array.asnumpy() for array in tiny_detector[0](mx.nd.array(x)))
    np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-3)
    for image_ids, expected in zip(ids, expected_ids):
        assert sorted(image_ids.ravel()) == sorted(expected.ravel())


def test_opencv_runs_raw_heads(
    tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    net, spec = tiny_detector
    options = ExportOptions("onnx", raw_heads=True)
    export_network(net, spec, tmp_path / "raw", image_files[:2], "raw", options)
    section = json.loads((tmp_path / "raw" / "raw.json").read_text())["onnx"]
    np.testing.assert_array_equal(np.array(section["anchors"], np.float32), net.anchors)
    x = to_network_input([resize_for_network(read_image(image_files[0]), SIZE)])
    network = cv2.dnn.readNetFromONNX(str(tmp_path / "raw" / "raw.onnx"))
    network.setInput(x, section["input"]["name"])
    outputs = network.forward(section["outputs"])
    for ours, theirs in zip(net.heads(mx.nd.array(x)), outputs):
        expected = ours.asnumpy()
        np.testing.assert_allclose(theirs, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(ExportError, match=r"raw\.json.*--raw-heads"):
        Detector.load(tmp_path / "raw")


# ---- suppression -------------------------------------------------------------------------------------------

ANCHORS = np.array([[20, 20, 16, 16], [22, 20, 16, 16], [70, 60, 30, 20], [72, 60, 30, 20]], np.float32)


def suppression_model(count: int, suppression: Suppression) -> onnx.ModelProto:
    """A model whose input ``(B, A, count + 1 + 4)`` holds class scores and offsets."""
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
    onnx_model.append_detections(model, ANCHORS, suppression, ["ids", "scores", "bboxes"])
    onnx.checker.check_model(model, full_check=True)
    return model


def reference(
    logits: np.ndarray, offsets: np.ndarray, suppression: Suppression
) -> List[Tuple[int, float, np.ndarray]]:
    """Decoding and suppression of one image in plain Python."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (exponents / exponents.sum(axis=1, keepdims=True))[:, 1:]
    offsets = offsets * STDS
    center = offsets[:, :2] * ANCHORS[:, 2:] + ANCHORS[:, :2]
    half = np.exp(offsets[:, 2:]) * ANCHORS[:, 2:] / 2
    boxes = np.hstack([center - half, center + half])
    rows = [(scores[a, c], c, a) for a in range(len(ANCHORS)) for c in range(scores.shape[1])]
    rows = sorted(rows, reverse=True)[: suppression.nms_topk if suppression.nms_topk > 0 else None]
    kept: List[Tuple[int, float, np.ndarray]] = []
    for score, label, anchor in rows:
        rivals = [box for other, _, box in kept if other == label]
        if score > suppression.score_floor and all(
            iou(boxes[anchor], r) <= suppression.nms_thresh for r in rivals
        ):
            kept.append((label, score, boxes[anchor]))
    return kept[: suppression.post_nms]


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    model = suppression_model(2, Suppression(0.01, 0.45, 400, 200))
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
def test_suppression_equals_the_reference(seed: int, batch: int, limits: Tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    suppression = Suppression(0.01, 0.45, *limits)
    heads = rng.normal(0, 2, (batch, 4, count + 5)).astype(np.float32)
    heads[:, :, -4:] *= 0.7
    ids, scores, boxes = run(suppression_model(count, suppression), heads)
    kept = min(suppression.post_nms, 4 * count)
    assert ids.shape == scores.shape == (batch, kept, 1)
    for image in range(batch):
        rows = ids[image, :, 0] >= 0
        expected = reference(heads[image, :, :-4], heads[image, :, -4:], suppression)
        assert ids[image, rows, 0].tolist() == [label for label, _, _ in expected]
        np.testing.assert_allclose(scores[image, rows, 0], [s for _, s, _ in expected], rtol=0, atol=1e-5)
        expected_boxes = np.array([box for _, _, box in expected]).reshape(-1, 4)
        np.testing.assert_allclose(boxes[image, rows], expected_boxes, rtol=1e-4, atol=1e-3)


# ---- errors ------------------------------------------------------------------------------------------------


def test_model_that_decodes_differently_is_refused(
    tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "STDS", (0.1, 0.1, 0.2, 0.21))
    with pytest.raises(ExportError, match=r"image0\.jpg: .*class \d"):
        export_network(*tiny_detector, tmp_path / "x", image_files[:2], "x", ONNX)
    assert list(tmp_path.iterdir()) == []


def test_error_names_missing_packages(
    tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(OptionError, match="'onnx>=1.16,<1.17'"):
        export_network(*tiny_detector, tmp_path / "x", image_files, "x", ONNX)
    assert list(tmp_path.iterdir()) == []
