"""What the columns of a CSV table are, judged by their names or, without names, by their values."""

from __future__ import annotations

import re
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

CORNERS, CORNER_AND_SIZE, CENTER_AND_SIZE, VERTICES, REGION = (
    "corners", "corner and size", "center and size", "vertices", "region",
)  # fmt: skip

TUTORIAL_COLUMNS = ("filename", "class", "xmin", "ymin", "xmax", "ymax")
"""Columns of TensorFlow's tutorials, in which pixels are counted from 1."""

_IMAGE = (
    "filename", "filepath", "imagefilename", "imgfilename", "imagepath", "imgpath", "path", "imagefile",
    "imgfile", "file", "imagename", "imgname", "image", "img", "imageuri", "uri", "imageurl", "url",
    "imageid", "imgid", "frame",
)  # fmt: skip
_CLASS = (
    "classname", "labelname", "categoryname", "class", "objectclass", "classlabel", "label", "category",
    "objectname", "object", "name", "classid", "labelid", "categoryid",
)  # fmt: skip
_LEFT = ("xmin", "x1", "left", "minx", "xleft", "leftx", "xtl", "topleftx", "xstart", "startx")
_TOP = ("ymin", "y1", "top", "miny", "ytop", "topy", "ytl", "toplefty", "ystart", "starty")
_RIGHT = ("xmax", "x2", "right", "maxx", "xright", "rightx", "xbr", "bottomrightx", "xend", "endx")
_BOTTOM = ("ymax", "y2", "bottom", "maxy", "ybottom", "bottomy", "ybr", "bottomrighty", "yend", "endy")
_CENTER_X = ("xcenter", "centerx", "xcentre", "centrex", "cx", "xc")
_CENTER_Y = ("ycenter", "centery", "ycentre", "centrey", "cy", "yc")
_WIDTH, _HEIGHT = ("w", "width"), ("h", "height")  # w is the box's if a table has both
_BOX = ("bbox", "boundingbox", "bndbox", "box")
_BOX_PREFIXES = ("bbox", "box", "bndbox", "boundingbox", "rect", "")
_IMAGE_PREFIXES = ("image", "img", "im", "original", "")
_DIFFICULT = ("difficult", "isdifficult", "isgroupof", "iscrowd", "crowd")
_SET = ("set", "split", "subset", "mluse", "usage", "partition", "datasetsplit", "datasplit")
_NO_CLASS = frozenset(
    ("source", "index", "unnamed0", "", "area", "confidence", "score", "id", "boxid", "bboxid", "objectid",
     "annotationid", "truncated", "occluded", "depth", "date", "timestamp", "width", "height", "w", "h",
     "imagewidth", "imageheight", "imgwidth", "imgheight", "fold")
)  # fmt: skip
"""Columns that cannot have the class: a table of these and a box has objects of one class."""

_FILE_NAME = re.compile(r".*\.[A-Za-z]\w{1,4}")
_AUTOML_SETS = ("train", "training", "validate", "validation", "test", "unassigned", "")


class TableLayout(NamedTuple):
    """Positions of the columns of a table.

    Attributes
    ----------
    image : int
    label : int or None
        Column of the class; None if the objects have one class.
    box : tuple of int
        Columns of the box: four, one with all four numbers, eight of four vertices, or VIA's two.
    kind : str
        What the numbers of a box are.
    size : tuple of int
        Columns of the image's width and height, if there are any.
    difficult, split : int or None
        Columns of the flag for difficult objects, and of the list that the image belongs to.
    header : bool
        Whether the first line has the names of the columns.
    from_one : bool
        Whether pixels are counted from 1 and both ends of a box are inclusive.
    """

    image: int
    label: Optional[int]
    box: Tuple[int, ...]
    kind: str
    size: Tuple[int, ...] = ()
    difficult: Optional[int] = None
    split: Optional[int] = None
    header: bool = True
    from_one: bool = False


def plain_word(word: str) -> str:
    """A column's name in lower case, without signs: ``x_min`` and ``X Min`` are ``xmin``."""
    return re.sub(r"[^a-z0-9]+", "", word.lower())


def named_layout(words: Sequence[str]) -> Optional[TableLayout]:
    """Layout of a table by the names of its columns; None if they do not tell image, class and box."""
    columns = _columns(words)
    if {"filename", "regionshapeattributes", "regionattributes"} <= set(columns):
        region = (columns["regionshapeattributes"], columns["regionattributes"])
        return TableLayout(columns["filename"], None, region, REGION)
    kind, box = _box(columns)
    if not kind:
        return None
    used: Set[int] = set(box)
    label = _find(columns, _CLASS, used)
    image = _find(columns, _IMAGE, used)
    if image is None and "name" in columns:  # the name of the image
        image = columns["name"]
        label = _find(columns, [word for word in _CLASS if word != "name"], used)
    if image is None:
        return None
    sides = [_find(columns, names, used, _IMAGE_PREFIXES) for names in (_WIDTH, _HEIGHT)]
    size = tuple(side for side in sides if side is not None)
    split, difficult = _find(columns, _SET, used), _find(columns, _DIFFICULT, used)
    used.update(index for index in (image, label, split, difficult, *size) if index is not None)
    if label is None and any(word not in _NO_CLASS for word, index in columns.items() if index not in used):
        return None
    from_one = {word.strip().lower() for word in words} >= set(TUTORIAL_COLUMNS)
    size = size if len(size) == 2 else ()
    return TableLayout(image, label, box, kind, size, difficult, split, True, from_one)


