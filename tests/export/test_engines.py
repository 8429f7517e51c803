"""Engines: all formats detect the same, batches equal single images, unknown engines are refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, List, Optional, Tuple

import cv2
import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.detectors import CLASSES, SIZE, make_image, write_image, write_run
from helpers.engines import engine_params
from onnx import TensorProto, helper, numpy_helper

from mnssd.boxes import iou
from mnssd.data.image import to_network_input
from mnssd.errors import ExportError, OptionError
from mnssd.export import engines
from mnssd.export.engines import MXNetEngine, OnnxEngine
from mnssd.export.formats import engine_names
from mnssd.export.load import load_export
from mnssd.export.network import ExportedDetector
from mnssd.export.onnx_model import IR_VERSION, OPSET
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector
from mnssd.runtime import processor

ENGINES = (
    "mxnet", "onnxruntime", "openvino", "mxnet-int8", "onnxruntime-int8", "openvino-int8", "openvino-bf16",
    "mxnet-shared", "tflite", "tflite-fp16", "tflite-int8", "ncnn", "ncnn-fp16", "chromium", "chromium-file",
)  # fmt: skip
EXACT = ("mxnet", "onnxruntime", "openvino", "tflite", "ncnn")


def test_engines_are_listed_by_priority() -> None:
    assert engine_names() == ("auto", *ENGINES)


@pytest.mark.parametrize("engine", engine_params())
def test_all_engines_detect_the_same_objects(engine: str, tiny_export: Path, image_files: List[str]) -> None:
    expected = Detector.load(tiny_export)(image_files, score=0.6)
    results = Detector.load(tiny_export, engine=engine)(image_files, score=0.3)
    confident = shared = 0
    for ours, theirs in zip(expected, results):
        for name, _, box in ours:
            confident += 1
            shared += any(
                other_name == name and iou(np.array(box), np.array(other_box)) > 0.5
                for other_name, _, other_box in theirs
            )
    assert confident > 20
    assert shared >= (0.99 if engine in EXACT else 0.8) * confident


@pytest.mark.parametrize("engine", ["mxnet-int8", "onnxruntime-int8"])
def test_batch_outputs_equal_single_image_outputs(engine: str, tiny_export: Path) -> None:
    loaded = load_export(tiny_export, "detection", mx.cpu(), engine, ExportedDetector.heads)
    assert loaded
    pixels = [make_image(i, *SIZE) for i in range(5)]
    batch = loaded.engine(pixels)
    for i, image in enumerate(pixels):
        for together, alone in zip(batch, loaded.engine([image])):
            np.testing.assert_allclose(together[i], alone[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "calibration"), [("int8", "percentile"), ("onnx-int8", "naive")])
def test_int8_takes_floats_or_pixels(
    name: str, calibration: str, tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    for pixels in (False, True):
        options = ExportOptions((name,), pixels=pixels, calibration=calibration)
        export_network(*tiny_detector, tmp_path / str(pixels), image_files[:4], "x", options)
    floats, uint8 = (Detector.load(tmp_path / str(p))(image_files[0], score=0.3) for p in (False, True))
    assert len(floats) > 2
    assert floats.names == uint8.names
    np.testing.assert_allclose(floats.scores, uint8.scores, atol=0.01)


def test_error_names_missing_format_or_unknown_engine(
    tiny_export: Path, tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    export_network(*tiny_detector, tmp_path / "mx", image_files[:1], "mx")
    export_network(*tiny_detector, tmp_path / "ort", image_files[:1], "ort", ExportOptions("onnx"))
    run = write_run(tmp_path / "run", *tiny_detector)
    assert Detector.load(tmp_path / "ort").classes == CLASSES  # auto falls back to ONNX Runtime
    for folder, engine, option in (
        (tmp_path / "mx", "onnxruntime", "--format onnx"),
        (tmp_path / "ort", "mxnet", "--format symbol"),
        (run, "onnxruntime", "--format onnx"),
        (run, "mxnet-int8", "--format int8"),
    ):
        with pytest.raises(OptionError, match=f"{folder.name}: .*{option}"):
            Detector.load(folder, engine=engine)
    with pytest.raises(OptionError, match="'tensorrt'.*onnxruntime"):
        Detector.load(tiny_export, engine="tensorrt")


def test_error_names_missing_onnx_runtime(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"pets\.onnx.*onnxruntime"):
        Detector.load(tiny_export, engine="onnxruntime")


def test_invalid_onnx_model_is_refused() -> None:
    with pytest.raises(ExportError):
        OnnxEngine(b"no model", False)


def test_images_of_any_kind_reach_onnx_runtime(tiny_export: Path, tmp_path: Path) -> None:
    import cv2

    detector = Detector.load(tiny_export, engine="onnxruntime")
    dot = write_image(tmp_path / "dot.png", np.full((1, 1, 3), 90, np.uint8))
    assert cv2.imwrite(str(tmp_path / "uint16.png"), np.full((40, 30), 40000, np.uint16))
    for path, size in ((dot, (1, 1)), (tmp_path / "uint16.png", (30, 40))):
        boxes = detector(path, score=0.0).boxes
        assert (boxes[:, 2] < size[0]).all()
        assert (boxes[:, 3] < size[1]).all()


def test_mxnet_reads_a_batch_in_place_and_leaves_it_writable() -> None:
    engine = MXNetEngine(mx.gluon.nn.HybridLambda("negative"), mx.cpu())
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    for batch in (x, x[:, :, ::2], x.transpose(0, 1, 3, 2), x.astype(np.uint8)):
        (output,) = engine.run(batch)
        np.testing.assert_array_equal(output, -batch.astype(output.dtype))
        assert batch.flags.writeable
    x += 1  # the next call sees the new values
    np.testing.assert_array_equal(engine.run(x)[0], -x)


def test_onnx_int8_sums_do_not_saturate() -> None:
    """Inputs and weights so large that two products exceed 16 bits; see `engines._require_exact_sums`."""
    rng = np.random.default_rng(0)
    signs = np.int8([1, -1] * 16).reshape(-1, 1, 1, 1)
    weight = rng.integers(90, 128, (32, 64, 3, 3)).astype(np.int8) * signs
    steps = {"data": 0.02, "weight": 0.01, "output": 30.0}
    zeros = {"data": np.uint8(0), "weight": np.int8(0), "output": np.uint8(128)}
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
        *rounded("sums", "output", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    x = rng.uniform(3, 5.1, (1, 64, 3, 3)).astype(np.float32)
    (output,) = OnnxEngine(model.SerializeToString(), takes_pixels=False).run(x)
    integers = np.clip(np.rint(x[0] / np.float32(0.02)), 0, 255)
    sums = np.einsum("oyxc,yxc->o", weight.transpose(0, 2, 3, 1).astype(float), integers.transpose(1, 2, 0))
    exact = sums * 0.02 * 0.01
    assert np.abs(exact).max() > 1000
    np.testing.assert_allclose(output.ravel(), exact, atol=steps["output"])


@pytest.mark.parametrize("has_vnni", [True, False])
def test_exact_sums_are_requested_without_vnni_only(has_vnni: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "has_vnni", lambda: has_vnni)
    options = onnxruntime.SessionOptions()
    engines._require_exact_sums(options)
    if has_vnni:
        with pytest.raises(RuntimeError):  # no such entry
            options.get_session_config_entry(engines.EXACT_SUMS)
    else:
        assert options.get_session_config_entry(engines.EXACT_SUMS) == "1"


@pytest.mark.parametrize("older", [False, True])
def test_files_of_older_versions_are_summed_exactly(
    older: bool, tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their weights have 8 bits, and the sidecar does not mention it."""
    folder = shutil.copytree(tiny_export, tmp_path / "export")
    path = next(file for file in folder.glob("*.json") if "symbol" not in file.name)
    sidecar = json.loads(path.read_text())
    assert sidecar["onnx_int8"]["bits"] == 7
    if older:
        del sidecar["onnx_int8"]["bits"]
        path.write_text(json.dumps(sidecar))
    requests: List[Any] = []
    monkeypatch.setattr(engines, "_require_exact_sums", requests.append)
    load_export(folder, "detection", mx.cpu(), "onnxruntime-int8")
    assert len(requests) == int(older)


