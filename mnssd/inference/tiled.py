"""Detection in one image by its tiles: reading of windows, and merging of what is detected in them."""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Iterable, List, Sequence, Tuple

import numpy as np

from ..data.image import decode_image, read_bytes, read_header
from ..data.preprocess import Image
from ..data.sample import Detections
from ..data.tiles import Window
from ..options import Size
from .tile_merge import merge, shifted


def smallest_anchor(anchors: np.ndarray) -> float:
    """Side of the smallest of the anchors ``(A, 4)``, of their area."""
    return float(np.sqrt((anchors[:, 2] * anchors[:, 3]).min()))


def read_windows(
    source: Image, choose: Callable[[Size], List[Window]]
) -> Tuple[List[Window], Size, Callable[[Window], np.ndarray]]:
    """Windows of an image, its size, and a function that returns the pixels of a window.

    `choose` returns the windows for an image's size. The image is decoded with the first window that is read;
    raises ImageError as `read_image`.
    """
    if isinstance(source, np.ndarray):
        size = (source.shape[1], source.shape[0])
        return choose(size), size, lambda window: crop(source, window)
    data, name = (source, "the image") if isinstance(source, bytes) else (read_bytes(source), str(source))
    size = read_header(data, name).size
    decoded = lru_cache(maxsize=1)(lambda: decode_image(data, name))
    return choose(size), size, lambda window: crop(decoded(), window)


def merge_windows(
    detect: Callable[[Sequence[np.ndarray]], Iterable[Detections]],
    windows: Sequence[Window],
    size: Size,
    pixels_of: Callable[[Window], np.ndarray],
    batch_size: int,
) -> Detections:
    """Detections in an image from those in its windows.

    `detect` returns the detections in images of a batch, in pixels of each.
    """
    parts: List[Detections] = []
    for start in range(0, len(windows), batch_size):
        batch = windows[start : start + batch_size]
        found = detect([pixels_of(window) for window in batch])
        parts += [shifted(detections, window) for detections, window in zip(found, batch)]
    return merge(parts, windows, size)


def crop(pixels: np.ndarray, window: Window) -> np.ndarray:
    """The pixels ``(height, width, 3)`` of a window, a view."""
    return pixels[window.top : window.bottom, window.left : window.right]
