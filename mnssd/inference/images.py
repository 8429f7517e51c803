"""What `Detector` and `Classifier` take for an image, as what the data layer reads: a file or RGB pixels."""

from __future__ import annotations

import io
import itertools
import os
from typing import IO, Any, Iterator, List, Mapping, Union

import numpy as np
import PIL.Image
from PIL import ImageFile

from ..data.image import apply_orientation, decode_image, read_image
from ..data.image_header import exif_orientation
from ..data.preprocess import Image
from ..errors import ImageError
from .video import is_address, is_video_file

ImageLike = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], np.ndarray, PIL.Image.Image
]
"""An image, in one of these forms:

- the path of an image file;
- the content of one, as bytes, bytearray or memoryview, or a file opened in binary mode, which is read from
  its beginning;
- a PIL image, whose EXIF orientation is applied and whose transparency is dropped, as those of files are;
- uint8 pixels, a NumPy array or what converts to one, such as ``mx.nd.NDArray``: ``(height, width, 3)`` RGB
  (not OpenCV's BGR), ``(height, width, 4)`` RGB with alpha, which is dropped, or ``(height, width)`` gray.
"""

_FORMS = (
    "a path, the content of an image file (bytes, or a file opened with 'rb'), a PIL image, or uint8 pixels"
    " of the shape (height, width, 3), RGB"
)


def is_single(images: Any) -> bool:
    """Whether the argument is one image, or unusable, rather than a sequence of images."""
    forms = (str, bytes, bytearray, memoryview, os.PathLike, Mapping)
    is_object = isinstance(images, forms) or hasattr(images, "read") or hasattr(images, "__array__")
    return is_object or _is_pil(images) or hasattr(images, "asnumpy") or not hasattr(images, "__iter__")


def image_source(image: Any) -> Image:
    """The image as a path, the content of a file, or ``(height, width, 3)`` uint8 RGB pixels.

    Raises ImageError for anything else; files are not read here, so errors in them are raised later.
    """
    if isinstance(image, str) and is_address(image):
        raise ImageError(f"{image}: images are read from files; download it first, as with curl -LO")
    if isinstance(image, (str, os.PathLike)):
        return _image_path(os.fsdecode(image))
    if isinstance(image, memoryview) and image.ndim > 1:
        return _rgb(np.asarray(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if _is_pil(image):
        return _pil_pixels(image)
    if hasattr(image, "read"):
        return _content(image)
    if hasattr(image, "asnumpy"):  # MXNet's arrays
        image = image.asnumpy()
    if hasattr(image, "__array__"):
        return _rgb(_as_array(image))
    raise ImageError(f"an object of type {type(image).__name__} is not an image; give {_FORMS}")


def image_pixels(image: ImageLike) -> np.ndarray:
    """The image as ``(height, width, 3)`` uint8 RGB pixels; raises ImageError."""
    source = image_source(image)
    if isinstance(source, np.ndarray):
        return source
    return decode_image(source, "the image") if isinstance(source, bytes) else read_image(source)


def in_batches(images: Any, size: int) -> Iterator[List[Image]]:
    """Lists of up to `size` of the images, an iterable or a generator; see `image_source`."""
    iterator = iter(images)
    while True:
        batch = [image_source(image) for image in itertools.islice(iterator, size)]
        if not batch:
            return
        yield batch


def _image_path(path: str) -> str:
    if is_video_file(path):
        problem = "is a video; give its frames, those of mnssd.inference.sources.iter_frames"
        raise ImageError(f"{path}: {problem}")
    return path


def _is_pil(image: Any) -> bool:
    return isinstance(image, PIL.Image.Image)


def _content(file: Any) -> bytes:
    """The bytes of an opened file, from its beginning if it can be rewound."""
    name = str(getattr(file, "name", "the file"))
    try:
        if not isinstance(file, io.TextIOBase):
            if getattr(file, "seekable", bool)():
                file.seek(0)
            data = file.read()
            if isinstance(data, (bytes, bytearray, memoryview)):
                return bytes(data)
    except (OSError, ValueError) as error:  # ValueError: closed, or opened in text mode
        raise ImageError(f"{name}: cannot be read ({error}); open it with open(path, 'rb')") from error
    raise ImageError(f"{name}: is opened in text mode; open it with open(path, 'rb')")


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
