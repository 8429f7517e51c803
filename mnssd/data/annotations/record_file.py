"""MXNet record files: the position of each record, and images inside them.

An image in a record file has the path ``FILE.rec#START+LENGTH`` (bytes), which `image.read_bytes` accepts, so
that all code that reads images can read it. The files are parsed here because MXNet's own reader ends the
process on damaged ones.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Tuple

from ...errors import DataError

MAGIC = 0xCED7230A  # dmlc-core, include/dmlc/recordio.h
HEADER = struct.Struct("<IfQQ")  # mxnet/recordio.py, IRHeader: flag, label, id, id2

_IMAGE_PATH = re.compile(r"(.+\.(?i:rec))#(\d{1,18})\+(\d{1,18})", re.S)


class Record(NamedTuple):
    """First byte and length of a record's content; `whole` is False if it is split into parts."""

    start: int
    length: int
    whole: bool


def iter_records(path: Path) -> Iterator[Record]:
    """Records of a file, in order; raises DataError with the position if the file is damaged."""
    size, position = path.stat().st_size, 0
    in_parts = False  # content with the magic number in it is split: part 1 is the first, 3 the last
    with open(path, "rb") as file:
        while position + 8 <= size:
            file.seek(position)
            magic, word = struct.unpack("<II", file.read(8))
            part, length = word >> 29, word & ((1 << 29) - 1)
            if magic != MAGIC or part > 3 or (part > 1) != in_parts or position + 8 + length > size:
                raise DataError(f"{path}: damaged at byte {position}; create it again with im2rec")
            if part < 2:
                yield Record(position + 8, length, part == 0)
            in_parts = part in (1, 2)
            position += 8 + (length + 3) // 4 * 4


def record_image_path(path: Path, start: int, length: int) -> str:
    """Path of an image in a record file."""
    return f"{path}#{start}+{length}"


def parse_record_image_path(path: str) -> Optional[Tuple[str, int, int]]:
    """File, first byte and length of an image in a record file; None for any other path."""
    match = _IMAGE_PATH.fullmatch(path)
    return (match[1], int(match[2]), int(match[3])) if match else None
