"""Drawing of labeled boxes."""

from __future__ import annotations

import colorsys
from itertools import product
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from ..data.sample import Detections
from ..options import Size
from .text import text_mask

Color = Tuple[int, int, int]

Corners = Tuple[Tuple[int, int], Tuple[int, int]]
"""Top left and bottom right pixel."""

FONT = cv2.FONT_HERSHEY_SIMPLEX

LINE_SHARE, TEXT_SHARE = 1 / 200, 1 / 34
"""Line width and text height relative to the geometric mean of the image's sides."""

_REGION_COLOR, _ARROW_SHARE = (255, 255, 255), 1 / 16
"""Of lines and zones, and the length of their arrow relative to the same mean."""

MIN_TEXT = 8
"""Text height in pixels below which labels are omitted as illegible."""


class _Label(NamedTuple):
    """Text in a filled rectangle with a `margin` around it; in pixels, except for the font's `scale`."""

    left: int
    top: int
    width: int
    height: int
    margin: int
    text: str
    scale: float
    color: Color

    def overlaps(self, other: _Label) -> bool:
        return (
            abs(2 * (self.left - other.left) + self.width - other.width) < self.width + other.width
            and abs(2 * (self.top - other.top) + self.height - other.height) < self.height + other.height
        )


def draw(
    image: np.ndarray, detections: Detections, classes: Sequence[str], ids: Optional[np.ndarray] = None
) -> np.ndarray:
    """Draw each detection as a box with its class and score.

    Parameters
    ----------
    image : numpy.ndarray
        ``(height, width, 3)`` RGB uint8; not modified.
    detections : Detections
        Boxes in pixels of `image`. Detections with higher scores are drawn over others.
    classes : sequence of str
        Names, in any script; see `text`.
    ids : numpy.ndarray, optional
        ``(N,)`` ids of tracks, which are written before the class and choose the color; 0 and below for none.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    mean_side = (width * height) ** 0.5
    line = max(1, round(mean_side * LINE_SHARE))
    boxes = [_corners(box, width, height) for box in detections.boxes]
    best_first = np.argsort(-detections.scores, kind="stable")
    numbers = np.zeros(len(boxes), int) if ids is None else ids
    colors = [
        class_color(int(label if number <= 0 else number))
        for label, number in zip(detections.labels, numbers)
    ]
    for i in best_first[::-1]:
        cv2.rectangle(canvas, boxes[i][0], boxes[i][1], colors[i], line)
    labels: List[_Label] = []
    for i in best_first:  # the best detections choose their place first
        mark = f"#{numbers[i]} " if numbers[i] > 0 else ""
        text = f"{mark}{classes[int(detections.labels[i])]} {detections.scores[i]:.2f}"
        scale = _text_scale(text, max(MIN_TEXT + 4, mean_side * TEXT_SHARE), width, height)
        if scale:
            labels.append(_place(text, scale, colors[i], boxes[i], (width, height), line, labels))
    for label in labels[::-1]:
        _draw_label(canvas, label)
    return canvas


def draw_regions(
    image: np.ndarray, regions: Sequence[Tuple[Sequence[Tuple[float, float]], str]]
) -> np.ndarray:
    """Draw lines, each with an arrow to its right, and polygons, with text beside them.

    Parameters
    ----------
    image : numpy.ndarray
        ``(height, width, 3)`` RGB uint8; not modified.
    regions : sequence of (points, str)
        The two ends of a line or the corners of a polygon, as x and y in pixels of `image` from 0; and the
        text, in any script, which is left out if it would not be legible.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    mean_side = (width * height) ** 0.5
    line = max(1, round(mean_side * LINE_SHARE))
    outlines = [np.rint(points).astype(np.int32) for points, _ in regions]
    for corners in outlines:
        _draw_outline(canvas, corners, line, mean_side * _ARROW_SHARE)
    labels: List[_Label] = []
    for corners, (_, text) in zip(outlines, regions):
        scale = _text_scale(text, max(MIN_TEXT + 4, mean_side * TEXT_SHARE), width, height)
        if scale:
            box = _corners(np.concatenate([corners.min(axis=0), corners.max(axis=0)]), width, height)
            labels.append(_place(text, scale, _REGION_COLOR, box, (width, height), line, labels))
    for label in labels:
        _draw_label(canvas, label)
    return canvas


