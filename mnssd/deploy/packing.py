"""Weights in fewer bits on disk. In memory they are float32 again, which is what MXNet computes from.

MXNet's 8-bit convolutions take float32 weights and make integers of them when they first run, and its
graphs compute in the type of their parameters; so a small file has to be unpacked by whoever loads it.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

import mxnet as mx
import numpy as np

SCALE = "scale:"
"""Beginning of the name of the ``(channels,)`` float32 by which the integers of a weight are multiplied."""

LEVELS = 127.0
"""The largest integer. oneDNN rounds the unpacked weights once more, and not always to the same integers:
packed weights cost accuracy, see benchmarks/EXPORTS.md."""

Arrays = Mapping[str, np.ndarray]


def pack_int8(parameters: Arrays, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """The parameters with the named ones as int8, each output channel (first axis) with its own scale."""
    packed = dict(parameters)
    for name in names:
        weight = parameters[name]
        by_channel = (-1,) + (1,) * (weight.ndim - 1)
        largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float32)
        scale = np.where(largest > 0, largest / np.float32(LEVELS), np.float32(1))
        packed[name] = np.rint(weight / scale.reshape(by_channel)).astype(np.int8)
        packed[SCALE + name.split(":", 1)[1]] = scale
    return packed


def pack_float16(parameters: Arrays, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """The parameters with the named ones in float16.

    Raises
    ------
    OverflowError
        For a weight too large for that type.
    """
    packed = dict(parameters)
    for name in names:
        packed[name] = parameters[name].astype(np.float16)
        if not np.isfinite(packed[name]).all():
            raise OverflowError(f"{name} has values above 65504, which float16 cannot hold")
    return packed


def is_packed(parameters: Mapping[str, Any]) -> bool:
    """Whether `unpack` has anything to do."""
    return any(array.dtype in (np.int8, np.float16) for array in parameters.values())


def unpack(packed: Mapping[str, Any]) -> Dict[str, Any]:
    """Arrays of a parameter file (`mxnet.nd.load`), those in fewer bits as float32 again."""
    arrays = {}
    for name, array in packed.items():
        if name.startswith(SCALE):
            continue
        if array.dtype == np.int8:
            scale = packed[SCALE + name.split(":", 1)[1]].reshape((-1,) + (1,) * (array.ndim - 1))
            array = mx.nd.broadcast_mul(array.astype("float32"), scale)
        arrays[name] = array.astype("float32") if array.dtype == np.float16 else array
    return arrays


def unpack_arrays(packed: Arrays) -> Dict[str, np.ndarray]:
    """`unpack` of NumPy's arrays."""
    arrays = unpack({name: mx.nd.array(value, dtype=value.dtype) for name, value in packed.items()})
    return {name: array.asnumpy() for name, array in arrays.items()}
