"""Rows of YOLO's label files: boxes, boxes with a score or with keypoints, and polygons.

====================================== =======================================================
``class x y width height``             box: center and size, divided by the size of the image
``class x y width height score``       box of a detector
``class x y width height (px py [v])`` box with keypoints; ``v`` says whether a point is visible
``class x1 y1 x2 y2 x3 y3 ...``        polygon, also the four corners of a rotated box
====================================== =======================================================

Rows with keypoints and polygons look alike, so `pose_columns` looks at all rows of a list together.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...options import Size
from .annotation import BoxError, BoxObject

Corners = Tuple[float, float, float, float]

_BOX, _SCORED = 5, 6  # columns of a box, and of a box with a score
_DECIMALS = 3  # of a pixel: normalized values of six to nine digits do not restore whole pixels exactly
_MOST, _FEW = 0.8, 0.6  # shares of the rows that decide between keypoints and polygons
_MAX_COMPARED = 40  # points of a polygon whose edges are compared


class LabelRow(NamedTuple):
    """A row of a label file, read in every possible way; coordinates are divided by the size of the image.

    Attributes
    ----------
    label : float
        Class number as written; it may not be one.
    text : str
        The row, shortened, for messages.
    columns : int
    box : tuple of float
        Left, top, right and bottom edge if the row starts with a box.
    outline : tuple of float
        The same if the row is a polygon.
    holds_points : bool
        It reads as a box that holds its keypoints.
    is_polygon : bool
        It reads as the outline of an object.
    is_unclear : bool
        A box of four numbers that reads as two corners, or one of six columns whose last is not a score.
    """

    label: float
    text: str
    columns: int
    box: Corners
    outline: Corners
    holds_points: bool = False
    is_polygon: bool = False
    is_unclear: bool = False


def parse_row(line: str) -> LabelRow:
    """Parse a row; raises BoxError if it is not numeric or too short."""
    words, shown = _words(line), line[:60]
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise BoxError("box-not-numeric", f"not numbers: {shown}") from None
    if len(values) < _BOX or not all(math.isfinite(value) and abs(value) < 1e6 for value in values):
        code = "box-missing" if len(values) < _BOX else "box-not-finite"
        raise BoxError(code, f"expected a class and four finite numbers, got {shown}")
    box = _corners(values[1:5])
    if len(values) <= _SCORED:
        return LabelRow(values[0], shown, len(values), box, box, is_unclear=_is_unclear(values))
    xs, ys = values[1::2], values[2::2]
    outline = (min(xs), min(ys), max(xs), max(ys))
    holds, has_flags = _holds_points(box, values[5:])
    is_polygon = not has_flags and _is_polygon(values[1:])
    holds = holds and not (is_polygon and _is_closed(values[1:]))
    return LabelRow(values[0], shown, len(values), box, outline, holds, is_polygon)


def pose_columns(rows: Sequence[LabelRow], keypoints: Optional[Tuple[int, int]], place: str) -> int:
    """Number of columns of the rows with keypoints; 0 if long rows are polygons.

    Raises DataError if the rows do not tell what they are.

    Parameters
    ----------
    rows : sequence of LabelRow
        All of a list.
    keypoints : (int, int), optional
        ``kpt_shape`` of the dataset: number of keypoints, and of values for each; ``(0, 0)`` for polygons.
    place : str
        For the error.
    """
    if keypoints is not None:
        return 5 + keypoints[0] * keypoints[1] if keypoints[0] else 0
    rows = [row for row in rows if row.columns > _SCORED and _may_be_used(row)]
    if not rows:
        return 0
    (columns, count), *others = Counter(row.columns for row in rows).most_common()
    judged = [row for row in rows if row.holds_points or row.is_polygon]
    total = len(judged) if 2 * len(judged) > len(rows) else len(rows)
    poses = sum(row.holds_points for row in judged) / total
    polygons = sum(row.is_polygon for row in judged) / total
    if poses >= _MOST and polygons <= _FEW and not others:
        return columns
    # Seven points or more without crossing edges are no keypoints.
    if polygons >= _MOST and (poses <= _FEW or others or columns >= 15):
        return 0
    raise DataError(
        f"{place}: {count} rows with {columns} columns may be boxes with keypoints or polygons. "
        f"For keypoints, write 'kpt_shape: [POINTS, 2 or 3]' to data.yaml; for polygons, 'kpt_shape: [0, 0]'"
    )


def to_object(row: LabelRow, names: Sequence[str], size: Size, pose: int) -> BoxObject:
    """Box of a row in pixels; raises BoxError if it cannot be used.

    Parameters
    ----------
    names : sequence of str
        Class names by number; that of a class without a name is empty.
    size : (int, int)
        ``(width, height)`` of the image.
    pose : int
        Result of `pose_columns`.
    """
    number = int(row.label)
    if number != row.label or not 0 <= number < len(names):
        raise BoxError("class-unknown", f"class {row.label:g}, expected 0 to {len(names) - 1}")
    name = names[number]
    if not name:
        raise BoxError("object-without-class", f"class {number} has no name")
    is_box = row.columns in (_BOX, _SCORED, pose)
    if not is_box and pose:
        raise BoxError("columns-unexpected", f"{name}: {row.columns} columns, expected {_BOX} or {pose}")
    if not is_box and row.columns % 2 == 0:
        raise BoxError("polygon-invalid", "polygon with an odd number of coordinates")
    left, top, right, bottom = row.box if is_box else row.outline
    is_large = max(right - left, bottom - top) > 1.5
    if is_large or (not is_box and max(map(abs, row.outline)) > 1.5):
        raise BoxError("boxes-in-pixels", f"{name}: appears to be in pixels, not 0 to 1: {row.text}")
    width, height = size
    if (right - left) * width <= 1 or (bottom - top) * height <= 1:
        code = "box-inverted" if right < left or bottom < top else "box-without-area"
        raise BoxError(code, f"{name}: no area, {row.text}")
    corners = (left * width, top * height, right * width - 1, bottom * height - 1)
    return BoxObject(name, [round(corner, _DECIMALS) for corner in corners])


def looks_like_labels(lines: Sequence[str]) -> bool:
    """Whether the lines of a text file are rows of labels; of an empty file they are."""
    try:
        return all(parse_row(line) for line in lines[:3])
    except BoxError as error:
        return error.code not in ("box-not-numeric", "box-missing")


def _may_be_used(row: LabelRow) -> bool:
    return row.holds_points or (row.columns % 2 == 1 and max(map(abs, row.outline)) <= 1.5)


def _words(line: str) -> List[str]:
    """Values of a row, separated by spaces, or by commas or semicolons."""
    for separator in ",;":
        words = [word.strip() for word in line.split(separator)]
        if len(words) >= _BOX and not any(" " in word or "\t" in word for word in words):
            return words
    return line.split()


def _corners(box: Sequence[float]) -> Corners:
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _is_inside(corners: Corners, slack: float) -> bool:
    return min(corners) >= -slack and max(corners) <= 1 + slack


def _is_unclear(values: Sequence[float]) -> bool:
    sticks_out = not _is_inside(_corners(values[1:5]), 0.02)
    if len(values) == _SCORED:  # the score may also be first, and the last value an angle
        later = _corners(values[2:6])
        fits = min(values[4:6]) > 0 and _is_inside(later, 0.02)
        return not 0 <= values[5] <= 1 or (sticks_out and fits)
    left, top, right, bottom = values[1:5]
    return sticks_out and left < right and top < bottom and _is_inside((left, top, right, bottom), 1e-3)


def check_boxes(rows: Sequence[LabelRow], place: str) -> None:
    """Raise DataError if the numbers of boxes seem to have another order or meaning; `place` is for it."""
    boxes = [row for row in rows if row.columns == _BOX]
    scored = [row for row in rows if row.columns == _SCORED]
    if 2 * sum(row.is_unclear for row in boxes) > len(boxes):
        first = next(row for row in boxes if row.is_unclear)
        raise DataError(f"{place}: boxes appear to be xmin ymin xmax ymax, not center and size: {first.text}")
    if 20 * sum(row.is_unclear for row in scored) > len(scored):
        first = next(row for row in scored if row.is_unclear)
        raise DataError(
            f"{place}: rows with six columns are read as class, box and score from 0 to 1, which does "
            f"not fit (rotated boxes, or another order?): {first.text}; write class x y width height"
        )


def _holds_points(box: Corners, rest: Sequence[float]) -> Tuple[bool, bool]:
    """Whether a box is in the image and holds the points that follow, and whether these have flags."""
    left, top, right, bottom = box
    if not (left < right and top < bottom and _is_inside(box, 0.02)):
        return False, False
    flags = rest[2::3]
    have_flags = len(rest) % 3 == 0 and all(flag == 2 or 0 <= flag <= 1 for flag in flags)
    if have_flags and _are_inside(box, rest[::3], rest[1::3]):
        return True, len(flags) > 1 and all(flag in (0, 1, 2) for flag in flags)
    return len(rest) % 2 == 0 and _are_inside(box, rest[::2], rest[1::2]), False


def _are_inside(box: Corners, xs: Sequence[float], ys: Sequence[float]) -> bool:
    """Whether points are in a box or near it; ``0 0`` is a point that was not marked."""
    left, top, right, bottom = box
    near_x, near_y = 0.1 * (right - left), 0.1 * (bottom - top)
    return all(
        left - near_x <= x <= right + near_x and top - near_y <= y <= bottom + near_y
        for x, y in zip(xs, ys)
        if x or y
    )


def _is_polygon(values: Sequence[float]) -> bool:
    """Whether coordinates are the outline of an object: the second point, a size in poses, is near it."""
    if len(values) % 2 or not _is_inside((min(values), 0, 0, max(values)), 0.05):
        return False
    points = list(zip(values[::2], values[1::2]))
    if len(points) == 3 or _is_closed(values):
        return True
    second, others = points[1], [point for index, point in enumerate(points) if index != 1 and any(point)]
    if len(points) - len(others) > 2 or not others:  # several points at 0 0
        return False
    for axis in (0, 1):
        along = [point[axis] for point in others]
        reach = max(max(p[a] for p in others) - min(p[a] for p in others) for a in (0, 1))
        if not min(along) - reach <= second[axis] <= max(along) + reach:
            return False
    return len(points) > _MAX_COMPARED or not _crosses_itself(points)


def _is_closed(values: Sequence[float]) -> bool:
    """Whether coordinates end where they begin, or are a parallelogram, which keypoints hardly ever do."""
    if tuple(values[:2]) == tuple(values[-2:]):
        return True
    return len(values) == 8 and all(
        abs(a + c - b - d) <= 0.1 * (max(a, b, c, d) - min(a, b, c, d))
        for a, b, c, d in (values[::2], values[1::2])
    )


def _crosses_itself(points: Sequence[Tuple[float, float]]) -> bool:
    """Whether two edges of a closed outline cross."""
    edges = list(zip(points, [*points[1:], points[0]]))
    return any(
        _side(*edges[i], c) * _side(*edges[i], d) < 0 and _side(c, d, a) * _side(c, d, b) < 0
        for i, (a, b) in enumerate(edges)
        for c, d in edges[i + 2 :]
    )


def _side(start: Tuple[float, float], end: Tuple[float, float], point: Tuple[float, float]) -> float:
    """Positive on one side of a line, negative on the other."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
