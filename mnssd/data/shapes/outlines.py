"""Outlines of the classes of the shapes dataset, and their pixel coverage."""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np

Contours = List[np.ndarray]
"""Closed polygons, ``(N, 2)`` x, y each, filled together by the even-odd rule."""

# Outlines are drawn at this multiple of the size and averaged, for anti-aliasing.
_OVERSAMPLE = 4

# Logarithm of the largest stretch: an aspect ratio of at most 1.3, so that a circle remains one.
_STRETCH = 0.13
_MAX_ROTATION = np.pi / 6  # in either direction


def _circle(radius: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 72)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _polygon(corners: int, first: float = -np.pi / 2) -> np.ndarray:
    """Corners on the unit circle, the first at the angle `first`, by default at the top."""
    angles = first + np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(rng: np.random.Generator) -> Contours:
    arm = rng.uniform(0.26, 0.4)
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    quarter = np.array([[0, -1], [1, 0]])
    return [np.concatenate([corner @ np.linalg.matrix_power(quarter.T, turn) for turn in range(4)])]


def _star(rng: np.random.Generator) -> Contours:
    points = _polygon(10)
    points[1::2] *= rng.uniform(0.38, 0.5)
    return [points]


_OUTLINES: Dict[str, Callable[[np.random.Generator], Contours]] = {
    "circle": lambda rng: [_circle(1)],
    "cross": _cross,
    "ring": lambda rng: [_circle(1), _circle(rng.uniform(0.45, 0.7))],
    "square": lambda rng: [_polygon(4, -np.pi / 4)],
    "star": _star,
    "triangle": lambda rng: [_polygon(3)],
}

SHAPE_CLASSES = tuple(_OUTLINES)
"""Class names, in the order of the labels."""


def random_outline(rng: np.random.Generator, label: int, side: float) -> Contours:
    """Outline of class `label` around the origin, with random proportions, stretch and rotation.

    `side` is the longer side of its tight box, in pixels.
    """
    contours = _OUTLINES[SHAPE_CLASSES[label]](rng)
    angle, axis = rng.uniform(-_MAX_ROTATION, _MAX_ROTATION), rng.uniform(0, np.pi)
    stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH))
    matrix = rotation(axis) @ np.diag([stretch, 1 / stretch]) @ rotation(angle - axis)
    contours = [contour @ matrix for contour in contours]
    points = np.concatenate(contours)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = side / (high - low).max()
    return [(contour - (low + high) / 2) * scale for contour in contours]


def rotation(angle: float) -> np.ndarray:
    """``(2, 2)`` rotation matrix for `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def coverage(contours: Contours, center: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Coverage of pixels by an outline placed at `center` = x, y; pixel 0 extends from 0 to 1.

    Returns
    -------
    mask : numpy.ndarray
        ``(h, w)`` uint8, 0 to 255, the whole outline with a margin.
    origin : numpy.ndarray
        ``(2,)`` int column and row of the mask's first pixel; may be negative.
    """
    points = np.concatenate(contours) + center
    origin = np.floor(points.min(axis=0)).astype(int) - 1
    width, height = np.ceil(points.max(axis=0)).astype(int) + 1 - origin
    large = np.zeros((height * _OVERSAMPLE, width * _OVERSAMPLE), np.uint8)
    # fillPoly counts from pixel centers, hence the 0.5; a shift of 4 means coordinates in sixteenths.
    placed = [((contour + center - origin) * _OVERSAMPLE - 0.5) * 16 for contour in contours]
    cv2.fillPoly(large, [np.rint(contour).astype(np.int32) for contour in placed], 255, cv2.LINE_8, 4)
    return cv2.resize(large, (int(width), int(height)), interpolation=cv2.INTER_AREA), origin
