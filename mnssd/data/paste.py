"""Copy-paste augmentation (Dwibedi et al. 2017, Ghiasi et al. 2021) with boxes instead of masks."""

from __future__ import annotations

from typing import Optional, Tuple

import cv2
import numpy as np

from .transforms import Annotated

MOST_OBJECTS = 4
"""Objects pasted into an image: 1 to this."""

SCALE = (0.7, 1.4)
"""Range of the size of a pasted object, relative to the one it had in its own image."""

MARGIN = 0.15
"""Background copied with an object on each side, as a fraction of its box; the copy fades out in it."""

MAX_COVER = 0.2
"""Largest part of another object that a pasted one may hide."""

_PLACES = 10
_MIN_SIDE = 4


def paste_objects(target: Annotated, source: Annotated, rng: np.random.Generator) -> Annotated:
    """Copy objects of one image into another.

    The objects are of one class, which is drawn among those in `source`, so that rare classes appear more
    often. Their size relative to the image changes by a factor of `SCALE`. Each goes to a random place where
    it hides at most `MAX_COVER` of any other; if none of ten places will do, it is left out. Objects with
    another one in their box are not copied, because the copy would show that one without a box.

    Parameters
    ----------
    target, source : (numpy.ndarray, numpy.ndarray, numpy.ndarray)
        Image, boxes and labels, see `transforms.Annotated`. Boxes with a negative label are not copied.
    rng : numpy.random.Generator

    Returns
    -------
    (numpy.ndarray, numpy.ndarray, numpy.ndarray)
        New arrays; the pasted boxes come last.
    """
    image, boxes, labels = target
    pixels, from_boxes, from_labels = source
    alone = np.flatnonzero((from_labels >= 0) & ~_holds_another(from_boxes))
    if not len(alone):
        return target
    label = rng.choice(np.unique(from_labels[alone]))
    chosen = rng.permutation(alone[from_labels[alone] == label])[: int(rng.integers(1, MOST_OBJECTS + 1))]
    image, boxes = image.copy(), np.asarray(boxes, np.float32).reshape(-1, 4)
    relative = np.sqrt(image.size / pixels.size)
    for box in from_boxes[chosen]:
        pasted = _paste(image, boxes, pixels, box, relative * rng.uniform(*SCALE), rng)
        if pasted is not None:
            boxes = np.concatenate([boxes, pasted[None]])
    added = np.full(len(boxes) - len(labels), label)
    return image, boxes, np.concatenate([labels, added]).astype(np.asarray(labels).dtype)


def _holds_another(boxes: np.ndarray) -> np.ndarray:
    """``(N,)``: whether the center of another box is in each box."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centers >= boxes[:, None, :2]) & (centers <= boxes[:, None, 2:])
    return np.asarray(inside.all(axis=2).sum(axis=1) > 1)


def _paste(
    image: np.ndarray,
    taken: np.ndarray,
    pixels: np.ndarray,
    box: np.ndarray,
    scale: float,
    rng: np.random.Generator,
) -> Optional[np.ndarray]:
    """Copy `box` of `pixels` into `image`, in place; returns its new box, or None if there is no room."""
    left, top, right, bottom = _with_margin(box, pixels)
    height, width = image.shape[:2]
    size = (round((right - left) * scale), round((bottom - top) * scale))
    if min(size) < _MIN_SIDE or size[0] > width or size[1] > height:
        return None
    step = np.array(size) / (right - left, bottom - top)
    inner = (box.reshape(2, 2) - (left, top)) * step
    for _ in range(_PLACES):
        column, row = (int(rng.integers(most + 1)) for most in (width - size[0], height - size[1]))
        pasted = (inner + (column, row)).reshape(4).astype(np.float32)
        if (_hidden(taken, pasted) <= MAX_COVER).all():
            part = cv2.resize(pixels[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)
            region = image[row : row + size[1], column : column + size[0]]
            across, down = (_fade(size[axis], inner[0, axis], inner[1, axis], step[axis]) for axis in (0, 1))
            weights = np.outer(down, across)[..., None]
            region[:] = np.rint(weights * part + (1 - weights) * region)
            return pasted
    return None


def _with_margin(box: np.ndarray, pixels: np.ndarray) -> Tuple[int, int, int, int]:
    """Left, top, right and bottom of a box and its margin, in whole pixels of the image."""
    margin = MARGIN * (box[2:] - box[:2] + 1)
    left, top = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:] + 1 + margin), pixels.shape[1::-1]).astype(int)
    return left, top, right, bottom


def _hidden(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """``(N,)`` part of each of `boxes` that is in `box`."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    return np.asarray(np.maximum(sides, 0).prod(axis=1) / areas)


def _fade(length: int, first: float, last: float, step: float) -> np.ndarray:
    """``(length,)`` weights: 1 from `first` to `last`, one pixel of `step` included, falling to 0 outside."""
    places = np.arange(length) + 0.5
    after = length - last - step
    rising = places / first if first >= 1 else np.ones(length)
    falling = (length - places) / after if after >= 1 else np.ones(length)
    return np.asarray(np.minimum(np.minimum(rising, falling), 1.0))
