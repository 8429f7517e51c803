"""One picture of the built-in data set: textures, clutter and a few shapes, drawn from a generator.

Only outline tells the classes apart: colours, textures, sizes, rotations, outlines, shadows and
places are drawn the same way for every class, and the background and the clutter use the same
colours. Sizes are given for a picture whose shorter side is 320 pixels and scale with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np

Contours = List[np.ndarray]

# Chances of 0, 1, ... 6 objects in a picture.
_COUNTS = (0.03, 0.21, 0.23, 0.21, 0.14, 0.10, 0.08)
# Longer side of an object's tight box, drawn log-uniformly: a range of three.
_SIDES = (48.0, 144.0)
# An object that shows less than this of its area (behind others, outside the picture) is placed anew.
_VISIBLE = 0.65
# Boxes that overlap more than this are placed anew: non-maximum suppression could not keep both.
_BOX_IOU = 0.3
_TRIALS = 25
# A fill stands out when it is this far (RGB levels) from nearly all pixels around the object.
_CONTRAST, _CONTRAST_SHARE = 75.0, 0.9
# Outlines are drawn this much larger and averaged: exact coverage at the edges.
_OVERSAMPLE = 4
# Letters that resemble none of the classes.
_LETTERS = "ABEFGHKMNRSWZ234579"


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes
    ----------
    image : numpy.ndarray
        ``(height, width, 3)`` uint8 RGB.
    boxes : numpy.ndarray
        ``(N, 4)`` float32, the tight extent of each shape within the picture as if nothing stood
        before it; see `mnssd.data.sample` for the convention.
    labels : numpy.ndarray
        ``(N,)`` int32, index into `SHAPE_CLASSES`.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


# ---------------------------------------------------------------------------------------- shapes


def _arc(radius: float, start: float, end: float, centre: float = 0.0) -> np.ndarray:
    angles = np.linspace(start, end, 72)
    return np.stack([centre + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(rng: np.random.Generator) -> Contours:
    return [_arc(1, 0, 2 * np.pi)]


def _crescent(rng: np.random.Generator) -> Contours:
    # The part of the unit circle that a smaller circle, shifted, does not cover.
    radius, shift = rng.uniform(0.78, 0.9), rng.uniform(0.45, 0.6)
    x = (1 - radius**2 + shift**2) / (2 * shift)
    y = np.sqrt(1 - x**2)
    outer, inner = np.arctan2(y, x), np.arctan2(y, x - shift)
    return [
        np.concatenate([_arc(1, outer, 2 * np.pi - outer), _arc(radius, 2 * np.pi - inner, inner, shift)])
    ]


def _cross(rng: np.random.Generator) -> Contours:
    arm = rng.uniform(0.26, 0.4)
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    quarter = np.array([[0, -1], [1, 0]])
    return [np.concatenate([corner @ np.linalg.matrix_power(quarter.T, turn) for turn in range(4)])]


def _heart(rng: np.random.Generator) -> Contours:
    t = np.linspace(0, 2 * np.pi, 96)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([x, -y], axis=1) / 17]


def _ring(rng: np.random.Generator) -> Contours:
    return [_arc(1, 0, 2 * np.pi), _arc(rng.uniform(0.45, 0.7), 0, 2 * np.pi)]


def _polygon(corners: int) -> np.ndarray:
    angles = np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _square(rng: np.random.Generator) -> Contours:
    return [_polygon(4)]


def _star(rng: np.random.Generator) -> Contours:
    points = _polygon(10)
    points[1::2] *= rng.uniform(0.38, 0.5)
    return [points]


def _triangle(rng: np.random.Generator) -> Contours:
    return [_polygon(3)]


# Closed contours about the origin, filled by the even-odd rule.
_OUTLINES: Dict[str, Callable[[np.random.Generator], Contours]] = {
    "circle": _circle,
    "crescent": _crescent,
    "cross": _cross,
    "heart": _heart,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}

#: The classes of the set, in the order of the labels.
SHAPE_CLASSES = tuple(_OUTLINES)


def _turned(contours: Contours, side: float, rng: np.random.Generator) -> Contours:
    """Stretch a little in some direction, turn, and scale so that the longer side of the box is `side`."""
    first, second = rng.uniform(0, 2 * np.pi, 2)
    stretch = np.exp(rng.uniform(-0.13, 0.13))
    matrix = _rotation(first) @ np.diag([stretch, 1 / stretch]) @ _rotation(second)
    turned = [contour @ matrix for contour in contours]
    low, high = np.concatenate(turned).min(axis=0), np.concatenate(turned).max(axis=0)
    scale = side / (high - low).max()
    return [(contour - (low + high) / 2) * scale for contour in turned]


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _mask(contours: Contours, centre: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Coverage (uint8, 0..255) of a patch of pixels by filled contours, and the patch's ``(left, top)``."""
    points = np.concatenate(contours)
    origin = np.floor(centre + points.min(axis=0)).astype(int) - 1
    width, height = np.ceil(centre + points.max(axis=0)).astype(int) + 2 - origin
    large = np.zeros((height * _OVERSAMPLE, width * _OVERSAMPLE), np.uint8)
    # fillPoly counts from pixel centres, hence the half; shift=4 keeps sixteenths of a pixel.
    fixed = [
        np.rint(((contour + centre - origin) * _OVERSAMPLE - 0.5) * 16).astype(np.int32)
        for contour in contours
    ]
    cv2.fillPoly(large, fixed, 255, cv2.LINE_8, 4)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA), origin


