"""ONNX Runtime, OpenVINO, OpenCV's DNN module and ncnn: inference of an export, without this package.

Arguments: TASK MODEL BATCH; for `detect_openvino` TASK SIDECAR PHOTO FORMAT.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

import numpy as np
import worker


def images() -> np.ndarray:
    """The input of every rival in this task."""
    batch = int(sys.argv[3])
    return np.random.default_rng(0).normal(0, 1, (batch, 3, worker.SIZE, worker.SIZE)).astype(np.float32)


def onnxruntime() -> Callable[[], object]:
    """One run in ONNX Runtime, with all optimizations (its default) and the given number of threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = ort.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
    x = {session.get_inputs()[0].name: images()}
    return lambda: session.run(None, x)


def compile_openvino(path: str, batch: int, precision: str = "f32") -> Any:
    """The model in OpenVINO, in one stream with the given number of threads."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # or importing it sends data
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    hints["INFERENCE_NUM_THREADS"] = int(os.environ["OMP_NUM_THREADS"])
    model = ov.Core().read_model(path)
    model.reshape([batch, *list(model.inputs[0].partial_shape)[1:]])
    compiled = ov.Core().compile_model(model, "CPU", hints)
    if precision == "bf16" and compiled.get_property("INFERENCE_PRECISION_HINT") != ov.Type.bf16:
        raise SystemExit("this processor does not compute in bfloat16")
    return compiled


def openvino(precision: str = "f32") -> Callable[[], object]:
    """One run in OpenVINO."""
    x = images()
    request = compile_openvino(sys.argv[2], len(x), precision).create_infer_request()
    return lambda: request.infer(x, share_inputs=True)


def detect_openvino() -> Callable[[], object]:
    """A JPEG in memory to boxes, as the program in docs/openvino.md does it."""
    import cv2

    with open(sys.argv[2], encoding="utf-8") as file:
        sidecar = json.load(file)
    with open(sys.argv[3], "rb") as photo:
        data = np.frombuffer(photo.read(), np.uint8)
    kind = sys.argv[4][len("openvino") :]
    spec, section = sidecar["input"], sidecar["openvino" + kind.replace("-", "_")]
    compiled = compile_openvino(sys.argv[2][: -len(".json")] + kind + ".xml", 1)
    request, outputs = compiled.create_infer_request(), section["outputs"]
    dtype, (width, height) = section["input"]["dtype"], spec["size"]

    def run() -> object:
        image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        x = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        if dtype == "float32":
            x = ((x * spec["scale"] - spec["mean"]) / spec["std"]).transpose(2, 0, 1)
        found = request.infer(x[None].astype(dtype), share_inputs=True)
        ids, scores, boxes = (found[name] for name in outputs)
        kept = (ids[0, :, 0] >= 0) & (scores[0, :, 0] >= 0.5)
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        return ids[0, kept], scores[0, kept], boxes[0, kept] * scale

    return run


def ncnn() -> Callable[[], object]:
    """One run for each image in ncnn, which has no batches. MODEL is the start of the files' names."""
    import ncnn as library

    net = library.Net()
    net.opt.num_threads = int(os.environ["OMP_NUM_THREADS"])
    if net.load_param(f"{sys.argv[2]}.ncnn.param") or net.load_model(f"{sys.argv[2]}.ncnn.bin"):
        raise SystemExit(f"{sys.argv[2]}.ncnn.param: cannot be loaded")
    batch = [library.Mat(np.ascontiguousarray(image)).clone() for image in images()]

    def run() -> None:
        for image in batch:
            extractor = net.create_extractor()
            extractor.input("pixels", image)
            extractor.extract("probabilities")

    return run


def opencv() -> Callable[[], object]:
    """One run in OpenCV DNN."""
    import cv2

    cv2.setNumThreads(int(os.environ["OMP_NUM_THREADS"]))
    net = cv2.dnn.readNetFromONNX(sys.argv[2])
    x = images()

    def run() -> object:
        net.setInput(x)
        return net.forward()

    return run


if __name__ == "__main__":
    worker.serve(
        {
            "onnxruntime": onnxruntime,
            "openvino": openvino,
            "openvino_bf16": lambda: openvino("bf16"),
            "opencv": opencv,
            "ncnn": ncnn,
            "detect_openvino": detect_openvino,
        }
    )