def _draw_outline(canvas: np.ndarray, corners: np.ndarray, line: int, arrow: float) -> None:
    """A line with an arrow of this length, or a polygon, in white with a black border."""
    for color, thickness in (((0, 0, 0), line + 2), (_REGION_COLOR, line)):
        cv2.polylines(canvas, [corners], len(corners) > 2, color, thickness, cv2.LINE_AA)
        if len(corners) == 2:
            (dx, dy), middle = corners[1] - corners[0], corners.mean(axis=0)
            step = np.array([-dy, dx]) / max(1.0, np.hypot(dx, dy)) * arrow
            start, end = (tuple(np.rint(point).astype(int).tolist()) for point in (middle, middle + step))
            cv2.arrowedLine(canvas, start, end, color, thickness, cv2.LINE_AA, tipLength=0.4)


def class_color(label: int) -> Color:
    """RGB color of a class.

    Steps of the golden section around the color circle put neighboring labels far apart and never repeat a
    hue; the brightness alternates because the eye distinguishes few hues.
    """
    saturation, value = ((0.85, 0.95), (0.65, 1.0), (0.9, 0.82))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb((0.36 + label * 0.618034) % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _corners(box: np.ndarray, width: int, height: int) -> Corners:
    """Corners of a box, clipped to the image."""
    limits = np.array([width - 1, height - 1] * 2)
    left, top, right, bottom = np.clip(np.rint(box), 0, limits).astype(int).tolist()
    return (left, top), (right, bottom)


def _text_scale(text: str, desired: float, width: int, height: int) -> float:
    """OpenCV's font scale for text `desired` pixels high, or as high as fits; 0 if that is illegible."""
    full_width, full_height, _ = _text_size(text, 1.0, 1)
    # The margins are a third of the text height.
    text_height = min(desired, (width - 2) / (full_width / full_height + 2 / 3), (height - 2) / 2)
    return text_height / full_height if text_height >= MIN_TEXT else 0.0


def _place(
    text: str, scale: float, color: Color, corners: Corners, size: Size, line: int, placed: Sequence[_Label]
) -> _Label:
    """The label above the box, inside at its top, below, or inside at its bottom; flush left or right.

    The first of these places that is in the image and free of other labels; else the first in the image.
    """
    (left, top), (right, bottom) = corners
    text_width, text_height, descent = _text_size(text, scale, _stroke(scale))
    margin = max(1, text_height // 3)
    width, height = text_width + 2 * margin, text_height + max(descent, margin) + margin
    half = line // 2  # the line is centered on the edge of the box
    xs = (left - half, right + half + 1 - width)
    ys = (top - half - height, top - half, bottom + half + 1, bottom + half + 1 - height)
    positions = [(x, y) for x, y in product(xs, ys) if 0 <= y <= size[1] - height]
    if not positions:  # the box is nearly as high as the image
        positions = [(left, max(0, min(top, size[1] - height)))]
    places = [
        _Label(max(0, min(x, size[0] - width)), y, width, height, margin, text, scale, color)
        for x, y in positions
    ]
    return next((a for a in places if not any(a.overlaps(b) for b in placed)), places[0])


def _draw_label(canvas: np.ndarray, label: _Label) -> None:
    """Text in black or white, whichever contrasts with the color of the class."""
    left, top, margin, color = label.left, label.top, label.margin, label.color
    cv2.rectangle(canvas, (left, top), (left + label.width - 1, top + label.height - 1), color, cv2.FILLED)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140  # luma of ITU-R BT.601
    stroke = _stroke(label.scale)
    _, text_height, _ = _text_size(label.text, label.scale, stroke)
    ink = (0, 0, 0) if bright else (255, 255, 255)
    x, baseline = left + margin, top + margin + text_height
    if label.text.isascii():
        cv2.putText(canvas, label.text, (x, baseline), FONT, label.scale, ink, stroke, cv2.LINE_AA)
        return
    mask = text_mask(label.text, _cap_height(label.scale, stroke))
    y = baseline - mask.ascent
    place = canvas[y : y + mask.pixels.shape[0], x : x + mask.pixels.shape[1]]
    share = mask.pixels[: place.shape[0], : place.shape[1], None] / np.float32(255)
    place[:] = np.rint(place * (1 - share) + np.array(ink, np.float32) * share)


def _text_size(text: str, scale: float, stroke: int) -> Tuple[int, int, int]:
    """Width, height above the baseline and height below it, in pixels."""
    if text.isascii():
        (width, height), descent = cv2.getTextSize(text, FONT, scale, stroke)
        return width, height, descent
    cap_height = _cap_height(scale, stroke)
    mask = text_mask(text, cap_height)
    below = mask.pixels.shape[0] - mask.ascent
    return mask.pixels.shape[1], max(cap_height, mask.ascent), below


def _cap_height(scale: float, stroke: int) -> int:
    """Height of capital letters, the same for all scripts."""
    return int(cv2.getTextSize("A", FONT, scale, stroke)[0][1])


def _stroke(scale: float) -> int:
    return max(1, round(scale * 1.8))
