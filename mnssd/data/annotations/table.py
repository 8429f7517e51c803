"""CSV tables with one object per line: separators, rows and boxes, whatever tool wrote them.

In the tables of TensorFlow's tutorials (columns `TUTORIAL_COLUMNS`) pixels are counted from 1 and both ends
of a box are inclusive. In all others, coordinates are edges counted from 0: a box over the columns 3 to 7 has
left 3 and right 8. Coordinates from 0 to 1 are shares of the image's sides.
"""

from __future__ import annotations

import csv
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import NAME_ERRORS
from ...options import Size
from .annotation import BoxError
from .table_layouts import (
    CORNER_AND_SIZE,
    CORNERS,
    REGION,
    VERTICES,
    TableLayout,
    is_number,
    named_layout,
    resembles_table,
    unnamed_layout,
)
from .text_files import class_name, open_text
from .via import class_attribute, parse_json, region_box, region_class

ONLY_CLASS = "object"
"""Name of the class in a table without a column for it."""

_NO_OBJECT = frozenset(("", "nan", "none", "null", "na", "n/a", "background", "no finding", "no object"))
"""Texts instead of a class or a number in the line of an image without objects."""

_SEPARATORS = ",;\t|"
_SAMPLE_ROWS = 50
_MIXED = 0.2  # share of boxes in the other unit, above which the table is refused
_DECIMALS = 3  # of a pixel: shares of six digits do not restore whole pixels exactly
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+")

Edges = Tuple[float, float, float, float]


class TableRow(NamedTuple):
    """A line: image, class, and the box as left, top, right and bottom in the unit of the table.

    `edges` is None if there is no object, or a BoxError if the object cannot be used.
    """

    line: int
    image: str
    name: str
    edges: object
    difficult: bool
    size: Tuple[str, ...]
    split: str


class Table(NamedTuple):
    """A table: its rows, and whether their boxes are shares of the image's sides, or counted from 1."""

    rows: List[TableRow]
    is_normalized: bool
    layout: TableLayout


def read_table(path: Path) -> Table:
    """Read a table; raises DataError if its columns or the unit of its boxes cannot be told."""
    separator, layout = _dialect(path)
    if layout is None:
        raise DataError(_unknown_columns(path, separator))
    lines = list(_lines(path, separator))[layout.header :]
    _check_commas(path, layout, lines)
    attribute = ""
    if layout.kind == REGION:
        attribute = class_attribute(path, (_attributes(words, layout) for _, words in lines))
    rows = [_row(number, words, layout, attribute) for number, words in lines]
    return Table(rows, _is_normalized(path, rows, layout), layout)


def is_table(path: Path) -> bool:
    """Whether a file has a column for images and columns for parts of boxes; `read_table` may refuse it."""
    try:
        separator, layout = _dialect(path)
        return layout is not None or resembles_table(_sample(path, separator))
    except DataError:
        return False


def is_readable(path: Path) -> bool:
    """Whether the columns of a table are known."""
    try:
        return _dialect(path)[1] is not None
    except DataError:
        return False


def read_sets(path: Path) -> Tuple[str, ...]:
    """Values of the column that tells the list of an image, in lower case; empty if there is none."""
    try:
        status = path.stat()
        return _read_sets(path, status.st_mtime_ns, status.st_size)
    except (OSError, DataError):  # reading the table raises the error
        return ()


@lru_cache(maxsize=16)
def _read_sets(path: Path, modified: int, size: int) -> Tuple[str, ...]:
    """`read_sets` of a file in a state, because the lists of a dataset are asked for several times."""
    separator, layout = _dialect(path)
    if layout is None or layout.split is None:
        return ()
    lines = list(_lines(path, separator))[layout.header :]
    return tuple(dict.fromkeys(_set_name(_cell(words, layout.split)) for _, words in lines))


