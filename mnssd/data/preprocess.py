"""Image to network input, and a detector's outputs to detections in the image."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Tuple, Union

import cv2
import numpy as np

from ..boxes import clip
from ..errors import ImageError
from ..options import Size
from .classification.transforms import val_transform
from .image import choose_reduction, decode_image, read_bytes, read_header, reduced_size, resize_for_network
from .sample import Detections

Image = Union[str, Path, bytes, np.ndarray]
"""An image file, its content, or pixels ``(height, width, 3)`` uint8 RGB."""


class NetworkImage(NamedTuple):
    """An image as a network takes it.

    Attributes
    ----------
    pixels : numpy.ndarray
        ``(height, width, 3)`` uint8 RGB, of the network's input size.
    size : (int, int)
        ``(width, height)`` of the original image in pixels.
    """

    pixels: np.ndarray
    size: Size


def read_for_network(source: Image, net_size: Size) -> NetworkImage:
    """Read an image for a network with the input `net_size` = ``(w, h)``.

    A file and its pixels give the same predictions. Raises ImageError as `read_image` does, and for an array
    that is not an image.
    """
    image, size = _read_reduced(source, net_size)
    return NetworkImage(resize_for_network(image, net_size), size)


def _read_reduced(source: Image, net_size: Size) -> Tuple[np.ndarray, Size]:
    """Image at the largest reduction that is not below `net_size`, and its original size."""
    if isinstance(source, np.ndarray):
        return _reduce_pixels(source, net_size), (source.shape[1], source.shape[0])
    data, name = (source, "the image") if isinstance(source, bytes) else (read_bytes(source), str(source))
    size = read_header(data, name).size
    return decode_image(data, name, choose_reduction(size, net_size)), size


def _reduce_pixels(image: np.ndarray, net_size: Size) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"expected (height, width, 3) uint8 RGB pixels, got {image.dtype} {image.shape}")
    size = (image.shape[1], image.shape[0])
    reduction = choose_reduction(size, net_size)
    if reduction == 1:
        return image
    return cv2.resize(image, reduced_size(size, reduction), interpolation=cv2.INTER_AREA)


def read_for_classifier(image: Image, size: Size, part: float) -> np.ndarray:
    """An image as a classifier of input `size` = ``(width, height)`` sees it: its central `part`, resized.

    See `val_transform`. Raises ImageError as `read_for_network` does.
    """
    return val_transform(_read_reduced(image, size)[0], size, part)


def to_detections(
    ids: np.ndarray, scores: np.ndarray, boxes: np.ndarray, net_size: Size, size: Size, min_score: float = 0.0
) -> Detections:
    """Convert a network's outputs for one image to detections, with boxes clipped to the image.

    Parameters
    ----------
    ids, scores : numpy.ndarray
        ``(K, 1)`` class index, -1 in unused rows, and score.
    boxes : numpy.ndarray
        ``(K, 4)`` xmin, ymin, xmax, ymax in pixels of the network input.
    net_size, size : (int, int)
        ``(width, height)`` of the network input, and of the image.
    min_score : float
        Detections with a lower score are dropped.
    """
    ids, scores = ids[:, 0], scores[:, 0]
    rows = np.flatnonzero((ids >= 0) & (scores >= min_score))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    scale = np.array([size[0] / net_size[0], size[1] / net_size[1]] * 2)
    labels, scores = ids[rows].astype(np.int32), scores[rows].astype(np.float32)
    return Detections(clip(boxes[rows] * scale, size), labels, scores)
