"""Reading MXNet's parameter files safely.

MXNet's own reader (`mx.nd.load`) trusts its input: a damaged file ends the process. The format is
simple, so it is read here with every length checked; the arrays never pass through C++ unchecked.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, Tuple

import numpy as np

from ..errors import WeightsError

# include/mxnet/ndarray.h and src/ndarray/ndarray.cc of MXNet 1.9.1, NDArray::Save and NDArray::Load.
LIST_MAGIC = 0x112
ARRAY_MAGIC = {0xF993FAC9, 0xF993FACA}
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}
DENSE = 0


def read_params(path: str) -> Dict[str, np.ndarray]:
    """Read an MXNet ``.params`` file into NumPy arrays.

    Prefixes ``arg:`` and ``aux:`` (symbol files) are dropped. Dense arrays of MXNet 1.x only.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, cut short, or something else.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be read ({error.strerror}); give the path of a .params file"
        ) from error
    try:
        return _parse(memoryview(data))
    except (struct.error, ValueError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise WeightsError(
            f"{path}: not an MXNet .params file, or damaged ({error}); load another copy"
        ) from error


class _Cursor:
    """Reads forward through a buffer; struct raises when it is too short."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> Tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def bytes(self, count: int) -> memoryview:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"{count} bytes wanted at {self.at}, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]


def _parse(data: memoryview) -> Dict[str, np.ndarray]:
    cursor = _Cursor(data)
    magic, _, count = cursor.take("QQQ")
    if magic != LIST_MAGIC:
        raise ValueError("wrong first bytes")
    if count > len(data):
        raise ValueError(f"{count} arrays announced in {len(data)} bytes")
    arrays = [_parse_array(cursor) for _ in range(count)]
    (names_count,) = cursor.take("Q")
    if names_count != count:
        raise ValueError(f"{count} arrays but {names_count} names")
    names = []
    for _ in range(count):
        (length,) = cursor.take("Q")
        names.append(bytes(cursor.bytes(length)).decode("utf-8"))
    if cursor.at != len(data):
        raise ValueError(f"{len(data) - cursor.at} bytes after the end")
    plain = [name[4:] if name[:4] in ("arg:", "aux:") else name for name in names]
    if len(set(plain)) < len(plain):
        raise ValueError("a name occurs twice")
    return dict(zip(plain, arrays))


def _parse_array(cursor: _Cursor) -> np.ndarray:
    (magic,) = cursor.take("I")
    if magic not in ARRAY_MAGIC:
        raise ValueError(f"array {hex(magic)} is of an unknown version")
    (storage,) = cursor.take("i")
    if storage != DENSE:
        raise ValueError("a sparse array")
    (dimensions,) = cursor.take("i")
    if not 0 < dimensions <= 32:
        raise ValueError(f"an array of {dimensions} dimensions")
    shape = cursor.take(f"{dimensions}q")
    if any(extent < 0 for extent in shape):
        raise ValueError(f"an array of shape {shape}")
    cursor.take("ii")  # the device it was saved from
    (kind,) = cursor.take("i")
    if kind not in DTYPES:
        raise ValueError(f"an array of unknown type {kind}")
    dtype = np.dtype(DTYPES[kind])
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    return np.frombuffer(cursor.bytes(size), dtype).reshape(shape).copy()