@pytest.mark.parametrize("bits", [7, 8, None])
def test_a_warning_without_vnni_if_sums_may_saturate(
    bits: Optional[int], tiny_export: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = shutil.copytree(tiny_export, tmp_path / "export")
    path = next(file for file in folder.glob("*.json") if "symbol" not in file.name)
    sidecar = json.loads(path.read_text())
    if bits:
        sidecar["int8"]["bits"] = bits
        path.write_text(json.dumps(sidecar))
    monkeypatch.setattr(processor, "has_vnni", lambda: False)
    load_export(folder, "detection", mx.cpu(), "mxnet-int8")
    assert [record.levelname for record in caplog.records].count("WARNING") == int(bits != 7)


def test_weights_of_int8_convolutions_have_7_bits(tiny_export: Path) -> None:
    (path,) = tiny_export.glob("*-int8.onnx")
    model = onnx.load(str(path))
    names = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [arrays[name] for name in names if name in arrays and arrays[name].dtype == np.int8]
    assert len(weights) > 20
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == 64


def test_int8_exports_need_no_exact_sums(tiny_export: Path) -> None:
    (path,) = tiny_export.glob("*-int8.onnx")
    x = to_network_input([cv2.resize(make_image(seed), SIZE) for seed in range(4)])
    outputs = []
    for exact in ("0", "1"):
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry(engines.EXACT_SUMS, exact)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        outputs.append([session.run(None, {session.get_inputs()[0].name: image[None]}) for image in x])
    for quick, slow in zip(*outputs):
        for ours, theirs in zip(quick, slow):
            np.testing.assert_array_equal(ours, theirs)
