"""Random scene of the shapes dataset: textured background, clutter and a few shapes.

Only the outline distinguishes the classes: colors, textures, sizes, rotations, borders, shadows and positions
have the same distribution for all classes, and background and clutter use the same colors. Sizes are for an
image with a shorter side of 320 pixels and scale with it.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import List, NamedTuple, Tuple

import cv2
import numpy as np

from ...boxes import iou
from ...options import Size
from .outlines import SHAPE_CLASSES, coverage, random_outline, rotation

_COUNTS = (0.03, 0.05, 0.12, 0.20, 0.25, 0.20, 0.15)  # probabilities of 0 to 6 objects per image
_SIDES = (60.0, 180.0)  # range of the longer side of an object's tight box, log-uniform
_VISIBLE = 0.7  # minimum visible fraction of an object's area; objects placed with less are moved
_BOX_IOU = 0.25  # maximum IoU of two boxes, so that non-maximum suppression can keep both
_TRIALS = 25
# A color contrasts with its surroundings if it differs by this much (sum over R, G and B) from most of the
# pixels.
_CONTRAST, _CONTRAST_FRACTION, _CANDIDATES = 140.0, 0.9, 16
_LETTERS = "ABEFGHKMNRSWZ234579"  # those that do not resemble any class
# 256 equally probable values of the normal distribution: a lookup table is much faster than sampling.
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


class Scene(NamedTuple):
    """A rendered image with its objects.

    Attributes
    ----------
    image : numpy.ndarray
        ``(height, width, 3)`` uint8 RGB.
    boxes : numpy.ndarray
        ``(N, 4)`` float32 inclusive tight boxes of the shapes within the image, ignoring occlusion.
    labels : numpy.ndarray
        ``(N,)`` int32 indices into `SHAPE_CLASSES`.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def _colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """``(count, 3)`` float32 RGB random colors."""
    hsv = np.empty((count, 3), np.float32)
    hsv[:, 0] = rng.uniform(0, 360, count)
    hsv[:, 1] = rng.beta(1.6, 1.6, count)
    hsv[:, 2] = rng.uniform(0.18, 1.0, count)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255


def _smooth(rng: np.random.Generator, size: Size, cells: float) -> np.ndarray:
    """``(height, width)`` float32 smooth noise, about 0 to 1, with `cells` bumps along the longer side."""
    unit = max(size) / cells
    grid = rng.random((int(size[1] / unit) + 2, int(size[0] / unit) + 2), np.float32)
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)


def _ramp(rng: np.random.Generator, size: Size) -> np.ndarray:
    """``(height, width)`` float32 linear gradient in a random direction, 0 to at most 1.42."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.arange(size[0], dtype=np.float32) * np.float32(np.cos(angle) / max(size))
    y = np.arange(size[1], dtype=np.float32) * np.float32(np.sin(angle) / max(size))
    return (x - x.min())[None] + (y - y.min())[:, None]


def _wave(ramp: np.ndarray, waves: float) -> np.ndarray:
    """Cosine with `waves` periods per unit of `ramp`, from a lookup table; the ramp is at most 1.42."""
    table = np.cos(np.arange(1024, dtype=np.float32) * np.float32(1.5 * waves * 2 * np.pi / 1024))
    return table[(ramp * np.float32(1024 / 1.5)).astype(np.int16)]


def _pattern(rng: np.random.Generator, size: Size, period: float) -> np.ndarray:
    """``(height, width)`` float32 random gradient, glow, stripes, checks, noise or blobs, about 0 to 1.

    `period` is the wavelength in pixels.
    """
    waves = max(size) / period
    kind = rng.integers(6)
    if kind == 0:
        return _ramp(rng, size)
    if kind == 1:
        x, y = _ramp(rng, size) - 0.5, _ramp(rng, size) - 0.5
        return np.minimum(cv2.magnitude(x, y) * 1.4, 1)
    if kind == 2:
        return np.clip(_wave(_ramp(rng, size), waves) * rng.uniform(0.3, 2.5) + 0.5, 0, 1)
    if kind == 3:
        both = _wave(_ramp(rng, size), waves) * _wave(_ramp(rng, size), waves)
        return np.clip(both * rng.uniform(0.4, 4) + 0.5, 0, 1)
    noise = _smooth(rng, size, waves * 2)
    if kind == 4:
        return cv2.addWeighted(noise, 0.6, _smooth(rng, size, waves * 7), 0.4, 0)
    return np.clip((noise - 0.5) * 8 + 0.5, 0, 1)


def _interpolate(pattern: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """``(h, w, 3)``: color `low` where the pattern is 0, `high` where it is 1."""
    # Channel by channel: NumPy is several times slower along an axis of length 3.
    return cv2.merge([pattern * np.float32(b - a) + np.float32(a) for a, b in zip(low, high)])


def _blend(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Alpha blending of ``(h, w, 3)`` float32 images, with ``(h, w)`` float32 alpha in 0 to 1."""
    result = over - under
    result *= cv2.merge([alpha, alpha, alpha])
    result += under
    return result


