"""ONNX Runtime and OpenCV's DNN module: inference of the exported backbone. Arguments: TASK MODEL BATCH."""

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
    worker.serve({"onnxruntime": onnxruntime, "opencv": opencv})
