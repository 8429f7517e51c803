"""A writer of TIFF files (TIFF 6.0, BigTIFF) in all layouts, and the pixels that they stand for."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

RAW, DEFLATE, PACKBITS = 1, 8, 32773
WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
ASSOCIATED, UNASSOCIATED = 1, 2
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def tiff(
    samples: np.ndarray,
    bits: int = 8,
    photometric: int = GRAY,
    *,
    tile: Optional[Tuple[int, int]] = None,
    rows: int = 7,
    planar: bool = False,
    order: str = "<",
    big: bool = False,
    compression: int = RAW,
    predictor: int = 1,
    extra: Sequence[int] = (),
    tags: Sequence[Tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """Content of a TIFF file with one page.

    `samples` is ``(height, width, samples)``; `tile` is (width, height) of the tiles, without it strips have
    `rows` rows. `tags` are further (tag, type, values).
    """
    height, width, count = samples.shape
    step = (tile[1], tile[0]) if tile else (rows, width)
    parts = [samples[..., i : i + 1] for i in range(count)] if planar else [samples]
    blocks = [
        _compress(_pack(block, bits, order, predictor), compression)
        for part in parts
        for block in _blocks(part, step, tile is not None)
    ]
    entries: Dict[int, Tuple[int, Sequence[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * count), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [count]), 284: (3, [2 if planar else 1]), 317: (3, [predictor]),
    }  # fmt: skip
    entries.update({322: (3, [step[1]]), 323: (3, [step[0]])} if tile else {278: (4, [rows])})
    if extra:
        entries[338] = (3, list(extra))
    entries.update({tag: (kind, values) for tag, kind, values in tags})
    return _assemble(entries, blocks, (324, 325) if tile else (273, 279), order, big)


def _blocks(part: np.ndarray, step: Tuple[int, int], padded: bool) -> Iterator[np.ndarray]:
    for top in range(0, part.shape[0], step[0]):
        for left in range(0, part.shape[1], step[1]):
            block = part[top : top + step[0], left : left + step[1]]
            if padded:
                missing = [(0, size - side) for size, side in zip(step, block.shape)]
                block = np.pad(block, [*missing, (0, 0)])
            yield block


def _pack(block: np.ndarray, bits: int, order: str, predictor: int) -> bytes:
    if predictor == 2:
        block = block.copy()
        block[:, 1:] = block[:, 1:] - block[:, :-1]
    lines = block.reshape(len(block), -1)
    if bits < 8:
        fields = np.unpackbits(lines.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :]
        return np.packbits(fields.reshape(len(lines), -1), axis=1).tobytes()
    kind = lines.dtype.kind if lines.dtype.kind != "b" else "u"
    return lines.astype(f"{order}{kind}{bits // 8}").tobytes()


def _compress(data: bytes, compression: int) -> bytes:
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:  # literal runs only
        return b"".join(
            bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128)
        )
    return data


def _assemble(
    entries: Dict[int, Tuple[int, Sequence[int]]],
    blocks: List[bytes],
    places: Tuple[int, int],
    order: str,
    big: bool,
) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    word, inline = ("Q", 8) if big else ("I", 4)
    start = 16 if big else 8
    offsets = [start + sum(map(len, blocks[:index])) for index in range(len(blocks))]
    body = b"".join(blocks)
    body += bytes(len(body) % 2)
    entries = {**entries, places[0]: (4, offsets), places[1]: (4, [len(block) for block in blocks])}
    packed = {t: (k, len(v), struct.pack(order + _TYPES[k] * len(v), *v)) for t, (k, v) in entries.items()}
    directory, values = start + len(body), b""
    size = (8 if big else 2) + len(packed) * (4 + 2 * inline) + inline
    lines = b""
    for tag, (kind, count, data) in sorted(packed.items()):
        if len(data) > inline:
            place = struct.pack(order + word, directory + size + len(values))
            values += data
        else:
            place = data.ljust(inline, b"\0")
        lines += struct.pack(order + "HH" + word, tag, kind, count) + place
    head = mark + version + struct.pack(order + word, directory)
    count_of = struct.pack(order + ("Q" if big else "H"), len(packed))
    return head + body + count_of + lines + struct.pack(order + word, 0) + values


def levels(samples: np.ndarray, bits: int) -> np.ndarray:
    """The upper 8 bits of samples, or fewer bits scaled to 0 to 255."""
    if bits >= 8:
        return (samples >> (bits - 8)).astype(np.uint8)
    return (samples.astype(int) * 255 // ((1 << bits) - 1)).astype(np.uint8)


def as_rgb(gray: Any) -> np.ndarray:
    """``(height, width)`` or ``(height, width, 1)`` gray levels as RGB."""
    return np.repeat(np.asarray(gray).reshape(*np.shape(gray)[:2], 1), 3, axis=2).astype(np.uint8)
