"""Checkpoints of a few arrays in every container, and what training scripts save beside a network."""

from __future__ import annotations

import argparse
import datetime
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict

import mxnet as mx
import numpy as np

from .torch_files import tensors

Arrays = Dict[str, np.ndarray]


def few_arrays(seed: int = 0) -> Arrays:
    """Some of torchvision's arrays, in a few bytes; values that bfloat16 can hold."""
    shapes = {
        "features.0.0.weight": (4, 3, 3, 3), "features.0.1.weight": (4,), "features.0.1.running_mean": (4,),
        "features.1.conv.0.0.weight": (4, 1, 3, 3), "features.2.conv.1.0.weight": (6, 1, 3, 3),
        "classifier.1.weight": (5, 6), "classifier.1.bias": (5,),
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(-9, 9, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    return {**arrays, "features.0.1.num_batches_tracked": np.array(7, np.int64)}


def cast(arrays: Arrays, dtype: str) -> Arrays:
    """In another type; bfloat16 as its bits, as the writers below expect them."""

    def one(value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        return (value.view("<u4") >> 16).astype("<u2") if dtype == "bfloat16" else value.astype(dtype)

    return {name: one(np.ascontiguousarray(value)) for name, value in arrays.items()}


def prefixed(arrays: Arrays, prefix: str) -> Arrays:
    return {prefix + name: value for name, value in arrays.items()}


def write_safetensors(path: Path, arrays: Arrays, header_length: int = 0) -> str:
    """By hand: the library's writer has no bfloat16 of NumPy, and pads headers as it likes."""
    types = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<i8": "I64", "<u2": "BF16"}
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in arrays.items():
        start, end = end, end + value.nbytes
        header[name] = {"dtype": types[value.dtype.str], "shape": value.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode().ljust(header_length)
    data = b"".join(value.tobytes() for value in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return str(path)


def write_params(path: Path, arrays: Arrays) -> str:
    def one(value: np.ndarray) -> Any:
        if value.dtype != np.uint16:
            return mx.nd.array(value, dtype=value.dtype)
        wide = mx.nd.array((value.astype("<u4") << 16).view("<f4"))
        return mx.nd.amp_cast(wide, dtype=np.dtype([("bfloat16", np.uint16)]))

    mx.nd.save(str(path), {name: one(value) for name, value in arrays.items()})
    return str(path)


def training_state() -> Dict[str, Any]:
    """What training scripts save beside the network, optimizer states among it."""
    momentum = tensors({"momentum_buffer": np.ones(7, np.float32)}, first_key=900)
    return {
        "epoch": 3,
        "args": argparse.Namespace(model="mobilenet_v2", lr=0.1, output=Path("runs")),
        "optimizer": {"state": {0: {"step": 5, **momentum}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "lr_scheduler": {"milestones": defaultdict(int, {3: 1}), "last": np.float64(0.5)},
        "history": [np.float32(1), np.arange(3.0), {1, 2}],
        "when": datetime.date(2020, 1, 2),
    }
