"""Lines and polygons in an image, as given to count objects: parsing and checks.

Imports only the standard library, as the options of `mnssd detect` need it.
"""

from __future__ import annotations

import itertools
import math
from typing import List, Sequence, Tuple

from ..options import FLOATS, Size

Point = Tuple[float, float]
"""x and y in pixels of the image, counted from 0."""


def parse_line(text: str) -> Tuple[float, ...]:
    """Parse ``x1,y1,x2,y2``; raises ValueError with the reason, as `check_line`."""
    values = tuple(FLOATS.parse(text))
    check_line(values)
    return values


def parse_zone(text: str) -> Tuple[float, ...]:
    """Parse ``x1,y1,x2,y2,x3,y3,...``; raises ValueError with the reason, as `check_zone`."""
    values = tuple(FLOATS.parse(text))
    check_zone(values)
    return values


def check_line(values: Sequence[float]) -> Tuple[Point, Point]:
    """The two ends of a line; raises ValueError if they are no line."""
    points = _points(values)
    if len(points) != 2:
        raise ValueError(f"expected the two ends x1,y1,x2,y2 of a line, got {text_of(values)}")
    if points[0] == points[1]:
        raise ValueError(f"the two ends of the line {text_of(values)} are the same point")
    return points[0], points[1]


def check_zone(values: Sequence[float]) -> List[Point]:
    """The corners of a polygon, without the last if it repeats the first; raises ValueError if it is none."""
    points = _points(values)
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(points) < 3:
        raise ValueError(f"expected at least three corners x1,y1,x2,y2,x3,y3, got {text_of(values)}")
    for corner, following in zip(points, points[1:] + points[:1]):
        if corner == following:
            raise ValueError(f"{text_of(values)}: the corner {text_of(corner)} is there twice in a row")
    edges = list(zip(points, points[1:] + points[:1]))
    for (i, first), (j, second) in itertools.combinations(enumerate(edges), 2):
        if _collide(first, second, j - i == 1, (j + 1) % len(edges) == i):
            raise ValueError(
                f"{text_of(values)}: the edges {_edge_text(first)} and {_edge_text(second)} cross or touch;"
                " give the corners in the order around the zone"
            )
    return points


def check_within(values: Sequence[float], size: Size) -> None:
    """Raise ValueError if a point is outside of an image of ``(width, height)``; its edges are part of it."""
    for x, y in _points(values):
        if x > size[0] or y > size[1]:
            raise ValueError(
                f"{text_of(values)}: the point {text_of((x, y))} is outside of the image of"
                f" {size[0]}x{size[1]} pixels"
            )


def text_of(values: Sequence[float]) -> str:
    """Coordinates as they are typed: ``10,20.5``."""
    return ",".join(f"{value:.10g}" for value in values)


def _points(values: Sequence[float]) -> List[Point]:
    if len(values) % 2:
        raise ValueError(f"expected x and y of each point, got {len(values)} numbers: {text_of(values)}")
    for value in values:
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"expected pixels counted from 0, got {value:g} in {text_of(values)}")
    return [(float(x), float(y)) for x, y in zip(values[::2], values[1::2])]


Edge = Tuple[Point, Point]


def _edge_text(edge: Edge) -> str:
    return f"{text_of(edge[0])}-{text_of(edge[1])}"


def _side(edge: Edge, point: Point) -> float:
    """Above 0 if a point is to the right of an edge, with y downwards; 0 if it is on its line."""
    (ax, ay), (bx, by) = edge
    return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)


def _collide(first: Edge, second: Edge, follows: bool, precedes: bool) -> bool:
    """Whether two edges have a point in common; for neighbors, one beside their corner."""
    if follows or precedes:
        before, after = (first, second) if follows else (second, first)
        (ax, ay), (bx, by), (cx, cy) = before[0], before[1], after[1]
        turns_back = (bx - ax) * (cx - bx) + (by - ay) * (cy - by) < 0
        return _side(before, after[1]) == 0 and turns_back
    sides = [_side(first, point) for point in second] + [_side(second, point) for point in first]
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    touches = zip(sides, (first, first, second, second), (*second, *first))
    return any(side == 0 and _is_beside(edge, point) for side, edge, point in touches)


def _is_beside(edge: Edge, point: Point) -> bool:
    """Whether a point on the line of an edge is in the edge's bounding box."""
    (ax, ay), (bx, by) = edge
    return min(ax, bx) <= point[0] <= max(ax, bx) and min(ay, by) <= point[1] <= max(ay, by)