def unnamed_layout(rows: Sequence[Sequence[str]]) -> Optional[TableLayout]:
    """Layout of a table without names of columns: keras-retinanet's or AutoML's; None if it is neither."""
    rows = [row for row in rows if row]
    for layout, matches in (
        (TableLayout(0, 5, (1, 2, 3, 4), CORNERS, header=False), _is_retinanet),
        (TableLayout(0, 5, (1, 2, 3, 4), CORNERS, (6, 7), header=False), _is_sku),
        (TableLayout(1, 2, tuple(range(3, 11)), VERTICES, split=0, header=False), _is_automl),
        (TableLayout(0, 1, tuple(range(2, 10)), VERTICES, header=False), _is_automl_without_set),
    ):
        if rows and 2 * sum(map(matches, rows)) > len(rows):
            return layout
    return None


def resembles_table(rows: Sequence[Sequence[str]]) -> bool:
    """Whether columns for images and parts of boxes were found, or images and four numbers in each line."""
    columns = _columns(rows[0]) if rows else {}
    if _find(columns, _IMAGE) is not None or "name" in columns:
        words = (_LEFT, _TOP, _RIGHT, _BOTTOM, (*_CENTER_X, "x"), (*_CENTER_Y, "y"))
        parts = sum(_find(columns, names, (), _BOX_PREFIXES) is not None for names in words)
        return parts >= 2 or any(word in columns for word in (*_BOX, "boxes", "bboxes"))
    return bool(rows) and all(
        sum(map(is_number, row)) >= 4 and any(map(_FILE_NAME.fullmatch, row)) for row in rows if row
    )


def is_number(text: str) -> bool:
    """Whether a text is a number, with a point or a comma."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _columns(words: Sequence[str]) -> Dict[str, int]:
    """Positions by plain name; of several with one name the first."""
    columns: Dict[str, int] = {}
    for index, word in enumerate(words):
        columns.setdefault(plain_word(word), index)
    return columns


def _find(
    columns: Dict[str, int], names: Sequence[str], used: Collection[int] = (), prefixes: Sequence[str] = ("",)
) -> Optional[int]:
    """Position of the first of `names`, with one of the prefixes, that is not among the `used` positions."""
    for prefix in prefixes:
        for name in names:
            index = columns.get(prefix + name)
            if index is not None and index not in used:
                return index
    return None


def _box(columns: Dict[str, int]) -> Tuple[str, Tuple[int, ...]]:
    """Kind and columns of the box; an empty kind if there is none."""
    choices: List[Tuple[str, Tuple[Sequence[str], ...]]] = [
        (CORNERS, (("x0",), ("y0",), ("x1",), ("y1",))),
        (CORNERS, (_LEFT, _TOP, _RIGHT, _BOTTOM)),
        (CENTER_AND_SIZE, (_CENTER_X, _CENTER_Y, _WIDTH, _HEIGHT)),
        (CORNER_AND_SIZE, (("x", *_LEFT), ("y", *_TOP), _WIDTH, _HEIGHT)),
        (CORNERS, (_BOX,)),
    ]
    for kind, parts in choices:
        found = [_find(columns, names, (), _BOX_PREFIXES) for names in parts]
        box = tuple(index for index in found if index is not None)
        if len(box) == len(parts):
            return (CORNER_AND_SIZE if parts == (_BOX,) else kind), box
    return "", ()


def _is_retinanet(row: Sequence[str], columns: int = 6) -> bool:
    box, rest = row[1:5], [word for word in row[columns:] if word]
    is_box = all(map(is_number, box)) and bool(row[5:6]) and not is_number(row[0])
    is_empty = not any(row[1:6]) and len(row) >= 6
    return bool(_FILE_NAME.fullmatch(row[0])) and len(box) == 4 and (is_box or is_empty) and not rest


def _is_sku(row: Sequence[str]) -> bool:
    """SKU-110K: keras-retinanet's columns and the size of the image."""
    return len(row) == 8 and all(map(is_number, row[6:])) and _is_retinanet(row, 8)


def _is_automl(row: Sequence[str]) -> bool:
    return row[0].lower() in _AUTOML_SETS and _is_automl_without_set(row[1:])


def _is_automl_without_set(row: Sequence[str]) -> bool:
    if not row or not _FILE_NAME.fullmatch(row[0]):
        return False
    vertices = row[2:10]
    is_box = len(vertices) >= 6 and all(is_number(vertices[i]) for i in (0, 1, 4, 5))
    others = [word for word in (*vertices, *row[10:]) if word]
    return (is_box and all(map(is_number, others))) or (not others and len(row) >= 10)
