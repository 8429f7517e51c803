"""Boxes of COCO's segmentations: polygons and run-length encoded masks."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

from ...options import Size
from .annotation import BoxError

Box = Tuple[float, float, float, float]
"""``x, y, width, height`` in pixels."""


def parse_number(value: Any) -> Optional[float]:
    """A number, also as text; None if it is none."""
    if isinstance(value, str) and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def mask_box(segmentation: Any, name: str, size: Optional[Size]) -> Box:
    """Box of a segmentation, by COCO's convention.

    Raises BoxError if it is invalid, or is a mask of another size than the image.

    Parameters
    ----------
    segmentation : list or dict
        Polygons, or a run-length encoded mask with ``size`` (height and width) and ``counts``.
    name : str
        Class of the object, for messages.
    size : tuple of int, optional
        ``(width, height)`` of the image.
    """
    if isinstance(segmentation, dict):
        return _box_of_runs(segmentation, name, size)
    return _box_of_polygons(segmentation, name)


def _box_of_polygons(polygons: Any, name: str) -> Box:
    values = [value for polygon in _innermost(polygons) for value in _coordinates(polygon, name)]
    if len(values) < 6 or not all(math.isfinite(value) and abs(value) < 1e9 for value in values):
        raise BoxError("polygon-invalid", f"{name}: no box, and a polygon of fewer than three finite points")
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _innermost(value: Any, depth: int = 0) -> Iterator[List[Any]]:
    """Lists without lists in them: polygons ``[x, y, x, y, ...]``, or points ``[x, y]``."""
    if isinstance(value, list) and any(isinstance(inner, list) for inner in value) and depth < 4:
        for inner in value:
            yield from _innermost(inner, depth + 1)
    else:
        yield value


def _coordinates(polygon: Any, name: str) -> Sequence[float]:
    numbers = [parse_number(value) for value in polygon] if isinstance(polygon, list) else [None]
    values = [value for value in numbers if value is not None]
    # Four numbers might be a box.
    if len(values) < len(numbers) or len(values) % 2 or len(values) == 4:
        raise BoxError("polygon-invalid", f"{name}: no box, and an invalid polygon: {str(polygon)[:60]}")
    return values


def _box_of_runs(mask: Mapping[str, Any], name: str, size: Optional[Size]) -> Box:
    sides, counts = mask.get("size"), mask.get("counts")
    numbers = [parse_number(side) for side in sides] if isinstance(sides, list) else []
    if size is None or numbers != [size[1], size[0]]:
        stated = f"{size[0]}x{size[1]}" if size else "unknown"
        text = (
            f"{name}: no box, and a mask of [height, width] {str(sides)[:40]}; the image's size is {stated}"
        )
        raise BoxError("polygon-invalid", text)
    runs: List[int] = _decode(counts) if isinstance(counts, str) else _whole_numbers(counts)
    if sum(runs) != size[0] * size[1]:
        raise BoxError("polygon-invalid", f"{name}: no box, and a mask whose counts do not fill its size")
    ends = list(accumulate(runs))
    filled = [(end - run, end - 1) for end, run in zip(ends[1::2], runs[1::2]) if run]
    if not filled:
        raise BoxError("box-without-area", f"{name}: no box, and an empty mask")
    # Runs follow the columns from top to bottom; one that goes on in the next column covers both ends.
    height = size[1]
    left, right = filled[0][0] // height, filled[-1][1] // height
    wraps = any(first // height < last // height for first, last in filled)
    top = 0 if wraps else min(first % height for first, _ in filled)
    bottom = height - 1 if wraps else max(last % height for _, last in filled)
    return left, top, right - left + 1, bottom - top + 1


def _whole_numbers(counts: Any) -> List[int]:
    """Counts of a mask; empty if one is no count."""
    numbers = [parse_number(count) for count in counts] if isinstance(counts, list) else []
    values = [int(number) for number in numbers if number is not None and number >= 0 and number.is_integer()]
    return values if len(values) == len(numbers) else []


def _decode(text: str) -> List[int]:
    """Counts of a compressed mask: six bits per character, of which the highest says that more follow.

    From the fourth on, a count is the difference to the count before the last.
    """
    counts: List[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
        elif shift > 60:
            return []
    return counts if not shift and min(counts, default=0) >= 0 else []
