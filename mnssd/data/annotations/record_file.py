"""MXNet's record files: where each record lies, and images inside them.

An image in a record file is named ``FILE.rec#START+LENGTH``, its bytes by their place; `image.read_bytes`
takes such names, so that everything that reads images does. Parsed here, for MXNet's own reader ends the
process on bad bytes.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Tuple

from ...errors import DataError

MAGIC = 0xCED7230A  # dmlc-core, include/dmlc/recordio.h
HEADER = struct.Struct("<IfQQ")  # mxnet/recordio.py, IRHeader: flag, label, id, id2

_NAME = re.compile(r"(.+\.rec)#(\d{1,18})\+(\d{1,18})", re.S)


class Annotation(NamedTuple):
    """First byte and length of what a record holds; `whole` unless it is split at bytes like the magic's."""

    start: int
    length: int
    whole: bool


def records(path: Path) -> Iterator[Annotation]:
    """Every record of a file, in order.

    Raises
    ------
    DataError
        When the file is damaged; it says where.
    """
    size, at = path.stat().st_size, 0
    inside = False  # of a record in several parts: their flags are 1 for the first, 2, and 3 for the last
    with open(path, "rb") as file:
        while at + 8 <= size:
            file.seek(at)
            magic, word = struct.unpack("<II", file.read(8))
            part, length = word >> 29, word & ((1 << 29) - 1)
            if magic != MAGIC or part > 3 or (part > 1) != inside or at + 8 + length > size:
                raise DataError(f"{path}: damaged at byte {at}; make it again with im2rec")
            if part < 2:
                yield Annotation(at + 8, length, part == 0)
            inside = part in (1, 2)
            at += 8 + (length + 3) // 4 * 4


def name_of(path: Path, start: int, length: int) -> str:
    """What an image in a record file is called here."""
    return f"{path}#{start}+{length}"


def place_of(name: str) -> Optional[Tuple[str, int, int]]:
    """File, first byte and length of an image in a record file; None for a file of its own."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None
