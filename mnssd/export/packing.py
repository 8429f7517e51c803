"""Weights in fewer bits on disk. In memory they are float32 again, which is what MXNet computes from.

MXNet's 8-bit convolutions take float32 weights and make integers of them when they first run, and its
graphs compute in the type of their parameters; so a small file has to be unpacked by whoever loads it.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

import mxnet as mx
import numpy as np

LARGEST = "largest:"
"""Beginning of the name of the ``(channels,)`` float32 that hold each channel's largest absolute weight."""

STEPS = 127.5
"""MXNet 1.9.1 divides the largest weight of a channel by 127.5 (``kInt8Range``) to get the step of its
integers. They reach from -128 to 127."""

Arrays = Mapping[str, np.ndarray]


def pack_int8(parameters: Arrays, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """The parameters with the named ones as int8, each output channel (first axis) with its own step.

    The integers are those that MXNet makes of the weights, and makes again of what `unpack` gives.
    """
    packed = dict(parameters)
    for name in names:
        weight = parameters[name]
        largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float32)
        edge = largest.reshape((-1,) + (1,) * (weight.ndim - 1))
        integers = np.rint(weight * (np.float32(STEPS) / np.where(edge > 0, edge, np.float32(1))))
        integers = np.where(weight == -edge, -128, np.where(weight == edge, 127, integers))
        packed[name] = np.where(edge > 0, np.clip(integers, -128, 127), 0).astype(np.int8)
        packed[LARGEST + name.split(":", 1)[1]] = largest
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
    """Arrays of a parameter file (`mxnet.nd.load`), those in fewer bits as float32 again.

    The integers at both ends stand for the largest weight, so that each channel has one as large as before:
    MXNet finds the same step then, and the same integers.
    """
    arrays = {}
    for name, array in packed.items():
        if name.startswith(LARGEST):
            continue
        if array.dtype == np.int8:
            largest = packed[LARGEST + name.split(":", 1)[1]].reshape((-1,) + (1,) * (array.ndim - 1))
            steps = array.astype("float32")
            steps = mx.nd.where(steps == 127, mx.nd.full(steps.shape, STEPS), steps)
            array = mx.nd.broadcast_mul(mx.nd.maximum(steps, -STEPS) / STEPS, largest)
        arrays[name] = array.astype("float32") if array.dtype == np.float16 else array
    return arrays


def unpack_arrays(packed: Arrays) -> Dict[str, np.ndarray]:
    """`unpack` of NumPy's arrays."""
    arrays = unpack({name: mx.nd.array(value, dtype=value.dtype) for name, value in packed.items()})
    return {name: array.asnumpy() for name, array in arrays.items()}