def to_pixels(edges: Edges, table: Table, size: Optional[Size]) -> Edges:
    """Box in pixel indices from 0, both ends inclusive, of edges in the unit of a table.

    Raises BoxError if it is inverted, has no area, or has another unit than the other boxes of the table.
    """
    left, top, right, bottom = edges
    shown = ", ".join(f"{edge:g}" for edge in edges)
    if right < left or bottom < top:
        raise BoxError("box-inverted", f"{shown}: inverted")
    if table.is_normalized:
        assert size is not None
        if not _is_share(edges, 2):
            raise BoxError("boxes-in-pixels", f"{shown}: appears to be in pixels; expected 0 to 1")
        scale = (*size, *size)
        left, top, right, bottom = (round(edge * side, _DECIMALS) for edge, side in zip(edges, scale))
    elif _is_share(edges) and right > left and bottom > top:
        raise BoxError("boxes-normalized", f"{shown}: appears normalized; expected pixels")
    origin = int(table.layout.from_one and not table.is_normalized)
    box = (left - origin, top - origin, right - 1, bottom - 1)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise BoxError("box-without-area", f"{shown}: no area")
    return box


def _dialect(path: Path) -> Tuple[str, Optional[TableLayout]]:
    """Separator and layout of a table; if the layout is unknown, the separator with most columns."""
    widths: Dict[str, int] = {}
    for separator in _SEPARATORS:
        rows = _sample(path, separator)
        if not rows:
            break
        layout = named_layout(rows[0]) or unnamed_layout(rows)
        if layout is not None:
            return separator, layout
        widths[separator] = len(rows[0])
    return max(widths, key=lambda separator: widths[separator], default=","), None


def _sample(path: Path, separator: str) -> List[List[str]]:
    return [words for _, (_, words) in zip(range(_SAMPLE_ROWS), _lines(path, separator))]


def _lines(path: Path, separator: str) -> Iterator[Tuple[int, List[str]]]:
    """Lines that are not blank, with their numbers, split into stripped cells."""
    try:
        with open_text(path, "a table", errors=NAME_ERRORS) as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=separator != "\t")
            is_first = True
            for words in reader:
                cells = [word.strip() for word in words]
                if not any(cells) or (is_first and re.fullmatch("(?i)sep=.?", "".join(cells))):
                    continue  # Excel writes sep=; before the table
                if is_first:
                    cells[0] = cells[0].lstrip("#").strip()
                is_first = False
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def _cell(words: Sequence[str], index: Optional[int]) -> str:
    return words[index] if index is not None and index < len(words) else ""


def _set_name(text: str) -> str:
    return text.lower() or "unassigned"


def _row(line: int, words: Sequence[str], layout: TableLayout, attribute: str) -> TableRow:
    name = class_name(_cell(words, layout.label))
    edges: object
    try:
        if layout.kind == REGION:
            shape = parse_json(_cell(words, layout.box[0]))
            name = region_class(_attributes(words, layout).get(attribute))
            edges = region_box(shape) if shape else None
        else:
            edges = _edges([_cell(words, index) for index in layout.box], layout.kind)
            if name.lower() in _NO_OBJECT and (edges is None or (not name and not any(edges))):
                name, edges = "", None
        if layout.label is None and not (layout.kind == REGION and attribute):
            name = ONLY_CLASS
        elif not name and edges is not None:
            raise BoxError("object-without-class", "object without a class")
        elif name and edges is None and layout.kind != REGION:
            raise BoxError("box-missing", f"{name}: no box")
    except BoxError as error:
        edges = error
    flag = _cell(words, layout.difficult).lower() in ("1", "1.0", "true", "yes")
    size = tuple(_cell(words, index) for index in layout.size)
    return TableRow(line, _cell(words, layout.image), name, edges, flag, size, _cell(words, layout.split))


def _attributes(words: Sequence[str], layout: TableLayout) -> Dict[str, object]:
    try:
        return parse_json(_cell(words, layout.box[1]))
    except BoxError:
        return {}


