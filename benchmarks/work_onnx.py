"""ONNX Runtime, OpenVINO and OpenCV's DNN module: inference of the exported backbone.

Arguments: TASK MODEL BATCH.
"""

from __future__ import annotations

import os
import sys
from typing import Callable

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


def openvino(precision: str = "f32") -> Callable[[], object]:
    """One run in OpenVINO, in one stream with the given number of threads."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # or importing it sends data
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
    hints["INFERENCE_NUM_THREADS"] = int(os.environ["OMP_NUM_THREADS"])
    model, x = ov.Core().read_model(sys.argv[2]), images()
    model.reshape(x.shape)
    compiled = ov.Core().compile_model(model, "CPU", hints)
    if precision == "bf16" and compiled.get_property("INFERENCE_PRECISION_HINT") != ov.Type.bf16:
        raise SystemExit("this processor does not compute in bfloat16")
    request = compiled.create_infer_request()
    return lambda: request.infer(x, share_inputs=True)


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
        }
    )
