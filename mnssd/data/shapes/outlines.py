"""The outlines of the built-in dataset's classes, and their exact coverage of pixels."""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np

#: Closed polygons, ``(N, 2)`` x, y each, filled together by the even-odd rule.
Contours = List[np.ndarray]

# Outlines are drawn this much larger and averaged: exact coverage at the edges.
_OVERSAMPLE = 4

# Logarithm of the largest stretch: sides at most 1.3 apart, so that a circle stays one.
_STRETCH = 0.13
# Largest turn either way: most things in images stand upright.
_TURN = np.pi / 6


def _arc(radius: float, start: float, end: float, centre: float = 0.0) -> np.ndarray:
    angles = np.linspace(start, end, 72)
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(rng: np.random.Generator) -> Contours:
    return [_arc(1, 0, 2 * np.pi)]


def _cross(rng: np.random.Generator) -> Contours:
    arm = rng.uniform(0.26, 0.4)
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    quarter = np.array([[0, -1], [1, 0]])
    return [np.concatenate([corner @ np.linalg.matrix_power(quarter.T, turn) for turn in range(4)])]


def _ring(rng: np.random.Generator) -> Contours:
    return [_arc(1, 0, 2 * np.pi), _arc(rng.uniform(0.45, 0.7), 0, 2 * np.pi)]


def _polygon(corners: int, first: float = -np.pi / 2) -> np.ndarray:
    """Corners on the unit circle from the angle `first` on; by default the first is at the top."""
    angles = first + np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _square(rng: np.random.Generator) -> Contours:
    return [_polygon(4, -np.pi / 4)]


def _star(rng: np.random.Generator) -> Contours:
    points = _polygon(10)
    points[1::2] *= rng.uniform(0.38, 0.5)
    return [points]


def _triangle(rng: np.random.Generator) -> Contours:
    return [_polygon(3)]


_OUTLINES: Dict[str, Callable[[np.random.Generator], Contours]] = {
    "circle": _circle,
    "cross": _cross,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}

#: The classes of the set, in the order of the labels.
SHAPE_CLASSES = tuple(_OUTLINES)


def random_outline(rng: np.random.Generator, label: int, side: float) -> Contours:
    """One shape of a class about the origin: its proportions, a slight stretch and its rotation drawn.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the draws come from.
    label : int
        Index into `SHAPE_CLASSES`.
    side : float
        The longer side of its tight box, in pixels.
    """
    contours = _OUTLINES[SHAPE_CLASSES[label]](rng)
    turn, axis = rng.uniform(-_TURN, _TURN), rng.uniform(0, np.pi)
    stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH))
    matrix = rotation(axis) @ np.diag([stretch, 1 / stretch]) @ rotation(turn - axis)
    contours = [contour @ matrix for contour in contours]
    points = np.concatenate(contours)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = side / (high - low).max()
    return [(contour - (low + high) / 2) * scale for contour in contours]


def rotation(angle: float) -> np.ndarray:
    """The ``(2, 2)`` matrix that turns by `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def coverage(contours: Contours, centre: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """How much of each pixel an outline about `centre` covers.

    Parameters
    ----------
    contours : list of numpy.ndarray
        About the origin, in pixels.
    centre : numpy.ndarray
        ``(2,)`` x, y in pixels; pixel 0 reaches from 0 to 1.

    Returns
    -------
    mask : numpy.ndarray
        ``(h, w)`` uint8, 0 to 255, the whole outline with a margin.
    origin : numpy.ndarray
        ``(2,)`` int, the column and row of the mask's first pixel; may be negative.
    """
    points = np.concatenate(contours) + centre
    origin = np.floor(points.min(axis=0)).astype(int) - 1
    width, height = np.ceil(points.max(axis=0)).astype(int) + 1 - origin
    large = np.zeros((height * _OVERSAMPLE, width * _OVERSAMPLE), np.uint8)
    # fillPoly counts from the middle of a pixel, hence the half; its shift of 4 keeps sixteenths.
    fixed = [
        np.rint(((contour + centre - origin) * _OVERSAMPLE - 0.5) * 16).astype(np.int32)
        for contour in contours
    ]
    cv2.fillPoly(large, fixed, 255, cv2.LINE_8, 4)
    return cv2.resize(large, (int(width), int(height)), interpolation=cv2.INTER_AREA), origin
