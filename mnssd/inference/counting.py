"""Counting of tracked objects that cross a line, or enter and leave a zone.

The place of an object is the center of its box. Boxes tremble from frame to frame, so an object changes sides
only when its center is farther from the line, or from the edge of the zone, than a margin: 5 % of the
geometric mean of the box's sides, at least one pixel. An object that trembles on a line is counted once, when
it has left the margin on the other side. One whose track begins within the margin of a line has no side yet:
leaving the margin does not count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

import cv2
import numpy as np

from ..errors import OptionError
from .regions import Point, check_line, check_within, check_zone, text_of
from .tracking import NO_TRACK, TrackedResult

MARGIN = 0.05
"""Margin relative to the geometric mean of a box's width and height."""

Counts = Dict[str, Dict[str, int]]
"""Objects by kind, such as ``in``, and by class; classes without objects are left out."""


@dataclass
class _Place:
    """Where an object is relative to a line."""

    point: Point  # in the last frame
    nearest: int  # side in the last frame: 1 to the right of the line, -1 to the left, 0 on it
    side: int  # where it last was beyond the margin
    between: bool = False  # whether it last crossed the endless line between the ends


class LineCounter:
    """Counts tracked objects that cross a line between two points.

    Looking from the first point to the second, objects that cross from left to right are ``in``, the others
    are ``out``: for a line from left to right, ``in`` is downwards. An object is counted each time that it
    crosses; see the module for the margin. One that passes beside the ends is not counted.

    Parameters
    ----------
    line : sequence of float
        x1, y1, x2, y2 in pixels of the image, counted from 0.

    Attributes
    ----------
    points : list of (float, float)
        The two ends.
    title : str
        ``line X1,Y1,X2,Y2``.

    Raises
    ------
    OptionError
        If the ends are the same point, or a coordinate is negative or not finite.

    Examples
    --------
    >>> line = mnssd.LineCounter((0, 240, 640, 240))       # doctest: +SKIP
    >>> line.update(tracker.update(result))                # doctest: +SKIP
    >>> line.counts                                        # doctest: +SKIP
    {'in': {'car': 3}, 'out': {}}
    """

    def __init__(self, line: Sequence[float]) -> None:
        self.points = _checked(check_line, line)
        self.title = f"line {text_of(_flat(self.points))}"
        self._places: Dict[int, _Place] = {}
        self._in: Counter[str] = Counter()
        self._out: Counter[str] = Counter()

    @property
    def counts(self) -> Counts:
        """``{"in": {class: count}, "out": {...}}``, so far."""
        return {"in": dict(self._in), "out": dict(self._out)}

    def to_dict(self) -> Dict[str, Any]:
        """``{"line": [x1, y1, x2, y2], "in": {class: count}, "out": {...}}``."""
        return {"line": _flat(self.points), **self.counts}

    def update(self, tracked: TrackedResult) -> None:
        """Count in the next frame; raises OptionError if the line is not within its image."""
        _check(tracked, self.points)
        for number, name, point, margin in _objects(tracked):
            distance, _ = self._position(point)
            before = self._places.get(number)
            nearest = int(np.sign(distance)) or (before.nearest if before else 0)
            beyond = nearest if abs(distance) > margin else 0
            if before is None:
                self._places[number] = _Place(point, nearest, beyond)
                continue
            if nearest != before.nearest:
                before.between = self._crosses_between(before.point, point)
            before.point, before.nearest = point, nearest
            if beyond and beyond != before.side:
                if before.side and before.between:
                    (self._in if beyond > 0 else self._out)[name] += 1
                before.side = beyond
        _forget(self._places, tracked)

    def _position(self, point: Point) -> Tuple[float, float]:
        """Distance of a point from the endless line, above 0 to its right; and its share of the way along."""
        (ax, ay), (bx, by) = self.points
        dx, dy = bx - ax, by - ay
        length = float(np.hypot(dx, dy))
        x, y = point[0] - ax, point[1] - ay
        return (dx * y - dy * x) / length, (dx * x + dy * y) / length**2

    def _crosses_between(self, start: Point, end: Point) -> bool:
        """Whether the straight way between two points on different sides crosses between the ends."""
        (before, first), (after, second) = self._position(start), self._position(end)
        share = first + (second - first) * before / (before - after)
        return 0 <= share <= 1


