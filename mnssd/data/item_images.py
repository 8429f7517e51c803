"""Images that are items of a Python object instead of files.

They have paths, too, so that all code that reads images can read them: a path is an `ItemImage`, which
`image.read_bytes` accepts.
"""

from __future__ import annotations

from typing import Callable

import numpy as np


class ItemImage(str):
    """Path of an image that is no file, such as ``NAME[INDEX]``, which messages show.

    Attributes
    ----------
    content : callable
        Returns the image as the content of an image file; raises ImageError if there is none.
    """

    content: Callable[[], bytes]

    def __new__(cls, name: str, content: Callable[[], bytes]) -> ItemImage:
        path = super().__new__(cls, name)
        path.content = content
        return path


def ppm_content(pixels: np.ndarray) -> bytes:
    """Content of a PPM file, which is little more than its ``(height, width, 3)`` uint8 RGB pixels."""
    return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()
