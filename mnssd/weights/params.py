"""Reader of MXNet parameter files that checks every length; `mx.nd.load` crashes on damaged files."""

from __future__ import annotations

import struct
from math import prod
from typing import Any, Dict, Tuple

import numpy as np

from ..errors import WeightsError
from .content import PARAMS_MAGIC, OtherContent, describe_file, widen_bfloat16

# include/mxnet/ndarray.h and src/ndarray/ndarray.cc of MXNet 1.9.1, NDArray::Save, Load and LegacyLoad; types
# of 3rdparty/mshadow/mshadow/base.h.
ARRAY_MAGIC = {0xF993FAC9, 0xF993FACA}
ARRAY_MAGIC_1_0 = 0xF993FAC8  # before MXNet 1.0: no storage type
MOST_DIMENSIONS = 32  # before that, an array begins with their number, not with a magic number
BFLOAT16 = 12
DTYPES = {
    0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?", 8: "<i2", 9: "<u2",
    10: "<u4", 11: "<u8", BFLOAT16: "<u2",
}  # fmt: skip
DENSE = 0


def read_params(path: str) -> Dict[str, np.ndarray]:
    """Read an MXNet ``.params`` file of dense arrays; prefixes ``arg:`` and ``aux:`` are removed.

    Types are those of the file; bfloat16, which NumPy lacks, becomes float32.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, truncated, or has another format.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); expected a .params file") from error
    if data[:8] != PARAMS_MAGIC:
        raise WeightsError(f"{path}: {describe_file(path, data)}")
    try:
        return _parse(memoryview(data))
    except OtherContent as error:
        raise WeightsError(f"{path}: {error}") from error
    except (struct.error, ValueError, KeyError, UnicodeDecodeError, OverflowError) as error:
        problem = f"an incomplete or damaged MXNet .params file ({error}); use another copy"
        raise WeightsError(f"{path}: {problem}") from error


class _Cursor:
    """A position in a buffer; reading past its end raises struct.error or ValueError."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> Tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def bytes(self, count: int) -> memoryview:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"expected {count} bytes at offset {self.at}, got {len(self.data) - self.at}")
        self.at += count
        return self.data[self.at - count : self.at]


def _parse(data: memoryview) -> Dict[str, np.ndarray]:
    cursor = _Cursor(data)
    _, _, count = cursor.take("QQQ")
    if count > len(data):
        raise ValueError(f"{count} arrays in {len(data)} bytes")
    arrays = [_parse_array(cursor) for _ in range(count)]
    (names_count,) = cursor.take("Q")
    if count and not names_count:
        raise OtherContent(f"{count} arrays and 0 names; save a dictionary of arrays")
    if names_count != count:
        raise ValueError(f"{count} arrays but {names_count} names")
    names = []
    for _ in range(count):
        (length,) = cursor.take("Q")
        names.append(bytes(cursor.bytes(length)).decode("utf-8"))
    if cursor.at != len(data):
        raise ValueError(f"{len(data) - cursor.at} extra bytes at the end")
    plain = [name[4:] if name[:4] in ("arg:", "aux:") else name for name in names]
    if len(set(plain)) < len(plain):
        raise ValueError("duplicate array name")
    return dict(zip(plain, arrays))


def _parse_array(cursor: _Cursor) -> np.ndarray:
    (magic,) = cursor.take("I")
    if magic in ARRAY_MAGIC:
        (storage,) = cursor.take("i")
        if storage != DENSE:
            raise OtherContent("sparse array; only dense weights can be loaded")
    if magic in ARRAY_MAGIC or magic == ARRAY_MAGIC_1_0:
        (dimensions,) = cursor.take("i")
        extent_type = "q"
    else:
        dimensions, extent_type = magic, "I"
    if not 0 < dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"array of {dimensions} dimensions")
    shape = cursor.take(f"{dimensions}{extent_type}")
    if any(extent < 0 for extent in shape):
        raise ValueError(f"array of shape {shape}")
    cursor.take("ii")  # device type and number
    (kind,) = cursor.take("i")
    if kind not in DTYPES:
        raise ValueError(f"unknown array type {kind}")
    dtype = np.dtype(DTYPES[kind])
    values = np.frombuffer(cursor.bytes(dtype.itemsize * prod(shape)), dtype).reshape(shape)
    return widen_bfloat16(values) if kind == BFLOAT16 else values.copy()
