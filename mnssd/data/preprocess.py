"""Image to network input, and a detector's outputs to detections in the image."""

from __future__ import annotations

from typing import Tuple, Union

import cv2
import numpy as np

from ..boxes import clip
from ..errors import ImageError
from ..options import Size
from .classification.transforms import val_transform
from .image import PathLike, choose_reduction, decode_image, encoded_size, read_bytes, resize_for_network
from .sample import Detections


def read_for_network(source: Union[PathLike, bytes], net_size: Size) -> Tuple[np.ndarray, Size]:
    """Read an image file, or the bytes of one, at the size of the network input.

    Returns
    -------
    image : numpy.ndarray
        ``(h, w, 3)`` RGB uint8 for `net_size` = ``(w, h)``.
    size : (int, int)
        ``(width, height)`` of the original image.

    Raises
    ------
    ImageError
        As `read_image`.
    """
    image, size = read_reduced(source, net_size)
    return resize_for_network(image, net_size), size


def shrink_for_network(image: np.ndarray, net_size: Size) -> np.ndarray:
    """Resize pixels, ``(height, width, 3)`` RGB uint8, to the size of the network input.

    In the same two steps as `read_for_network`, so that a file and its pixels give the same predictions.
    """
    return resize_for_network(reduce_pixels(image, net_size), net_size)


def read_reduced(source: Union[PathLike, bytes], net_size: Size) -> Tuple[np.ndarray, Size]:
    """First step of `read_for_network`: decode at the largest reduction that is not below `net_size`."""
    data, name = (source, "the image") if isinstance(source, bytes) else (read_bytes(source), str(source))
    size = encoded_size(data, name)
    return decode_image(data, name, choose_reduction(size, net_size)), size


def reduce_pixels(image: np.ndarray, net_size: Size) -> np.ndarray:
    """First step of `shrink_for_network`.

    Raises
    ------
    ImageError
        If the array is not ``(height, width, 3)`` uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(
            f"expected an image as (height, width, 3) uint8 RGB, got {image.dtype} {image.shape}"
        )
    height, width = image.shape[:2]
    reduction = choose_reduction((width, height), net_size)
    if reduction == 1:
        return image
    reduced = (-(-width // reduction), -(-height // reduction))
    return cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)


def read_for_classifier(image: Union[PathLike, bytes, np.ndarray], size: Size, part: float) -> np.ndarray:
    """An image as a classifier sees it: the central `part` of each side at the size of its input.

    Parameters
    ----------
    image : str, Path, bytes or numpy.ndarray
        A file, its content, or pixels ``(height, width, 3)`` RGB uint8.
    size : (int, int)
        ``(width, height)`` of the input.
    part : float
        See `val_transform`.

    Raises
    ------
    ImageError
        If the file cannot be read, or the array is not an image.
    """
    pixels = reduce_pixels(image, size) if isinstance(image, np.ndarray) else read_reduced(image, size)[0]
    return val_transform(pixels, size, part)


def to_detections(
    ids: np.ndarray, scores: np.ndarray, boxes: np.ndarray, net_size: Size, size: Size, min_score: float = 0.0
) -> Detections:
    """Convert a network's outputs for one image to detections.

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

    Returns
    -------
    Detections
        Boxes are clipped to the image.
    """
    ids, scores = ids[:, 0], scores[:, 0]
    rows = np.flatnonzero((ids >= 0) & (scores >= min_score))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    scale = np.array([size[0] / net_size[0], size[1] / net_size[1]] * 2)
    return Detections(
        boxes=clip(boxes[rows] * scale, size),
        labels=ids[rows].astype(np.int32),
        scores=scores[rows].astype(np.float32),
    )
