"""Reading of image files, and conversion of pixels to network input.

OpenCV decodes JPEG, PNG and WebP; Pillow decodes the kinds of which OpenCV decodes some layouts wrongly (see
`image_layouts`). What OpenCV ignores silently is handled here: truncation, extreme sizes, EXIF orientation.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Sequence, Union

import cv2
import numpy as np
from PIL import ImageFile

from ..errors import ImageError
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..options import Size
from .annotations.record_file import parse_record_image_path
from .image_header import (
    EXIF_ORIENTATION,
    PNG_END,
    PNG_START,
    Header,
    jpeg_ends,
    open_with_pillow,
    png_orientation,
    read_header,
    refuse,
    refuse_damaged,
    refuse_kind,
)
from .image_layouts import TIFF_STARTS, is_white_zero
from .item_images import ItemImage

PathLike = Union[str, Path]

# Pillow's limit for decompression bombs (twice PIL.Image.MAX_IMAGE_PIXELS): half a GiB as RGB.
MAX_PIXELS = 2 * 89_478_485
MAX_FILE_BYTES = 1 << 30

_HEADER_BYTES = 1 << 16

_REDUCED_COLOR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
REDUCTIONS = tuple(_REDUCED_COLOR)


def read_image(path: PathLike, reduction: int = 1) -> np.ndarray:
    """Read an image file as ``(height, width, 3)`` RGB uint8, whatever its name ends in.

    The kinds are listed in docs/inputs.md; of animations and of several pages, the first is read. The EXIF
    orientation is applied. 16-bit images keep their upper 8 bits; gray, palette and CMYK images become RGB;
    transparency is dropped.

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
        If the file is missing, empty, not an image, of a kind that is not read, larger than `MAX_PIXELS`, or
        truncated. A JPEG without an end marker counts as truncated.
    """
    return decode_image(read_bytes(path), str(path), reduction)


def decode_image(data: bytes, name: str, reduction: int = 1) -> np.ndarray:
    """Decode the content of an image file as `read_image` does; `name` is for messages."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, not {reduction}")
    header = complete_header(data, name)
    is_jpeg = header.scan is not None
    if header.by_pillow:
        image = _decode_with_pillow(data, name)
    else:
        image = _decode_with_opencv(data, name, reduction if is_jpeg else 1)
    reduced = reduced_size((header.width, header.height), reduction)
    if not is_jpeg and reduction > 1:
        below, right = reduced[1] * reduction - image.shape[0], reduced[0] * reduction - image.shape[1]
        image = cv2.copyMakeBorder(image, 0, max(0, below), 0, max(0, right), cv2.BORDER_REPLICATE)
        image = cv2.resize(image, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA)
    if (image.shape[1], image.shape[0]) != reduced:
        refuse(name, f"decodes to another size than the header's {header.width} x {header.height} pixels")
    return apply_orientation(image, header.orientation)


def complete_header(data: bytes, name: str) -> Header:
    """The header of the content of an image file; raises ImageError if the file is too large or truncated."""
    header = read_header(data, name)
    if header.width * header.height > MAX_PIXELS:
        refuse(name, f"has {header.width} x {header.height} pixels; the limit is {MAX_PIXELS}")
    if header.scan is not None and not jpeg_ends(data, header.scan):
        refuse(name, "truncated or damaged JPEG: the end marker is missing")
    if data.startswith(PNG_START) and PNG_END not in data:
        refuse(name, "truncated PNG: the last chunk is missing")
    return header


def _decode_with_opencv(data: bytes, name: str, reduction: int) -> np.ndarray:
    """RGB pixels before the EXIF orientation is applied; raises ImageError."""
    flags = _REDUCED_COLOR[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        refuse(name, "cannot be decoded: damaged or truncated")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_with_pillow(data: bytes, name: str) -> np.ndarray:
    """The same pixels, from Pillow; the orientation of TIFF files is applied. Raises ImageError."""
    with open_with_pillow(data, name) as image:
        is_wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
        if image.mode in ("I", "F") and not is_wide:
            refuse_kind(name, "gray levels of 32 bits, of an unknown range,")
        ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing GluonCV sets it, and missing rows become black
        try:
            image.load()
            turn = image.getexif().get(EXIF_ORIENTATION, 1) if image.format == "TIFF" else 1
            if is_wide:
                gray = (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)
                is_inverted = image.format == "TIFF" and is_white_zero(image.tag_v2)
                pixels = cv2.cvtColor(255 - gray if is_inverted else gray, cv2.COLOR_GRAY2RGB)
            else:
                pixels = np.array(image.convert("RGB"))
        except Exception as error:  # Pillow's readers raise many types for damaged files
            refuse_damaged(name, error)
    return apply_orientation(pixels, turn)


def image_size(path: PathLike) -> Size:
    """``(width, height)`` of the image that `read_image` returns, from the header; pixels are not checked."""
    data = read_bytes(path, _HEADER_BYTES)
    if data.startswith(TIFF_STARTS):  # the header is often at the end
        return read_header(read_bytes(path), str(path)).size
    try:
        header = read_header(data, str(path))
    except ImageError:  # segments before the size, such as a color profile, can be longer
        return read_header(read_bytes(path), str(path)).size
    if header.kind == "PNG" and header.orientation == 1 and len(data) == _HEADER_BYTES:
        end = read_bytes(path, _HEADER_BYTES, from_end=True)
        header = header._replace(orientation=png_orientation(end))
    return header.size


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


def read_bytes(path: PathLike, limit: int = MAX_FILE_BYTES, from_end: bool = False) -> bytes:
    """The first or last `limit` bytes of an image file.

    It may also be an image in a record file (`record_file`), or one of a Python object (`item_images`).
    """
    if isinstance(path, ItemImage):
        data = path.content()
        return data[-limit:] if from_end else data[:limit]
    in_record = parse_record_image_path(str(path))
    if in_record:
        file_name, start, length = in_record
        return read_part(file_name, start + max(0, length - limit) * from_end, min(length, limit))
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a folder, or a pipe that would block
            refuse(str(path), "not a file")
        if not 0 < status.st_size <= MAX_FILE_BYTES:
            refuse(str(path), "empty" if status.st_size == 0 else f"too large ({status.st_size} bytes)")
        with open(path, "rb") as file:
            file.seek(max(0, status.st_size - limit) * from_end)
            return file.read(limit)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        refuse(str(path), f"cannot be read ({getattr(error, 'strerror', None) or error})")


def file_content(path: PathLike) -> bytes:
    """Content of an image to be written to a file; an image of a Python object becomes a PNG file."""
    if not isinstance(path, ItemImage):
        return read_bytes(path)
    return cv2.imencode(".png", cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR))[1].tobytes()


def read_part(file: str, start: int, length: int) -> bytes:
    """The `length` bytes of an image within a file, from byte `start` on; raises ImageError."""
    name = f"{file}, byte {start}"
    if not 0 < length <= MAX_FILE_BYTES:
        refuse(name, f"invalid length of {length} bytes")
    try:
        with open(file, "rb") as opened:
            opened.seek(start)
            data = opened.read(length)
    except OSError as error:
        refuse(name, f"cannot be read ({error.strerror})")
    if len(data) < length:
        refuse(name, "truncated: the file ends within the image")
    return data


def apply_orientation(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror ``(height, width, ...)`` pixels by an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    if orientation in (2, 3, 6, 7):
        image = cv2.flip(image, 1)
    if orientation in (3, 4, 7, 8):
        image = cv2.flip(image, 0)
    return image
