"""Reading of image files, and conversion of pixels to network input.

OpenCV decodes the files. What it ignores silently is handled here: truncation, extreme sizes, the EXIF
orientation.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Optional, Sequence, Union

import cv2
import numpy as np
from PIL import Image

from ..errors import ImageError
from ..options import Size
from .annotations.record_file import parse_record_image_path

PathLike = Union[str, Path]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of the ImageNet training images, RGB in 0 to 1, as in the Gluon and torchvision
model zoos (https://pytorch.org/vision/stable/models.html) and GluonCV's SSD presets."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2")
"""File name endings of images, in order of preference."""

# Pillow's limit for decompression bombs (twice PIL.Image.MAX_IMAGE_PIXELS): half a GiB as RGB.
MAX_PIXELS = 2 * 89_478_485
MAX_FILE_BYTES = 1 << 30

_EXIF_ORIENTATION = 0x0112
_HEADER_BYTES = 1 << 16

# A marker is FF and a code. FF 00 is a stuffed FF in the entropy-coded data, FF FF is padding, and 01 and D0
# to D7 (restart) have no segment (ITU-T T.81, section B.1.1).
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_JPEG_START = b"\xff\xd8\xff"
_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"  # type and checksum of the last chunk, which is always empty

_REDUCED_COLOR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
REDUCTIONS = tuple(_REDUCED_COLOR)


class Header(NamedTuple):
    """Header of an image file: stored size, EXIF orientation, and for JPEG the position of the first scan."""

    width: int
    height: int
    orientation: int
    scan: Optional[int] = None

    @property
    def size(self) -> Size:
        """``(width, height)`` after applying the orientation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_image(path: PathLike, reduction: int = 1) -> np.ndarray:
    """Read an image file as ``(height, width, 3)`` RGB uint8: JPEG, PNG, BMP, WebP, TIFF or JPEG 2000.

    The EXIF orientation is applied. 16-bit images keep their upper 8 bits; gray and palette images become
    RGB; transparency is dropped.

    Parameters
    ----------
    path : str or Path
    reduction : int
        1, 2, 4 or 8: divides both sides, rounded up; coordinates are divided by exactly `reduction`. The last
        row and column (in a rotated image perhaps the first) may extend over the edge. JPEG files are decoded
        at the reduced size, which is much cheaper.

    Raises
    ------
    ImageError
        If the file is missing, empty, not an image, larger than `MAX_PIXELS`, or truncated. A JPEG without an
        end marker counts as truncated.
    """
    return decode_image(read_bytes(path), str(path), reduction)


def decode_image(data: bytes, name: str, reduction: int = 1) -> np.ndarray:
    """Decode the content of an image file as `read_image` does; `name` is for messages."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, not {reduction}")
    header = read_header(data, name)
    if header.width * header.height > MAX_PIXELS:
        _refuse(name, f"has {header.width} x {header.height} pixels; the limit is {MAX_PIXELS}")
    is_jpeg = header.scan is not None
    if header.scan is not None and not _jpeg_ends(data, header.scan):
        _refuse(name, "truncated or damaged JPEG: the end marker is missing")
    if data.startswith(_PNG_START) and _PNG_END not in data:
        _refuse(name, "truncated PNG: the last chunk is missing")
    flags = _REDUCED_COLOR[reduction if is_jpeg else 1] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        _refuse(name, f"cannot be decoded ({error.err})")
    if image is None:
        _refuse(name, "cannot be decoded: damaged, truncated, or of a format that OpenCV does not support")
    reduced = reduced_size((header.width, header.height), reduction)
    if not is_jpeg and reduction > 1:
        below, right = reduced[1] * reduction - image.shape[0], reduced[0] * reduction - image.shape[1]
        image = cv2.copyMakeBorder(image, 0, max(0, below), 0, max(0, right), cv2.BORDER_REPLICATE)
        image = cv2.resize(image, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
    if (image.shape[1], image.shape[0]) != reduced:
        _refuse(name, f"decodes to another size than the header's {header.width} x {header.height} pixels")
    return _apply_orientation(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), header.orientation)


def image_size(path: PathLike) -> Size:
    """``(width, height)`` of the image that `read_image` returns, from the header; pixels are not checked."""
    data = read_bytes(path, _HEADER_BYTES)
    try:
        return read_header(data, str(path)).size
    except ImageError:  # segments before the size, such as a color profile, can be longer
        return read_header(read_bytes(path), str(path)).size


def choose_reduction(size: Size, target: Size) -> int:
    """Largest of `REDUCTIONS` that leaves an image of `size` at least as large as `target`, or 1."""
    reduced = {reduction: reduced_size(size, reduction) for reduction in REDUCTIONS}
    return max((r for r, (w, h) in reduced.items() if w >= target[0] and h >= target[1]), default=1)


def reduced_size(size: Size, reduction: int) -> Size:
    """Size of an image of `size` after `read_image` with `reduction`."""
    return -(-size[0] // reduction), -(-size[1] // reduction)


def resize_for_network(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize to `size` = ``(width, height)`` without keeping the aspect ratio.

    Bilinear at any scale, as SSD is evaluated (``resize_param`` LINEAR of the authors' Caffe code, GluonCV's
    ``SSDDefaultValTransform``).
    """
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    return cv2.resize(image, tuple(size), interpolation=cv2.INTER_LINEAR)


