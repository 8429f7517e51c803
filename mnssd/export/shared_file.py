"""Files of shared weights: one safetensors file of plain arrays and of layers with codes and codebooks.

A layer ``NAME`` of `shared_weights.SharedWeights` is five tensors: ``shape/NAME`` int32, ``values/NAME`` and
``scales/NAME`` float32, and its codes as bytes, ``huffman/NAME`` or ``packed/NAME``. Other arrays are float32
under their own names. Float32 arrays whose values are all those of float16 are stored as float16.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from ..errors import ExportError
from .options import SHARED_BITS
from .shared_weights import (
    SharedWeights,
    code_bits,
    huffman_decode,
    huffman_encode,
    pack_codes,
    unpack_codes,
)

MOST_WEIGHTS = 1 << 28
"""Weights in a file: 1 GB in float32. A MobileNet SSD with a thousand classes has half as many."""

MOST_BYTES = 4 * MOST_WEIGHTS + (1 << 24)
"""Size of a file in which all weights are plain, with a header."""

HUFFMAN, PACKED = "huffman/", "packed/"

DTYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "U8": "u1"}
"""Types of the tensors, as safetensors names them."""

Arrays = Mapping[str, np.ndarray]


def write_shared(path: Path, plain: Arrays, shared: Mapping[str, SharedWeights], huffman: bool) -> None:
    """Write layers of shared weights and other arrays.

    Raises
    ------
    ExportError
        If there are more than `MOST_WEIGHTS` weights.
    """
    tensors = dict(plain)
    for name, layer in shared.items():
        if huffman:
            codes = {HUFFMAN + name: huffman_encode(layer.codes)}
        else:
            codes = {PACKED + name: pack_codes(layer.codes, code_bits(len(layer.values)))}
        tensors.update({key: np.frombuffer(content, np.uint8) for key, content in codes.items()})
        tensors[f"shape/{name}"] = np.array(layer.codes.shape, np.int32)
        tensors[f"values/{name}"], tensors[f"scales/{name}"] = layer.values, layer.scales
    total = sum(array.size for array in plain.values()) + sum(x.codes.size for x in shared.values())
    if total > MOST_WEIGHTS:
        raise ExportError(f"{path.name}: {total} weights, at most {MOST_WEIGHTS} fit; use another --format")
    path.write_bytes(save({name: np.ascontiguousarray(_compact(array)) for name, array in tensors.items()}))


def _compact(array: np.ndarray) -> np.ndarray:
    """A float32 array as float16 if that keeps every value."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), array) else array


def read_shared(path: Path) -> Dict[str, np.ndarray]:
    """The arrays of `write_shared`, float32; shared weights are those of `SharedWeights.expand` to the bit.

    Codes are decoded no further than the shapes say, and those to `MOST_WEIGHTS` weights at most.

    Raises
    ------
    ExportError
        If the file is missing, incomplete, damaged or too large.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MB")
        return _decode(_read_tensors(path.read_bytes()))
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror}); export it again") from error
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise ExportError(
            f"{path}: not a file of shared weights, or a damaged one ({error}); export it again"
        ) from error


def _read_tensors(data: bytes) -> Dict[str, np.ndarray]:
    """All tensors of a safetensors file; safetensors checks every length."""
    tensors = {}
    for name, tensor in deserialize(data):
        if tensor["dtype"] not in DTYPES:
            raise ValueError(f"{name} has type {tensor['dtype']}")
        array = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        array = array.astype(np.float32) if array.dtype == np.float16 else array
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
        tensors[name] = array
    return tensors


def _decode(tensors: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    arrays: Dict[str, np.ndarray] = {}
    names = [key[len("shape/") :] for key in tensors if key.startswith("shape/")]
    shapes = {name: _shape(name, tensors.pop(f"shape/{name}")) for name in names}
    if sum(map(prod, shapes.values())) > MOST_WEIGHTS:
        raise ValueError(f"more than {MOST_WEIGHTS} weights")
    for name, shape in shapes.items():
        values, scales = tensors.pop(f"values/{name}"), tensors.pop(f"scales/{name}")
        has_types = values.dtype == scales.dtype == np.float32
        if not (has_types and 0 < values.size <= 1 << SHARED_BITS[1] and scales.shape == shape[:1]):
            raise ValueError(f"the codebook of {name} does not fit")
        if HUFFMAN + name in tensors:
            codes = huffman_decode(tensors.pop(HUFFMAN + name).tobytes(), prod(shape))
        else:
            bits = code_bits(values.size)
            codes = unpack_codes(tensors.pop(PACKED + name).tobytes(), bits, prod(shape))
        if codes.max() >= values.size:
            raise ValueError(f"a code of {name} has no value")
        arrays[name] = SharedWeights(codes.reshape(shape), values.ravel(), scales).expand()
    for name, array in tensors.items():
        if array.dtype != np.float32 or name in arrays:
            raise ValueError(f"{name} is not an array of weights")
        arrays[name] = array
    return arrays


def _shape(name: str, stored: np.ndarray) -> Any:
    shape = tuple(stored.ravel().tolist())
    if stored.dtype != np.int32 or not 2 <= len(shape) <= 8 or min(shape) < 1:
        raise ValueError(f"shape {list(shape)} of {name}")
    return shape