# ------------------------------------------------------------------------------ colours, textures


def _colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """``(count, 3)`` float32 RGB: any hue, from grey to vivid, from dark to light."""
    hsv = np.empty((count, 3), np.float32)
    hsv[:, 0] = rng.uniform(0, 360, count)
    hsv[:, 1] = rng.beta(1.6, 1.6, count)
    hsv[:, 2] = rng.uniform(0.18, 1.0, count)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255


def _smooth(rng: np.random.Generator, size: Tuple[int, int], cells: float) -> np.ndarray:
    """``(height, width)`` float32 of smooth noise in 0..1, about `cells` bumps along the longer side."""
    unit = max(size) / cells
    grid = rng.random((int(size[1] / unit) + 2, int(size[0] / unit) + 2), np.float32)
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)


def _ramp(rng: np.random.Generator, size: Tuple[int, int]) -> np.ndarray:
    """``(height, width)`` float32: distance along a random direction, 0..1 over the longer side."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.arange(size[0], dtype=np.float32) * np.float32(np.cos(angle) / max(size))
    y = np.arange(size[1], dtype=np.float32) * np.float32(np.sin(angle) / max(size))
    ramp = x[None] + y[:, None]
    return ramp - ramp.min()


def _pattern(rng: np.random.Generator, size: Tuple[int, int], period: float) -> np.ndarray:
    """``(height, width)`` float32 in about 0..1: a gradient, stripes, checks, noise or blobs.

    `period` is the length of a wave in pixels.
    """
    waves = 2 * np.pi * max(size) / period
    kind = rng.integers(6)
    if kind == 0:
        return _ramp(rng, size)
    if kind == 1:
        radius = _ramp(rng, size) - 0.5
        return np.minimum(np.hypot(radius, _ramp(rng, size) - 0.5) * 1.4, 1)
    if kind == 2:
        stripes = np.sin(_ramp(rng, size) * waves)
        return np.clip(stripes * rng.uniform(0.6, 5) * 0.5 + 0.5, 0, 1)
    if kind == 3:
        ramp = _ramp(rng, size)
        across = np.sin(ramp * waves) * np.sin(_ramp(rng, size) * waves)
        return np.clip(across * rng.uniform(0.8, 8) * 0.5 + 0.5, 0, 1)
    noise = _smooth(rng, size, max(size) / period * 2)
    if kind == 4:
        return 0.6 * noise + 0.4 * _smooth(rng, size, max(size) / period * 7)
    return np.clip((noise - 0.5) * 8 + 0.5, 0, 1)


def _mixed(pattern: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one + pattern[..., None] * (other - one)


def _background(rng: np.random.Generator, size: Tuple[int, int], unit: float) -> np.ndarray:
    """``(height, width, 3)`` float32 RGB."""
    one, other, third = _colors(rng, 3)
    # Two colours at half their distance, or stripes and checks would hide every shape.
    canvas = _mixed(_smooth(rng, size, rng.uniform(1, 3)), one, one + (other - one) * rng.uniform(0.2, 0.8))
    for _ in range(rng.integers(1, 3)):
        pattern = _pattern(rng, size, unit * np.exp(rng.uniform(np.log(8), np.log(90))))
        canvas += (pattern * rng.uniform(0.1, 0.35))[..., None] * (third - canvas)
        third = _colors(rng, 1)[0]
    return canvas


# --------------------------------------------------------------------------------------- drawing


class _Picture:
    """The picture under way, and which object each of its pixels belongs to."""

    def __init__(self, rng: np.random.Generator, size: Tuple[int, int]) -> None:
        self.rng, self.size = rng, size
        self.unit = min(size) / 320
        self.canvas = _background(rng, size, self.unit)
        self.owner = np.zeros((size[1], size[0]), np.int16)  # 0: nobody; object i is i + 1
        self.areas: List[int] = []
        self.left: List[int] = []
        self.boxes: List[np.ndarray] = []
        self.labels: List[int] = []

    def add_object(self) -> None:
        """Draw one more object where it and those before it stay visible; none when no place is found."""
        rng = self.rng
        label = int(rng.integers(len(SHAPE_CLASSES)))
        side = float(np.exp(rng.uniform(*np.log(_SIDES)))) * self.unit
        contours = _turned(_OUTLINES[SHAPE_CLASSES[label]](rng), side, rng)
        for _ in range(_TRIALS):
            margin = np.minimum(side * 0.4, np.array(self.size) / 2)
            centre = rng.uniform(margin, np.array(self.size) - margin)
            mask, origin = _mask(contours, centre)
            area = int(np.count_nonzero(mask > 127))
            mask, origin = self._clipped(mask, origin)
            solid = mask > 127
            inside = int(np.count_nonzero(solid))
            if inside < _VISIBLE * area or not self._spares(solid, origin):
                continue
            box = _extent(solid, origin)
            if any(_iou(box, other) > _BOX_IOU for other in self.boxes):
                continue
            self._paint(mask, origin, shadow=rng.random() < 0.5, stand_out=True)
            self._take(solid, origin, len(self.boxes) + 1)
            self.areas.append(area)
            self.left.append(inside)
            self.boxes.append(box)
            self.labels.append(label)
            return

    def add_clutter(self) -> None:
        """Draw a stroke, a letter, a bar or a blob, where objects stay visible; or nothing."""
        rng = self.rng
        for _ in range(5):
            mask = self._clutter_mask()
            left, top, width, height = cv2.boundingRect(mask)
            if width == 0:
                continue
            mask, origin = mask[top : top + height, left : left + width], np.array([left, top])
            if self._spares(mask > 127, origin):
                self._paint(mask, origin, shadow=rng.random() < 0.2, stand_out=False)
                self._take(mask > 127, origin, 0)
                return

    def _clutter_mask(self) -> np.ndarray:
        rng, unit = self.rng, self.unit
        mask = np.zeros(self.owner.shape, np.uint8)
        start = rng.uniform(0, self.size)
        kind = rng.integers(5)
        thickness = max(1, round(rng.uniform(1, 6) * unit))
        if kind == 0:  # a line across
            end = rng.uniform(0, self.size)
            _polyline(mask, np.array([start, end]), thickness)
        elif kind == 1:  # a wandering stroke
            steps = rng.normal(0, 14 * unit, (40, 2))
            steps = cv2.blur(steps, (1, 9))
            _polyline(mask, start + np.cumsum(steps, axis=0), thickness)
        elif kind == 2:  # a letter or a digit
            text = str(rng.choice(list(_LETTERS)))
            scale = rng.uniform(0.8, 2.6) * unit
            place = (int(start[0]), int(start[1]))
            cv2.putText(mask, text, place, int(rng.integers(8)), scale, 255, thickness, cv2.LINE_AA)
        elif kind == 3:  # a bar: too long for a square
            length, width = rng.uniform(40, 150) * unit, rng.uniform(4, 14) * unit
            bar = np.array([[-length, -width], [length, -width], [length, width], [-length, width]]) / 2
            _fill(mask, bar @ _rotation(rng.uniform(0, np.pi)) + start)
        else:  # a blob, smooth or ragged, too uneven for a circle
            count = int(rng.integers(7, 40))
            angles = np.arange(count) * 2 * np.pi / count
            radius = (
                1
                + 0.45 * np.cos(angles * 2 + rng.uniform(0, 7))
                + 0.3 * np.cos(angles * 3 + rng.uniform(0, 7))
            )
            radius *= rng.uniform(0.6, 1, count) if rng.random() < 0.5 else 1
            radius *= np.exp(rng.uniform(np.log(8), np.log(45))) * unit
            _fill(mask, start + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None])
        return mask

    def finish(self) -> np.ndarray:
        """Light, blur and noise over the whole; ``(height, width, 3)`` uint8 RGB."""
        rng = self.rng
        light = _smooth(rng, self.size, rng.uniform(1, 2.5)) - 0.5
        canvas = self.canvas * (rng.uniform(0.8, 1.12) + rng.uniform(0, 0.45) * light)[..., None]
        canvas *= rng.uniform(0.92, 1.08, 3).astype(np.float32)
        if rng.random() < 0.4:
            canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.3) * self.unit)
        if rng.random() < 0.7:
            canvas += rng.standard_normal(canvas.shape, np.float32) * rng.uniform(1, 9)
        return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)

    def _clipped(self, mask: np.ndarray, origin: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """The part of a patch that lies in the picture."""
        low = np.maximum(origin, 0)
        high = np.minimum(origin + mask.shape[::-1], self.size)
        return mask[low[1] - origin[1] : high[1] - origin[1], low[0] - origin[0] : high[0] - origin[0]], low

    def _view(self, array: np.ndarray, mask: np.ndarray, origin: np.ndarray) -> np.ndarray:
        return array[origin[1] : origin[1] + mask.shape[0], origin[0] : origin[0] + mask.shape[1]]

    def _spares(self, solid: np.ndarray, origin: np.ndarray) -> bool:
        """Would every object still show enough behind a patch painted here?"""
        hidden = np.bincount(self._view(self.owner, solid, origin)[solid], minlength=len(self.areas) + 1)
        return all(
            left - hidden[index + 1] >= _VISIBLE * area
            for index, (left, area) in enumerate(zip(self.left, self.areas))
        )

    def _take(self, solid: np.ndarray, origin: np.ndarray, owner: int) -> None:
        view = self._view(self.owner, solid, origin)
        hidden = np.bincount(view[solid], minlength=len(self.areas) + 1)
        self.left = [left - int(hidden[index + 1]) for index, left in enumerate(self.left)]
        view[solid] = owner

    def _paint(self, mask: np.ndarray, origin: np.ndarray, shadow: bool, stand_out: bool) -> None:
        """Fill the patch with a texture, perhaps with an outline and a shadow."""
        rng, size = self.rng, (mask.shape[1], mask.shape[0])
        view = self._view(self.canvas, mask, origin)
        color = self._fill_color(mask, origin, view) if stand_out else _colors(rng, 1)[0]
        if shadow:
            self._shadow(mask, origin)
        # The second colour of the texture stays near the first, which stands out.
        other = color + np.clip(_colors(rng, 1)[0] - color, -60, 60) * rng.uniform(0, 0.8)
        fill = _mixed(_pattern(rng, size, rng.uniform(6, 40) * self.unit), color, other)
        fill *= (1 + rng.uniform(0, 0.35) * (_ramp(rng, size) - 0.5))[..., None]
        if rng.random() < 0.5:
            width = int(rng.integers(1, 3 + round(2 * self.unit)))
            padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
            inner = cv2.erode(padded, None, iterations=width)[1:-1, 1:-1]
            fill = _mixed(inner.astype(np.float32) / 255, _colors(rng, 1)[0], fill)
        view += (mask.astype(np.float32) / 255)[..., None] * (fill - view)

    def _fill_color(self, mask: np.ndarray, origin: np.ndarray, view: np.ndarray) -> np.ndarray:
        """A colour that stands out from what is under and around the patch."""
        candidates = _colors(self.rng, 12)
        around = view[::3, ::3].reshape(-1, 1, 3)
        far = (np.abs(around - candidates).sum(axis=2) > _CONTRAST * 1.7).mean(axis=0)
        good = np.flatnonzero(far >= _CONTRAST_SHARE)
        return candidates[good[0] if len(good) else far.argmax()]

    def _shadow(self, mask: np.ndarray, origin: np.ndarray) -> None:
        rng, pad = self.rng, int(14 * self.unit) + 1
        offset = rng.integers(-pad // 2, pad // 2 + 1, 2)
        soft = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
        soft = cv2.GaussianBlur(soft, (0, 0), rng.uniform(1, 4) * self.unit)
        soft, origin = self._clipped(soft, origin - pad + offset)
        view = self._view(self.canvas, soft, origin)
        view *= (1 - soft.astype(np.float32) * (rng.uniform(0.2, 0.55) / 255))[..., None]


def _polyline(mask: np.ndarray, points: np.ndarray, thickness: int) -> None:
    cv2.polylines(mask, [np.rint(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)


def _fill(mask: np.ndarray, points: np.ndarray) -> None:
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)


def _extent(solid: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """The inclusive box around the True pixels of a patch."""
    columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    return box + np.tile(origin, 2)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) + 1
    common = float(np.maximum(sides, 0).prod())
    return common / (float((one[2:] - one[:2] + 1).prod() + (other[2:] - other[:2] + 1).prod()) - common)


def render_scene(rng: np.random.Generator, size: Tuple[int, int]) -> Scene:
    """Draw one picture; everything random comes from `rng`.

    Parameters
    ----------
    rng : numpy.random.Generator
        The picture's own generator.
    size : tuple of int
        ``(width, height)`` in pixels.
    """
    picture = _Picture(rng, size)
    for _ in range(rng.integers(2, 7)):
        picture.add_clutter()
    for _ in range(rng.choice(len(_COUNTS), p=_COUNTS)):
        picture.add_object()
    for _ in range(rng.integers(0, 5)):
        picture.add_clutter()
    return Scene(
        image=picture.finish(),
        boxes=np.array(picture.boxes, np.float32).reshape(-1, 4),
        labels=np.array(picture.labels, np.int32),
    )