def to_network_input(images: Sequence[np.ndarray]) -> np.ndarray:
    """Normalize images of one size, ``(height, width, 3)`` RGB uint8, and stack them into a batch.

    The result is ``(B, 3, height, width)`` float32: ``(value / 255 - IMAGENET_MEAN) / IMAGENET_STD``.
    """
    if len(images) == 0:
        raise ValueError("no images")
    shape = (*images[0].shape[:2], 3)
    batch = np.empty((len(images), 3, *shape[:2]), np.float32)
    for image, planes in zip(images, batch):
        if image.dtype != np.uint8 or image.shape != shape:
            raise ValueError(f"expected uint8 images of shape {shape}, got {image.dtype} {image.shape}")
        for channel, plane, table in zip(cv2.split(image), planes, _NORMALIZED):
            cv2.LUT(channel, table, dst=plane)
    return batch


def from_network_input(batch: np.ndarray) -> np.ndarray:
    """Inverse of `to_network_input`: ``(B, height, width, 3)`` uint8 RGB; 0 where not finite."""
    std, mean = np.array(IMAGENET_STD, np.float32), np.array(IMAGENET_MEAN, np.float32)
    levels = (batch.transpose(0, 2, 3, 1) * std + mean) * 255
    return np.rint(np.clip(np.where(np.isfinite(levels), levels, 0), 0, 255)).astype(np.uint8)


# The 256 normalized values of each channel: one look-up a pixel, 0.2 ms for 300 x 300 x 3, is faster than
# the arithmetic, and exact.
_NORMALIZED = (
    (np.arange(256)[None] / 255 - np.array(IMAGENET_MEAN)[:, None]) / np.array(IMAGENET_STD)[:, None]
).astype(np.float32)


def _refuse(name: str, problem: str) -> NoReturn:
    raise ImageError(f"{name}: {problem}; replace the file or remove it from the dataset")


def read_bytes(path: PathLike, limit: int = MAX_FILE_BYTES) -> bytes:
    """The first `limit` bytes of an image file, or of an image in a record file (see `record_file`)."""
    in_record = parse_record_image_path(str(path))
    if in_record:
        file_name, start, length = in_record
        return read_part(file_name, start, min(length, limit))
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a folder, or a pipe that would block
            _refuse(str(path), "not a file")
        if not 0 < status.st_size <= MAX_FILE_BYTES:
            _refuse(str(path), "empty" if status.st_size == 0 else f"too large ({status.st_size} bytes)")
        with open(path, "rb") as file:
            return file.read(limit)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        _refuse(str(path), f"cannot be read ({getattr(error, 'strerror', None) or error})")


def read_part(file: str, start: int, length: int) -> bytes:
    """The `length` bytes of an image within a file, from byte `start` on; raises ImageError."""
    name = f"{file}, byte {start}"
    if not 0 < length <= MAX_FILE_BYTES:
        _refuse(name, f"invalid length of {length} bytes")
    try:
        with open(file, "rb") as opened:
            opened.seek(start)
            data = opened.read(length)
    except OSError as error:
        _refuse(name, f"cannot be read ({error.strerror})")
    if len(data) < length:
        _refuse(name, "truncated: the file ends within the image")
    return data


def read_header(data: bytes, name: str) -> Header:
    """Header of an image file's content; raises ImageError."""
    header = _jpeg_header(data) if data.startswith(_JPEG_START) else _other_header(data, name)
    if header is None or min(header.width, header.height) < 1:
        _refuse(name, "truncated or damaged: no size in the header")
    return header


def _jpeg_header(data: bytes) -> Optional[Header]:
    """Parse the segments up to the first scan; None if it is not reached."""
    width = height = 0
    orientation = 1
    exif_seen = False
    position = 2
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None or match.end() + 2 > len(data):
            return None
        marker, start = match.group(1)[0], match.end()
        position = start + int.from_bytes(data[start : start + 2], "big")
        if marker in _START_OF_FRAME:
            height = int.from_bytes(data[start + 3 : start + 5], "big")
            width = int.from_bytes(data[start + 5 : start + 7], "big")
        elif marker == _APP1 and data.startswith(b"Exif\0\0", start + 2) and not exif_seen:
            exif_seen = True
            orientation = _orientation(data[start + 2 : position])
        elif marker == _START_OF_SCAN:
            return Header(width, height, orientation, position)
        elif marker == _END_OF_IMAGE:
            return None


def _jpeg_ends(data: bytes, position: int) -> bool:
    """Whether the end marker follows the scans.

    Found marker by marker: segments between scans and embedded thumbnails may contain the same two bytes.
    """
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            return False
        if match.group(1)[0] == _END_OF_IMAGE:
            return True
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")


def _other_header(data: bytes, name: str) -> Header:
    try:
        with Image.open(BytesIO(data)) as image:
            if image.format == "TIFF":  # OpenCV always applies the orientation of these
                tags: Any = getattr(image, "tag_v2", {})
                is_rotated = tags.get(_EXIF_ORIENTATION, 1) >= 5
                return Header(tags[257], tags[256], 1) if is_rotated else Header(tags[256], tags[257], 1)
            return Header(image.width, image.height, _orientation(image.info.get("exif", b"")))
    except Exception as error:  # Pillow's readers raise many types for damaged files
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        _refuse(name, f"not an image, or damaged ({reason})")


def _orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8 (TIFF 6.0, tag 274); 1, upright, if missing.

    Not read by Pillow, which warns about damage anywhere in the EXIF block.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if (tag, kind) == (_EXIF_ORIENTATION, 3):
                return value if 1 <= value <= 8 else 1
    except struct.error:  # truncated directory
        pass
    return 1


def _apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    if orientation in (2, 3, 6, 7):
        image = cv2.flip(image, 1)
    if orientation in (3, 4, 7, 8):
        image = cv2.flip(image, 0)
    return image
