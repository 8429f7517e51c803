"""Sequences with known tracks for `tracking.py`: simulated detections, and rendered frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from mnssd.data.shapes.outlines import SHAPE_CLASSES, random_outline
from mnssd.options import Size

Contours = Sequence[np.ndarray]


@dataclass(frozen=True)
class Settings:
    """A kind of sequence.

    Attributes
    ----------
    objects, frames : int
    size : (int, int)
        Width and height of the frames in pixels.
    sides : (float, float)
        Least and largest side of an object in pixels.
    speed : float
        Standard deviation of the velocities in pixels per frame.
    missed, low, false : float
        Share of detections that are missing, and that have scores from .15 to .45; false ones per frame.
    noise : float
        Standard deviation of the edges relative to the size of the box.
    """

    objects: int = 10
    frames: int = 200
    size: Size = (640, 480)
    sides: Tuple[float, float] = (40.0, 110.0)
    speed: float = 3.0
    missed: float = 0.08
    low: float = 0.1
    false: float = 0.3
    noise: float = 0.03


class Object(NamedTuple):
    """A moving object; later ones are in front."""

    label: int
    first: int  # frame
    last: int
    start: np.ndarray  # center in the first frame
    velocity: np.ndarray
    sides: np.ndarray  # width, height

    def box(self, frame: int) -> np.ndarray:
        """Inclusive box, not clipped."""
        center = self.start + self.velocity * (frame - self.first)
        return np.concatenate([center - self.sides / 2, center + self.sides / 2 - 1])


class Visible(NamedTuple):
    """An object in a frame: its number from 0, its box within the image, and the share that is not hidden."""

    number: int
    label: int
    box: np.ndarray
    share: float


def make_objects(settings: Settings, rng: np.random.Generator) -> List[Object]:
    """Objects that move straight through the image."""
    objects = []
    for _ in range(settings.objects):
        first = int(rng.integers(0, settings.frames // 2))
        last = first + int(rng.integers(settings.frames // 3, settings.frames))
        start, velocity = rng.uniform((0, 0), settings.size), rng.normal(0, settings.speed, 2)
        sides = rng.uniform(*settings.sides, 2)
        objects.append(Object(int(rng.integers(len(SHAPE_CLASSES))), first, last, start, velocity, sides))
    return objects


def visible(objects: Sequence[Object], frame: int, size: Size) -> List[Visible]:
    """Objects with at least a quarter of their box in the image, also those that are hidden by others."""
    found: List[Visible] = []
    limits = np.array([size[0] - 1, size[1] - 1] * 2)
    for number in range(len(objects) - 1, -1, -1):  # from the front
        item = objects[number]
        box = np.clip(item.box(frame), 0, limits)
        if item.first <= frame < item.last and _area(box) >= item.sides.prod() / 4:
            hidden = max((_common(box, other.box) / _area(box) for other in found), default=0.0)
            found.append(Visible(number, item.label, box, 1 - hidden))
    return found


def detect(objects: Sequence[Visible], settings: Settings, rng: np.random.Generator) -> List[Dict[str, Any]]:
    """Simulated detections, as in the lines of `mnssd detect --jsonl`."""
    rows = []
    width, height = settings.size
    for item in objects:
        if item.share < 0.25 or rng.random() < settings.missed:
            continue
        sides = item.box[2:] - item.box[:2] + 1
        box = item.box + rng.normal(0, settings.noise, 4) * np.tile(sides, 2)
        score = 0.93 - 0.6 * (1 - item.share) + rng.normal(0, 0.03)
        if rng.random() < settings.low:
            score = rng.uniform(0.15, 0.45)
        rows.append((item.label, score, box))
    for _ in range(rng.poisson(settings.false)):
        corner, sides = rng.uniform((0, 0), (width - 50, height - 50)), rng.uniform(20, 50, 2)
        box = np.concatenate([corner, corner + sides])
        rows.append((int(rng.integers(len(SHAPE_CLASSES))), rng.uniform(0.15, 0.75), box))
    rows.sort(key=lambda row: -row[1])
    limits = np.array([width - 1, height - 1] * 2)
    return [
        {
            "class": SHAPE_CLASSES[label], "score": round(float(np.clip(score, 0.12, 0.99)), 3),
            "box": np.clip(box, 0, limits).round(2).tolist(),
        }
        for label, score, box in rows
    ]  # fmt: skip


def render(objects: Sequence[Object], settings: Settings, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames ``(height, width, 3)`` RGB uint8 with the objects as shapes of the built-in dataset."""
    width, height = settings.size
    coarse = rng.integers(60, 140, (height // 60 + 2, width // 60 + 2, 3), dtype=np.uint8)
    background = cv2.resize(coarse, settings.size, interpolation=cv2.INTER_CUBIC)
    outlines, colors = [], []
    for item in objects:
        contours = random_outline(rng, item.label, 100.0)
        points = np.concatenate(contours)
        low, high = points.min(axis=0), points.max(axis=0)
        outlines.append([(part - (low + high) / 2) / (high - low) * item.sides for part in contours])
        bright = rng.random() < 0.5
        colors.append((rng.integers(200, 256, 3) if bright else rng.integers(0, 40, 3)).tolist())
    for frame in range(settings.frames):
        canvas = background.copy()
        for item, contours, color in zip(objects, outlines, colors):
            if item.first <= frame < item.last:
                center = item.start + item.velocity * (frame - item.first)
                parts = [np.rint((part + center) * 16).astype(np.int32) for part in contours]
                cv2.fillPoly(canvas, parts, color, cv2.LINE_AA, 4)
        noise = rng.normal(0, 4, canvas.shape)
        yield np.clip(canvas + noise, 0, 255).astype(np.uint8)


def _area(box: np.ndarray) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2] + 1, 0)))


def _common(a: np.ndarray, b: np.ndarray) -> float:
    return _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
