"""What `Detector` and `Classifier` take for an image, as what the data layer reads: a file or RGB pixels."""

from __future__ import annotations

import io
import itertools
import os
from typing import IO, Any, Iterator, List, Mapping, Union

import numpy as np
import PIL.Image

from ..data.image import decode_image, read_image
from ..data.pixels import is_pil, rgb_pixels
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
    return is_object or is_pil(images) or hasattr(images, "asnumpy") or not hasattr(images, "__iter__")


def image_source(image: Any) -> Image:
    """The image as a path, the content of a file, or ``(height, width, 3)`` uint8 RGB pixels.

    Raises ImageError for anything else; files are not read here, so errors in them are raised later.
    """
    if isinstance(image, str) and is_address(image):
        raise ImageError(f"{image}: images are read from files; download it first, as with curl -LO")
    if isinstance(image, (str, os.PathLike)):
        return _image_path(os.fsdecode(image))
    if isinstance(image, memoryview) and image.ndim > 1:
        return rgb_pixels(np.asarray(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if is_pil(image):
        return rgb_pixels(image)
    if hasattr(image, "read"):
        return _content(image)
    if hasattr(image, "asnumpy") or hasattr(image, "__array__"):  # MXNet's arrays have only the former
        return rgb_pixels(image)
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
