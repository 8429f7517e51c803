"""Variables in the files that TensorFlow's savers write: ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``.

The index is a table of LevelDB: blocks of sorted keys and values, each with a byte for its compression and a
checksum, and a footer that locates the block of blocks. Its values are protobuf messages.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Tuple

from ..errors import ImportedFileError
from .protobuf import make_messages, parse, read_bytes
from .refusal import refusing

LARGEST_INDEX = 1 << 24
"""Bytes; an index has about 60 for each variable."""

LARGEST_DATA = 1 << 30
"""Bytes; the variables of MobileNets have up to 70 MB."""

# Names and numbers of tensor_bundle.proto and tensor_shape.proto at github.com/tensorflow/tensorflow.
MESSAGES = {
    "Header": "num_shards:int32=1 endianness:int32=2",
    "Entry": "dtype:int32=1 shape:Shape=2 shard_id:int32=3 offset:int64=4 size:int64=5 slices*:Slice=7",
    "Shape": "dim*:Dim=2",
    "Dim": "size:int64=1",
    "Slice": "extent*:Dim=1",
}

# leveldb/table/format.h at github.com/google/leveldb.
FOOTER = 48
MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
UNCOMPRESSED = 0

VARINT_BYTES = 10
"""A number of 64 bits has no more, 7 bits in each."""


class Variable(NamedTuple):
    """A variable: the number of its type in ``DataType``, its shape, and its values, little-endian."""

    dtype: int
    shape: Tuple[int, ...]
    content: bytes


@lru_cache(maxsize=None)
def _messages() -> Dict[str, Any]:
    """The classes of `MESSAGES`."""
    return make_messages("mnssd_bundle", "TensorFlow's variables", MESSAGES, {})


def read_bundle(prefix: Path) -> Dict[str, Variable]:
    """Variables by name.

    Parameters
    ----------
    prefix : Path
        Path of the files without their endings, such as ``saved_model/variables/variables``.

    Raises
    ------
    ImportedFileError
        If a file is missing or damaged.
    OptionError
        If protobuf is not installed.
    """
    index = f"{prefix}.index"
    with refusing(index, "the index of the variables"):
        values = dict(_rows(read_bytes(index, LARGEST_INDEX)))
        header = parse(_messages()["Header"](), values.pop(b"", b""), "a header")
        if header.endianness:
            raise ImportedFileError("written on a big-endian machine")
        if header.num_shards != 1:
            raise ImportedFileError(f"{header.num_shards} files of values; one is read")
        entries = {
            name.decode(): parse(_messages()["Entry"](), value, "an entry") for name, value in values.items()
        }
    path = f"{prefix}.data-00000-of-00001"
    with refusing(path, "the variables"):
        data = read_bytes(path, LARGEST_DATA)
        return {name: _variable(name, entry, data) for name, entry in entries.items()}


def _variable(name: str, entry: Any, data: bytes) -> Variable:
    if entry.shard_id or len(entry.slices):
        raise ImportedFileError(f"{name}: stored in parts")
    if not 0 <= entry.offset <= entry.offset + entry.size <= len(data):
        raise ImportedFileError(f"{name}: ends after the file; damaged or incomplete")
    shape = tuple(int(dim.size) for dim in entry.shape.dim)
    return Variable(int(entry.dtype), shape, data[entry.offset : entry.offset + entry.size])


def _rows(data: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Keys and values of a table."""
    if len(data) < FOOTER or not data.endswith(MAGIC):
        raise ImportedFileError("damaged or incomplete, or another kind of file")
    footer = data[-FOOTER:]
    _, _, start = _handle(footer, 0)  # of the block of metadata
    offset, size, _ = _handle(footer, start)
    left = len(data)
    for _, value in _block(data, offset, size):
        offset, size, _ = _handle(value, 0)
        left -= size
        if left < 0:
            raise ImportedFileError("blocks that overlap")
        yield from _block(data, offset, size)


def _block(data: bytes, offset: int, size: int) -> Iterator[Tuple[bytes, bytes]]:
    """Keys and values of a block; a key is stored without the start that it shares with the one before."""
    block = data[offset : offset + size]
    if len(block) != size or data[offset + size] != UNCOMPRESSED:
        raise ImportedFileError("compressed or damaged")
    end = size - 4 * (1 + int.from_bytes(block[-4:], "little"))  # positions of whole keys, and their number
    if end < 0:
        raise ImportedFileError("damaged")
    key, position = b"", 0
    while position < end:
        shared, position = _number(block, position)
        own, position = _number(block, position)
        length, position = _number(block, position)
        if shared > len(key) or position + own + length > end:
            raise ImportedFileError("damaged")
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def _handle(data: bytes, position: int) -> Tuple[int, int, int]:
    """Offset and size of a block, and the position after them."""
    offset, position = _number(data, position)
    size, position = _number(data, position)
    return offset, size, position


def _number(data: bytes, position: int) -> Tuple[int, int]:
    """A number of variable length, and the position after it."""
    result = 0
    for index, byte in enumerate(data[position : position + VARINT_BYTES]):
        result |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return result, position + index + 1
    raise ImportedFileError("damaged")
