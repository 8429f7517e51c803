"""Videos whose quarters have different colors, with rotation metadata as phones write it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Dict, List, Tuple

import cv2
import numpy as np

Matrix = Tuple[int, int, int, int]

MATRICES: Dict[int, Matrix] = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
"""EXIF orientation to ``(a, b, c, d)`` of the track header: x becomes ``a x + c y``, y ``b x + d y``."""


def quarters(width: int = 64, height: int = 48) -> np.ndarray:
    """RGB: red, green; blue, white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2, 0] = 255
    image[: height // 2, width // 2 :, 1] = 255
    image[height // 2 :, : width // 2, 2] = 255
    image[height // 2 :, width // 2 :] = 255
    return image


def write_video(path: Path, frames: int = 3, fps: float = 25, code: str = "mp4v") -> Path:
    """Write a video of `quarters`."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (64, 48))
    assert writer.isOpened()
    for _ in range(frames):
        writer.write(cv2.cvtColor(quarters(), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def turn_iso(path: Path, orientation: int) -> Path:
    """Set the display matrix in the track header of an MP4 or QuickTime file by OpenCV."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in MATRICES[orientation])
    struct.pack_into(">9i", data, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def turn_matroska(path: Path, yaw: float, roll: float) -> Path:
    """Put a projection into the video track of an MKV file by OpenCV, as FFmpeg writes it."""
    data = path.read_bytes()
    floats = b"".join(
        element(identifier, struct.pack(">d", value)) for identifier, value in ((0x7673, yaw), (0x7675, roll))
    )
    path.write_bytes(_insert(data, [0x18538067, 0x1654AE6B, 0xAE, 0xE0], element(0x7670, floats)))
    return path


def element(identifier: int, content: bytes) -> bytes:
    """A Matroska element, with a length of eight bytes."""
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def _insert(data: bytes, path: List[int], addition: bytes) -> bytes:
    """Append `addition` to the first element at a path of identifiers."""
    if not path:
        return data + addition
    position = 0
    while position < len(data):
        identifier, after_name = _integer(data, position, keep=True)
        size, start = _integer(data, after_name, keep=False)
        if identifier == path[0]:
            content = _insert(data[start : start + size], path[1:], addition)
            return data[:position] + element(identifier, content) + data[start + size :]
        position = start + size
    raise AssertionError(f"no element {path[0]:x}")


def _integer(data: bytes, position: int, keep: bool) -> Tuple[int, int]:
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width], "big")
    return value if keep else value ^ 1 << 7 * width, position + width
