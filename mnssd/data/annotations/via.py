"""Regions in tables of the VGG Image Annotator (VIA): shape and attributes as JSON."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Tuple

from ...errors import DataError
from .annotation import BoxError
from .text_files import class_name

_CLASS_ATTRIBUTES = ("class", "label", "name", "category", "type", "object")


def parse_json(text: str) -> Dict[str, Any]:
    """The object in a cell; empty if the cell is. Raises BoxError if it is damaged."""
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BoxError("box-not-numeric", f"region is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise BoxError("box-not-numeric", f"region is not a JSON object: {text[:60]}")
    return content


def class_attribute(path: object, regions: Iterable[Dict[str, Any]]) -> str:
    """Name of the attribute that has the class.

    Raises DataError if there are several attributes, and none is called class, label or the like.
    """
    names = list(dict.fromkeys(name for attributes in regions for name, value in attributes.items() if value))
    by_word = {name.strip().lower(): name for name in reversed(names)}
    for word in _CLASS_ATTRIBUTES:
        if word in by_word:
            return by_word[word]
    if len(names) > 1:
        raise DataError(
            f"{path}: which attribute of the regions is the class: {', '.join(names)}? Rename it to class"
        )
    return names[0] if names else ""


def region_class(value: Any) -> str:
    """Class by the value of an attribute: a text, or checkboxes of which one is checked."""
    if isinstance(value, dict):
        chosen = [name for name, checked in value.items() if checked and checked != "false"]
        if len(chosen) > 1:
            raise BoxError("object-without-class", f"a region of several classes: {', '.join(chosen)}")
        value = chosen[0] if chosen else ""
    return class_name("" if value is None else value)


def region_box(shape: Dict[str, Any]) -> Tuple[float, float, float, float]:
    """Left, top, right and bottom edge of a region; raises BoxError for a point and damaged shapes."""
    kind = shape.get("name")
    try:
        if kind == "rect":
            x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
            return x, y, x + width, y + height
        if kind in ("polygon", "polyline"):
            xs, ys = (list(map(float, shape[f"all_points_{axis}"])) for axis in "xy")
            return min(xs), min(ys), max(xs), max(ys)
        if kind == "circle" or (kind == "ellipse" and not float(shape.get("theta") or 0)):
            x, y = float(shape["cx"]), float(shape["cy"])
            radius_x, radius_y = (float(shape[key if key in shape else "r"]) for key in ("rx", "ry"))
            return x - radius_x, y - radius_y, x + radius_x, y + radius_y
    except (KeyError, TypeError, ValueError):
        raise BoxError("box-not-numeric", f"damaged {kind}: {str(shape)[:80]}") from None
    raise BoxError("box-missing", f"a region without a box: {kind}")
