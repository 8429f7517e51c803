"""Both ends of a network: an image to pixels of its input; a detector's answer to pixels of the image."""

from __future__ import annotations

from typing import Tuple, Union

import cv2
import numpy as np

from ..boxes import clip
from ..errors import ImageError
from .classification.transforms import val_transform
from .image import PathLike, choose_reduction, decode_image, encoded_size, read_bytes, resize_for_network
from .sample import Detections

Size = Tuple[int, int]


def read_for_network(source: Union[PathLike, bytes], net_size: Size) -> Tuple[np.ndarray, Size]:
    """Read an image file, or what is in one, at the size of a network's input.

    Returns
    -------
    numpy.ndarray
        ``(h, w, 3)`` RGB uint8 for `net_size` = ``(w, h)``.
    (int, int)
        ``(width, height)`` of the image itself.

    Raises
    ------
    ImageError
        As `read_image`.
    """
    image, size = read_reduced(source, net_size)
    return resize_for_network(image, net_size), size


def shrink_for_network(image: np.ndarray, net_size: Size) -> np.ndarray:
    """Bring pixels, ``(height, width, 3)`` RGB uint8, to the size of a network's input.

    In the same two steps as `read_for_network`, so that a file and its pixels get the same answer.
    """
    return resize_for_network(reduce_pixels(image, net_size), net_size)


def read_reduced(source: Union[PathLike, bytes], net_size: Size) -> Tuple[np.ndarray, Size]:
    """The first step of `read_for_network`: decoded at the smallest scale that is not below `net_size`."""
    data, name = (source, "the image") if isinstance(source, bytes) else (read_bytes(source), str(source))
    size = encoded_size(data, name)
    return decode_image(data, name, choose_reduction(size, net_size)), size


def reduce_pixels(image: np.ndarray, net_size: Size) -> np.ndarray:
    """The first step of `shrink_for_network`.

    Raises
    ------
    ImageError
        For arrays that are not ``(height, width, 3)`` uint8.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(
            f"an array of {image.dtype} {image.shape} is no image; give (height, width, 3) uint8, RGB"
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
    ids: np.ndarray, scores: np.ndarray, boxes: np.ndarray, net_size: Size, size: Size, floor: float = 0.0
) -> Detections:
    """What a network found in one image.

    Parameters
    ----------
    ids, scores : numpy.ndarray
        ``(K, 1)``: class index, -1 in rows that hold nothing; score.
    boxes : numpy.ndarray
        ``(K, 4)`` xmin, ymin, xmax, ymax in pixels of the network's input.
    net_size, size : (int, int)
        ``(width, height)`` of the network's input, and of the image that was resized to it.
    floor : float
        Lower scores are left out.

    Returns
    -------
    Detections
        Best score first; boxes clipped to the image.
    """
    ids, scores = ids[:, 0], scores[:, 0]
    rows = np.flatnonzero((ids >= 0) & (scores >= floor))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    scale = np.array([size[0] / net_size[0], size[1] / net_size[1]] * 2)
    return Detections(
        boxes=clip(boxes[rows] * scale, size),
        labels=ids[rows].astype(np.int32),
        scores=scores[rows].astype(np.float32),
    )
