"""Labels of GluonCV's datasets: a row ``xmin, ymin, xmax, ymax, class[, difficult]`` for each object.

As GluonCV's own datasets give them, corners are pixels counted from 0 and both ends are inclusive: its
`VOCDetection` subtracts 1 from VOC's corners, and its `COCODetection` adds the width less 1.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, List, NoReturn, Sequence

import numpy as np

from ..findings import Findings
from .annotation import AnnotationError, BoxError, BoxObject

_PADDING = -1  # rows of -1 fill up labels to one length in GluonCV's batches, and stand for no object
_LARGEST = 1e6  # pixels


def label_rows(label: Any) -> np.ndarray:
    """The rows of a label as ``(N, 5)`` or wider float64; ``(0, 5)`` for a label of no numbers.

    Raises AnnotationError if it has another shape, or is not made of numbers.
    """
    try:
        values = label.asnumpy() if hasattr(label, "asnumpy") else label
        is_array = hasattr(values, "__array__")
        array = np.asarray(values, None if is_array else object)  # as objects, rows may differ in length
        if not (array.dtype.kind in "biuf" if is_array else all(isinstance(v, Real) for v in array.flat)):
            _refuse(f"{type(label).__name__} of {array.dtype}" if is_array else _shown(label))
        rows = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):  # such as numbers beyond those of float64
        _refuse(_shown(label))
    if array.size == 0 and array.ndim > 0:
        return np.zeros((0, 5))
    if rows.ndim != 2 or rows.shape[1] < 5:
        _refuse(f"an array of the shape {rows.shape}")
    return rows


def _shown(label: Any) -> str:
    return f"{type(label).__name__} {str(label)[:60]!r}"


def _refuse(found: str) -> NoReturn:
    raise AnnotationError(
        f"the label is {found}; expected rows (N, 5) or (N, 6) of xmin, ymin, xmax, ymax, class, difficult"
    )


def parse_rows(
    rows: np.ndarray, classes: Sequence[str], findings: Findings, file: str, where: str
) -> List[BoxObject]:
    """The objects of `rows`; a finding for each row that is none. Columns after the sixth are not used."""
    objects: List[BoxObject] = []
    for number, row in enumerate(rows):
        if (row[:5] == _PADDING).all():
            continue
        try:
            objects.append(_parse_row(row, classes))
        except BoxError as error:
            findings.add(error.code, file, f"row {number}: {error}", where)
            continue
        if len(row) > 5 and row[5] not in (0, 1):
            findings.add("difficult-unknown", file, f"row {number}: {row[5]:g}", where)
    return objects


def _parse_row(row: np.ndarray, classes: Sequence[str]) -> BoxObject:
    box, label = row[:4], row[4]
    shown = ", ".join(f"{value:g}" for value in row)
    if not (label.is_integer() and 0 <= label < len(classes)):
        raise BoxError("class-unknown", f"class {label:g}, expected 0 to {len(classes) - 1}")
    name = classes[int(label)]
    if not np.isfinite(box).all() or np.abs(box).max() > _LARGEST:
        raise BoxError("box-not-finite", f"{name} with {shown}: expected pixels")
    if box[2] < box[0] or box[3] < box[1]:
        raise BoxError("box-inverted", f"{name} with {shown}: inverted")
    if box[2] == box[0] or box[3] == box[1]:
        raise BoxError("box-without-area", f"{name} with {shown}: no area")
    if box.min() >= 0 and box.max() <= 1 and (box % 1).any():
        raise BoxError("boxes-normalized", f"{name} with {shown}: appears normalized; expected pixels")
    return BoxObject(name, tuple(box.tolist()), bool(len(row) > 5 and row[5] == 1))
