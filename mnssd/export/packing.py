"""Weights stored as int8 or float16 and unpacked to float32, which MXNet computes from.

MXNet's 8-bit convolutions take float32 weights and round them when they first run, and its graphs compute in
the type of their parameters; so a small file must be unpacked after loading.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

import mxnet as mx
import numpy as np

from ..errors import ExportError

LARGEST = "largest:"
"""Prefix of the ``(channels,)`` float32 array of the largest absolute weight of each channel."""

STEPS = 127.5
"""MXNet 1.9.1 divides the largest weight of a channel by 127.5 (``kInt8Range``) to get the step of its
integers, which go from -128 to 127."""

Arrays = Mapping[str, np.ndarray]


def pack_int8(parameters: Arrays, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """The parameters, the named ones as int8 with one step per output channel (first axis).

    The integers are those that MXNet computes from the weights, and again from the result of `unpack`.
    """
    packed = dict(parameters)
    for name in names:
        weight = parameters[name]
        largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float32)
        limit = largest.reshape((-1,) + (1,) * (weight.ndim - 1))
        integers = np.rint(weight * (np.float32(STEPS) / np.where(limit > 0, limit, np.float32(1))))
        integers = np.where(weight == -limit, -128, np.where(weight == limit, 127, integers))
        packed[name] = np.where(limit > 0, np.clip(integers, -128, 127), 0).astype(np.int8)
        packed[LARGEST + name.split(":", 1)[1]] = largest
    return packed


def pack_float16(parameters: Arrays, names: Sequence[str]) -> Dict[str, np.ndarray]:
    """The parameters, the named ones as float16.

    Raises
    ------
    ExportError
        If a weight exceeds the range of float16.
    """
    packed = dict(parameters)
    for name in names:
        packed[name] = parameters[name].astype(np.float16)
        if not np.isfinite(packed[name]).all():
            raise ExportError(
                f"{name} has values above 65504, float16's limit; export without --fp16-weights"
            )
    return packed


def is_packed(parameters: Mapping[str, Any]) -> bool:
    """Whether `unpack` changes anything."""
    return any(array.dtype in (np.int8, np.float16) for array in parameters.values())


def unpack(packed: Mapping[str, Any]) -> Dict[str, Any]:
    """Arrays of a parameter file (`mxnet.nd.load`), packed ones as float32.

    The integers at both ends unpack to the largest weight, so each channel keeps its largest weight and MXNet
    computes the same step and the same integers again.
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
    """`unpack` for NumPy arrays."""
    arrays = unpack({name: mx.nd.array(value, dtype=value.dtype) for name, value in packed.items()})
    return {name: array.asnumpy() for name, array in arrays.items()}
