"""Motion of tracked boxes: Kalman filters with constant velocity."""

from __future__ import annotations

from typing import Any

import numpy as np

POSITION_NOISE, VELOCITY_NOISE = 1 / 20, 1 / 160
"""Standard deviations of a measured position and of the change of velocity per frame, relative to the size of
the box, as in DeepSORT (Wojke et al. 2017) and ByteTrack (Zhang et al. 2022)."""

_START_POSITION, _START_VELOCITY = 2 * POSITION_NOISE, 10 * VELOCITY_NOISE
"""Of a track that begins, from the same code."""


class BoxMotion:
    """Kalman filters of the center, width and height of T boxes, each with a constant velocity.

    The four values of a box are independent in this model, so each has a filter of its own: its value, its
    velocity, and the three different entries of their covariance.

    Attributes
    ----------
    value : numpy.ndarray
        ``(T, 4)`` float64 center x, center y, width and height in pixels.
    velocity : numpy.ndarray
        ``(T, 4)``, in pixels per frame.
    covariance : numpy.ndarray
        ``(T, 4, 3)`` variance of the value, covariance, variance of the velocity.
    """

    def __init__(self, boxes: np.ndarray) -> None:
        """Start at `boxes`: ``(T, 4)`` xmin, ymin, xmax, ymax, inclusive."""
        self.value = _centers(boxes)
        self.velocity = np.zeros_like(self.value)
        scale = self._scale()
        zero = np.zeros_like(scale)
        variances = [(_START_POSITION * scale) ** 2, zero, (_START_VELOCITY * scale) ** 2]
        self.covariance = np.stack(variances, axis=2)

    def boxes(self) -> np.ndarray:
        """``(T, 4)`` float64 xmin, ymin, xmax, ymax, inclusive and not clipped to the image."""
        center, half = self.value[:, :2], (self.value[:, 2:] - 1) / 2
        return np.hstack([center - half, center + half])

    def predict(self, frames: float, is_lost: np.ndarray) -> None:
        """Move all boxes on by a number of frames. Those that are lost, ``(T,)`` bool, keep their size."""
        self.velocity[is_lost, 2:] = 0
        noise = self._scale() ** 2 * frames
        self.value += self.velocity * frames
        self.value[:, 2:] = np.maximum(self.value[:, 2:], 1)
        position, cross, velocity = np.moveaxis(self.covariance, 2, 0)  # views
        position += 2 * frames * cross + frames**2 * velocity + POSITION_NOISE**2 * noise
        cross += frames * velocity
        velocity += VELOCITY_NOISE**2 * noise

    def correct(self, rows: np.ndarray, boxes: np.ndarray) -> None:
        """Take the measured `boxes` of the tracks `rows` into account."""
        position, cross, velocity = np.moveaxis(self.covariance[rows], 2, 0)
        total = position + (POSITION_NOISE * self._scale()[rows]) ** 2
        surprise = _centers(boxes) - self.value[rows]
        gain, velocity_gain = position / total, cross / total
        self.value[rows] += gain * surprise
        self.velocity[rows] += velocity_gain * surprise
        self.value[rows, 2:] = np.maximum(self.value[rows, 2:], 1)
        self.covariance[rows] = np.stack(
            [position - gain * position, cross - gain * cross, velocity - velocity_gain * cross], axis=2
        )

    def take(self, rows: Any) -> None:
        """Keep the tracks `rows` only."""
        self.value, self.velocity = self.value[rows], self.velocity[rows]
        self.covariance = self.covariance[rows]

    def append(self, other: BoxMotion) -> None:
        """Add the tracks of another object."""
        self.value = np.concatenate([self.value, other.value])
        self.velocity = np.concatenate([self.velocity, other.velocity])
        self.covariance = np.concatenate([self.covariance, other.covariance])

    def _scale(self) -> np.ndarray:
        """``(T, 4)`` width for what is horizontal, height for what is vertical."""
        return self.value[:, [2, 3, 2, 3]]


def _centers(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2] + 1])
