"""Pixels that are no file: PIL images, NumPy arrays and what converts to one."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageFile

from ..errors import ImageError
from .image import apply_orientation
from .image_header import exif_orientation


def is_pil(image: Any) -> bool:
    """Whether this is a PIL image."""
    return isinstance(image, PIL.Image.Image)


def rgb_pixels(image: Any) -> np.ndarray:
    """An image as ``(height, width, 3)`` uint8 RGB pixels.

    Parameters
    ----------
    image : PIL.Image.Image, mx.nd.NDArray, numpy.ndarray or what converts to one
        Of arrays uint8 levels, ``(height, width, 3)`` RGB, ``(height, width, 4)`` RGB with alpha, which is
        dropped, or ``(height, width)`` or ``(height, width, 1)`` gray.

    Raises
    ------
    ImageError
        For anything else: levels of other types have no known range.
    """
    if is_pil(image):
        return _pil_pixels(image)
    return _rgb(_as_array(image.asnumpy() if hasattr(image, "asnumpy") else image))


def _pil_pixels(image: PIL.Image.Image) -> np.ndarray:
    """RGB pixels of a PIL image as `read_image` returns them for a file."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing GluonCV sets it, and missing rows become black
    try:
        image.load()
        is_wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        if image.mode in ("I", "F") and not is_wide:
            problem = "has levels of 32 bits, of an unknown range; convert it to mode L"
            raise ImageError(f"PIL image of mode {image.mode}: {problem}")
        if is_wide:
            pixels = np.repeat(
                (np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)[:, :, None], 3, axis=2
            )
        else:
            straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)  # levels that are multiplied by alpha
            pixels = np.array((image.convert(straight) if straight else image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # of a file that is read only now, or closed
        raise ImageError(f"PIL image of mode {image.mode}: cannot be read ({error})") from error
    if pixels.size == 0:
        raise ImageError(f"PIL image of {image.width}x{image.height} pixels: empty")
    return np.ascontiguousarray(apply_orientation(pixels, exif_orientation(image.info.get("exif") or b"")))


def _as_array(image: Any) -> np.ndarray:
    try:
        return np.asarray(image)
    except Exception as error:  # such as a tensor on another device
        raise ImageError(f"{type(image).__name__}: cannot be converted to a NumPy array ({error})") from error


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Check and convert pixels; raises ImageError, as levels of other types have no known range."""
    if pixels.dtype == np.uint8 and 0 not in pixels.shape:
        if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 1):
            return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
        if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
            return pixels[:, :, :3]
    problem = "expected uint8 pixels of the shape (height, width, 3), RGB"
    if pixels.ndim == 4:
        hint = "; of several images give a list, as list(array)"
    elif pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
        hint = "; the channels come last, see numpy.moveaxis"
    elif pixels.dtype != np.uint8 and pixels.dtype.kind in "fiub":
        hint = "; convert the levels to 0 to 255, then array.astype('uint8')"
    else:
        hint = ""
    raise ImageError(f"{problem}, got {pixels.dtype} {pixels.shape}{hint}")
