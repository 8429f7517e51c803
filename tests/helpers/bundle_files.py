"""The files in which TensorFlow keeps variables, written without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from helpers.caffe_files import field, varint

DTYPES = {"float32": 1, "int64": 9}
MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def write_bundle(
    prefix: Path, values: Dict[str, np.ndarray], rows_per_block: int = 7, shards: int = 1
) -> None:
    """Write ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data, rows = b"", [(b"", varint(8) + varint(shards) + field(3, varint(8) + varint(1)))]
    for name in sorted(values):
        array = values[name]
        shape = field(2, b"".join(field(2, varint(8) + varint(side)) for side in array.shape))
        entry = varint(8) + varint(DTYPES[str(array.dtype)]) + shape
        entry += varint(8 * 4) + varint(len(data)) + varint(8 * 5) + varint(array.nbytes)
        entry += varint(8 * 6 + 5) + b"\0\0\0\0"  # the checksum
        rows.append((name.encode(), entry))
        data += array.tobytes()
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    index, blocks = b"", []
    for start in range(0, len(rows), rows_per_block):
        part = rows[start : start + rows_per_block]
        block = table_block(part)
        blocks.append((part[-1][0] + b"~", varint(len(index)) + varint(len(block))))
        index += block + b"\0" + b"\0\0\0\0"
    handles = b""
    for block in (table_block([]), table_block(blocks)):
        handles += varint(len(index)) + varint(len(block))
        index += block + b"\0" + b"\0\0\0\0"
    Path(f"{prefix}.index").write_bytes(index + handles.ljust(40, b"\0") + MAGIC)


def table_block(rows: List[Tuple[bytes, bytes]], interval: int = 3) -> bytes:
    """A block of LevelDB: each `interval`-th key is whole, the others share the start of the one before."""
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(rows):
        shared = 0
        if number % interval == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    return content + b"".join(n.to_bytes(4, "little") for n in (*restarts, len(restarts)))