def _edges(texts: Sequence[str], kind: str) -> Optional[Edges]:
    """Left, top, right and bottom of the texts of a box; None if all are empty."""
    if {text.lower() for text in texts} <= _NO_OBJECT or texts == ["[]"]:
        return None
    if len(texts) == 1:  # such as "[834.0, 222.0, 56.0, 36.0]"
        texts = [word for word in re.split(r"[\s,;]+", texts[0].strip("[](){}\"' ")) if word]
        if len(texts) != 4:
            raise BoxError("box-not-numeric", f"expected a box of four numbers, got {' '.join(texts)[:60]}")
    if kind != VERTICES and not all(texts):
        raise BoxError(
            "box-missing", f"expected four numbers, got {', '.join(text or 'none' for text in texts)}"
        )
    try:
        numbers = [_number(text) for text in texts if text]
    except ValueError:
        raise BoxError("box-not-numeric", f"{', '.join(texts)}: not numbers") from None
    if not all(math.isfinite(number) and abs(number) < 1e9 for number in numbers):
        raise BoxError("box-not-finite", f"{', '.join(texts)}: not finite")
    if kind == VERTICES:
        xs, ys = numbers[::2], numbers[1::2]
        if len(numbers) not in (4, 8) or any(bool(x) != bool(y) for x, y in zip(texts[::2], texts[1::2])):
            raise BoxError("box-missing", f"expected two or four vertices, got {', '.join(texts)}")
        return min(xs), min(ys), max(xs), max(ys)
    a, b, c, d = numbers
    if kind == CORNERS:
        return a, b, c, d
    return (a, b, a + c, b + d) if kind == CORNER_AND_SIZE else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)


def _number(text: str) -> float:
    """A number with a decimal point or a decimal comma."""
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def _check_commas(path: Path, layout: TableLayout, lines: Sequence[Tuple[int, Sequence[str]]]) -> None:
    """Raise DataError if all commas in numbers could separate thousands as well as decimals."""
    if len(layout.box) < 4:
        return
    texts = [_cell(words, index) for _, words in lines for index in layout.box]
    numbers = [text for text in texts if "," in text and is_number(text)]
    if numbers and all(map(_THOUSANDS.fullmatch, numbers)):
        raise DataError(
            f"{path}: is {numbers[0]!r} a decimal number, or are its thousands separated? Write the numbers "
            "with a decimal point"
        )


def _is_share(edges: Edges, limit: float = 1) -> bool:
    return min(edges) >= 1 - limit and max(edges) <= limit


def _is_normalized(path: Path, rows: Sequence[TableRow], layout: TableLayout) -> bool:
    """Whether the boxes are shares of the image's sides, decided over the whole table."""
    boxes = [row.edges for row in rows if isinstance(row.edges, tuple)]
    if layout.kind == VERTICES:
        return True
    shares = [edges for edges in boxes if _is_share(edges)]
    pixels = sum(not _is_share(edges, 2) for edges in boxes)
    share = len(shares) / (len(shares) + pixels) if shares else 0.0
    if _MIXED < share < 1 - _MIXED:
        raise DataError(
            f"{path}: {len(shares)} boxes from 0 to 1 and {pixels} in pixels; write all of them in one unit"
        )
    return share >= 0.5 and any(edge != int(edge) for edges in shares for edge in edges)


def _unknown_columns(path: Path, separator: str) -> str:
    rows = _sample(path, separator)
    found = ", ".join(word or "(no name)" for word in rows[0][:20]) if rows else "none"
    return (
        f"{path}: cannot tell image, class and box by its columns. It has: {found[:400]}. Needed in the "
        "first line: filename (or image, path), class (or label), and for the box xmin, ymin, xmax, ymax "
        "(or x, y, width, height; or x_center, y_center, width, height; or bbox)"
    )