def _background(rng: np.random.Generator, size: Size, unit: float) -> np.ndarray:
    """``(height, width, 3)`` float32 RGB: smooth noise of two similar colors with one or two faint patterns.

    Strong stripes and checks would hide the shapes.
    """
    one, other = _colors(rng, 2)
    noise = _smooth(rng, size, rng.uniform(1, 3))
    canvas = _interpolate(noise, one, one + (other - one) * rng.uniform(0.2, 0.8))
    for _ in range(rng.integers(1, 3)):
        pattern = _pattern(rng, size, unit * np.exp(rng.uniform(np.log(8), np.log(90))))
        alpha = pattern * np.float32(rng.uniform(0.1, 0.35))
        canvas = _blend(canvas, _interpolate(alpha, *_colors(rng, 1).repeat(2, axis=0)), alpha)
    return canvas


class _Canvas:
    """Image being drawn, and the object that owns each pixel."""

    def __init__(self, rng: np.random.Generator, size: Size) -> None:
        self.rng, self.size = rng, size
        self.unit = min(size) / 320
        self.canvas = _background(rng, size, self.unit)
        self.owner = np.zeros((size[1], size[0]), np.int16)  # i + 1 for object i, 0 for none
        self.areas: List[int] = []
        self.visible: List[int] = []
        self.boxes: List[np.ndarray] = []
        self.labels: List[int] = []

    def add_object(self) -> None:
        """Draw an object where it and the earlier ones remain visible; give up after `_TRIALS` positions."""
        rng = self.rng
        label = int(rng.integers(len(SHAPE_CLASSES)))
        side = float(np.exp(rng.uniform(*np.log(_SIDES)))) * self.unit
        contours = random_outline(rng, label, side)
        for _ in range(_TRIALS):
            margin = np.minimum(side * 0.4, np.array(self.size) / 2)
            center = rng.uniform(margin, np.array(self.size) - margin)
            mask, origin = coverage(contours, center)
            area = int(np.count_nonzero(mask > 127))
            mask, origin = self._clip_mask(mask, origin)
            solid = mask > 127
            inside = int(np.count_nonzero(solid))
            if inside < _VISIBLE * area or not self._keeps_objects_visible(solid, origin):
                continue
            box = _extent(solid, origin)
            if any(iou(box, other, offset=1) > _BOX_IOU for other in self.boxes):
                continue
            self._paint(mask, origin, shadow=rng.random() < 0.5, contrast=True)
            self._claim(solid, origin, len(self.boxes) + 1)
            self.areas.append(area)
            self.visible.append(inside)
            self.boxes.append(box)
            self.labels.append(label)
            return

    def add_clutter(self) -> None:
        """Draw a stroke, letter, bar or blob where the objects remain visible, if possible."""
        rng = self.rng
        for _ in range(5):
            mask = self._clutter_mask()
            left, top, width, height = cv2.boundingRect(mask)
            if width == 0:
                continue
            mask, origin = mask[top : top + height, left : left + width], np.array([left, top])
            if self._keeps_objects_visible(mask > 127, origin):
                self._paint(mask, origin, shadow=rng.random() < 0.2, contrast=False)
                self._claim(mask > 127, origin, 0)
                return

    def _clutter_mask(self) -> np.ndarray:
        rng, unit = self.rng, self.unit
        mask = np.zeros(self.owner.shape, np.uint8)
        start = rng.uniform(0, self.size)
        kind = rng.integers(5)
        thickness = max(1, round(rng.uniform(1, 6) * unit))
        if kind == 0:  # a line across the image
            _polyline(mask, np.array([start, rng.uniform(0, self.size)]), thickness)
        elif kind == 1:  # a random stroke
            steps = cv2.blur(rng.normal(0, 14 * unit, (40, 2)), (1, 9))
            _polyline(mask, start + np.cumsum(steps, axis=0), thickness)
        elif kind == 2:  # a letter or digit
            text = str(rng.choice(list(_LETTERS)))
            scale = rng.uniform(0.8, 2.6) * unit
            position = (int(start[0]), int(start[1]))
            cv2.putText(mask, text, position, int(rng.integers(8)), scale, 255, thickness, cv2.LINE_AA)
        elif kind == 3:  # a bar, too long for a square
            length, width = rng.uniform(40, 150) * unit, rng.uniform(4, 14) * unit
            bar = np.array([[-length, -width], [length, -width], [length, width], [-length, width]]) / 2
            _fill(mask, bar @ rotation(rng.uniform(0, np.pi)) + start)
        else:  # a splinter or blob, too long and uneven for any class
            angles, radius = _uneven(rng)
            if rng.random() < 0.5:
                angles, radius = _rounded(angles, radius)
            points = np.stack([2 * np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
            points *= np.exp(rng.uniform(np.log(8), np.log(40))) * unit
            _fill(mask, points @ rotation(rng.uniform(0, 2 * np.pi)) + start)
        return mask

    def finish(self) -> np.ndarray:
        """``(height, width, 3)`` uint8 RGB with lighting, blur and noise."""
        rng = self.rng
        light = _smooth(rng, self.size, rng.uniform(1, 2.5)) - np.float32(0.5)
        cast = rng.uniform(0.92, 1.08, 3) * rng.uniform(0.82, 1.12)
        canvas = self.canvas * _interpolate(light, cast, cast * (1 + rng.uniform(0, 0.5)))
        if rng.random() < 0.4:
            canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.3) * self.unit)
        strength = rng.uniform(1, 9) * (rng.random() < 0.7)
        noise = rng.integers(0, 256, canvas.shape, np.uint8)
        # cv2.add rounds and saturates.
        return cv2.add(canvas, cv2.LUT(noise, _NORMAL * np.float32(strength)), dtype=cv2.CV_8U)

    def _clip_mask(self, mask: np.ndarray, origin: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """The part of a mask within the image, and its origin."""
        low = np.maximum(origin, 0)
        high = np.minimum(origin + mask.shape[::-1], self.size)
        return mask[low[1] - origin[1] : high[1] - origin[1], low[0] - origin[0] : high[0] - origin[0]], low

    def _view(self, array: np.ndarray, mask: np.ndarray, origin: np.ndarray) -> np.ndarray:
        return array[origin[1] : origin[1] + mask.shape[0], origin[0] : origin[0] + mask.shape[1]]

    def _keeps_objects_visible(self, solid: np.ndarray, origin: np.ndarray) -> bool:
        """Whether all objects keep enough visible area if a patch is painted here."""
        hidden = np.bincount(self._view(self.owner, solid, origin)[solid], minlength=len(self.areas) + 1)
        return all(
            visible - hidden[index + 1] >= _VISIBLE * area
            for index, (visible, area) in enumerate(zip(self.visible, self.areas))
        )

    def _claim(self, solid: np.ndarray, origin: np.ndarray, owner: int) -> None:
        view = self._view(self.owner, solid, origin)
        hidden = np.bincount(view[solid], minlength=len(self.areas) + 1)
        self.visible = [pixels - int(hidden[index + 1]) for index, pixels in enumerate(self.visible)]
        view[solid] = owner

    def _paint(self, mask: np.ndarray, origin: np.ndarray, shadow: bool, contrast: bool) -> None:
        """Fill a mask with a texture, with optional border and shadow."""
        rng, size = self.rng, (mask.shape[1], mask.shape[0])
        view = self._view(self.canvas, mask, origin)
        color = self._contrasting_color(view) if contrast else _colors(rng, 1)[0]
        if shadow:
            self._shadow(mask, origin)
        # The second color of the texture stays close to the first.
        other = color + np.clip(_colors(rng, 1)[0] - color, -60, 60) * rng.uniform(0, 0.25)
        fill = _interpolate(_pattern(rng, size, rng.uniform(6, 40) * self.unit), color, other)
        shade = rng.uniform(0, 0.35)
        fill *= _interpolate(_ramp(rng, size), np.full(3, 1 - shade / 2), np.full(3, 1 + shade / 2))
        if contrast or rng.random() < 0.5:
            width = round(5 * self.unit) if contrast else int(rng.integers(1, 3 + round(2 * self.unit)))
            # Replicated border, so that no outline is drawn along the border of the image.
            inner = cv2.erode(mask, None, iterations=width, borderType=cv2.BORDER_REPLICATE)
            # Objects of all classes have a pale rim; clutter may have any color.
            rim = np.full(3, rng.uniform(225, 255)) if contrast else _colors(rng, 1)[0]
            edge = np.full(fill.shape, rim, np.float32)
            fill = _blend(edge, fill, inner * np.float32(1 / 255))
        view[...] = _blend(view, fill, mask * np.float32(1 / 255))

    def _contrasting_color(self, view: np.ndarray) -> np.ndarray:
        """A color that contrasts with the pixels under and around a mask."""
        candidates = _colors(self.rng, _CANDIDATES)
        around = view[::4, ::4].reshape(-1, 1, 3)
        far = (np.abs(around - candidates).sum(axis=2) > _CONTRAST).mean(axis=0)
        contrasting = np.flatnonzero(far >= _CONTRAST_FRACTION)
        return candidates[contrasting[0] if len(contrasting) else far.argmax()]

    def _shadow(self, mask: np.ndarray, origin: np.ndarray) -> None:
        rng, pad = self.rng, int(14 * self.unit) + 1
        offset = rng.integers(-pad // 2, pad // 2 + 1, 2)
        soft = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
        soft = cv2.GaussianBlur(soft, (0, 0), rng.uniform(1, 4) * self.unit)
        soft, origin = self._clip_mask(soft, origin - pad + offset)
        keep = 1 - soft * np.float32(rng.uniform(0.2, 0.55) / 255)
        view = self._view(self.canvas, soft, origin)
        view *= cv2.merge([keep, keep, keep])


def _uneven(rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """Angles and very different radii of 7 to 11 corners."""
    count = int(rng.integers(7, 12))
    angles = (np.arange(count) + rng.uniform(-0.4, 0.4, count)) * 2 * np.pi / count
    return angles, rng.permutation(np.linspace(0.3, 1, count))


def _rounded(angles: np.ndarray, radius: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The closed curve with smoothed corners, as many points."""
    dense = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.interp(dense, angles, radius, period=2 * np.pi)
    return dense, np.convolve(np.tile(radii, 3), np.hanning(15) / np.hanning(15).sum(), "same")[96:192]


def _polyline(mask: np.ndarray, points: np.ndarray, thickness: int) -> None:
    cv2.polylines(mask, [np.rint(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)


def _fill(mask: np.ndarray, points: np.ndarray) -> None:
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)


def _extent(solid: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Inclusive box around the True pixels of a mask."""
    columns, rows = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    return box + np.tile(origin, 2)


def render_scene(rng: np.random.Generator, size: Size) -> Scene:
    """Render one image of `size` = ``(width, height)``; `rng` is the source of all randomness."""
    canvas = _Canvas(rng, size)
    for _ in range(rng.integers(1, 5)):
        canvas.add_clutter()
    for _ in range(rng.choice(len(_COUNTS), p=_COUNTS)):
        canvas.add_object()
    for _ in range(rng.integers(0, 3)):
        canvas.add_clutter()
    boxes = np.array(canvas.boxes, np.float32).reshape(-1, 4)
    return Scene(canvas.finish(), boxes, np.array(canvas.labels, np.int32))