class ZoneCounter:
    """Counts tracked objects that enter and leave a polygon, and those in it.

    An object that is in the zone when its track begins has not entered it. One whose track ends in the zone
    has not left it. See the module for the margin.

    Parameters
    ----------
    zone : sequence of float
        x1, y1, x2, y2, x3, y3 and so on: the corners in pixels of the image, counted from 0, in the order
        around the zone.

    Attributes
    ----------
    points : list of (float, float)
        The corners.
    title : str
        ``zone X1,Y1,X2,Y2,...``.

    Raises
    ------
    OptionError
        If there are fewer than three corners, edges cross, or a coordinate is negative or not finite.

    Examples
    --------
    >>> zone = mnssd.ZoneCounter((100, 100, 300, 100, 300, 200, 100, 200))    # doctest: +SKIP
    >>> zone.update(tracker.update(result))                                    # doctest: +SKIP
    >>> zone.counts                                                            # doctest: +SKIP
    {'entered': {'car': 3}, 'left': {'car': 1}, 'inside': {'car': 2}}
    """

    def __init__(self, zone: Sequence[float]) -> None:
        self.points = _checked(check_zone, zone)
        self.title = f"zone {text_of(_flat(self.points))}"
        self._contour = np.array(self.points, np.float32)
        self._inside: Dict[int, bool] = {}
        self._names: Dict[int, str] = {}
        self._entered: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    @property
    def counts(self) -> Counts:
        """``{"entered": {class: count}, "left": {...}, "inside": {...}}``; those inside are there now.

        An object that is hidden remains inside until its track ends.
        """
        inside = Counter(self._names[number] for number, is_inside in self._inside.items() if is_inside)
        return {"entered": dict(self._entered), "left": dict(self._left), "inside": dict(inside)}

    def to_dict(self) -> Dict[str, Any]:
        """``{"zone": [x1, y1, ...], "entered": {class: count}, "left": {...}, "inside": {...}}``."""
        return {"zone": _flat(self.points), **self.counts}

    def update(self, tracked: TrackedResult) -> None:
        """Count in the next frame; raises OptionError if the zone is not within its image."""
        _check(tracked, self.points)
        for number, name, point, margin in _objects(tracked):
            depth = float(cv2.pointPolygonTest(self._contour, point, True))
            was_inside = self._inside.get(number, depth >= 0)
            is_inside = depth > 0 if abs(depth) > margin else was_inside
            if is_inside != was_inside:
                (self._entered if is_inside else self._left)[name] += 1
            self._inside[number], self._names[number] = is_inside, name
        _forget(self._inside, tracked)
        _forget(self._names, tracked)


AnyCounter = Union[LineCounter, ZoneCounter]


def _checked(check: Callable[[Sequence[float]], Sequence[Point]], values: Sequence[float]) -> List[Point]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise OptionError(f"expected coordinates as numbers, got {values!r}") from error
    try:
        return list(check(numbers))
    except ValueError as error:
        raise OptionError(str(error)) from error


def _flat(points: Sequence[Point]) -> List[float]:
    return [value for point in points for value in point]


def _check(tracked: TrackedResult, points: Sequence[Point]) -> None:
    """Raise OptionError for what is not by a tracker, and points outside of the image."""
    if not isinstance(tracked, TrackedResult):
        raise OptionError(f"expected the result of Tracker.update, got {type(tracked).__name__}")
    try:
        check_within(_flat(points), tracked.size)
    except ValueError as error:
        raise OptionError(str(error)) from error


def _objects(tracked: TrackedResult) -> Iterator[Tuple[int, str, Point, float]]:
    """Id, class, center and margin in pixels of each tracked object."""
    for number, name, box in zip(tracked.ids.tolist(), tracked.names, tracked.boxes.tolist()):
        if number != NO_TRACK:
            left, top, right, bottom = box
            side = ((right - left + 1) * (bottom - top + 1)) ** 0.5
            yield number, name, ((left + right) / 2, (top + bottom) / 2), max(1.0, MARGIN * side)


def _forget(states: Dict[int, Any], tracked: TrackedResult) -> None:
    """Drop the states of tracks that have ended; ids are never used again."""
    for number in set(states) - set(tracked.active_ids):
        del states[number]


def describe(counts: Counts, with_classes: bool = True) -> str:
    """Counts as text: ``in 3 (car 2, person 1), out 0``, or ``in 3, out 0``."""
    parts = []
    for kind, by_class in counts.items():
        listed = ", ".join(f"{name} {count}" for name, count in sorted(by_class.items()))
        parts.append(f"{kind} {sum(by_class.values())}" + (f" ({listed})" if listed and with_classes else ""))
    return ", ".join(parts)
