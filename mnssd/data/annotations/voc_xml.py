"""XML annotations of Pascal VOC, one file per image.

In annotations pixels are counted from 1 and both ends of a box are inclusive; here they are counted from 0.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import numpy as np

from ...files import escape_name
from ...options import Size
from ..findings import Finding
from .annotation import AnnotationError, BoxError, BoxObject, parse_size
from .text_files import MAX_ANNOTATION_BYTES, class_name
from .xml_files import XmlFile, parse_xml, read_bytes, starts_with_tag

PathLike = Union[str, Path]

CORNERS = ("xmin", "ymin", "xmax", "ymax")

# Characters that XML cannot hold, or that readers drop; also all controls, and bytes that are not UTF-8.
_NOT_IN_XML = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]|^\s|\s$")

_PART = re.compile(rb"<part>.*?</part>", re.DOTALL)
_OBJECT = re.compile(rb"<object\b(.*?)</object>", re.DOTALL)
_NAME = re.compile(rb"<name>(.*?)</name>", re.DOTALL)


class VocAnnotation(NamedTuple):
    """Content of one annotation file.

    The boxes of `objects` are not clipped, but xmax > xmin and ymax > ymin; `invalid` has the other objects.
    `files` are the names of the image in ``<filename>`` and ``<path>``; they may be percent-encoded.
    """

    size: Optional[Size]  # None if it is missing or cannot be right
    objects: List[BoxObject]
    invalid: List[Finding]
    files: Tuple[str, ...] = ()


def read_annotation(path: PathLike) -> VocAnnotation:
    """Read an annotation file; boxes of an object's ``part`` elements are ignored.

    An object without ``bndbox`` has the box of its polygon (LabelMe) or rotated box (roLabelImg).
    Raises AnnotationError if the file is missing, too large, not XML, or not a VOC annotation.
    """
    file = parse_xml(path, MAX_ANNOTATION_BYTES)
    root = file.root
    if root.tag != "annotation":
        raise AnnotationError(f"not a VOC annotation: expected <annotation>, got <{root.tag}>")
    names = (_text(root, "filename"), os.path.basename(_text(root, "path").replace("\\", "/")))
    size = parse_size(root.findtext("size/width"), root.findtext("size/height"))
    files = dict.fromkeys(name for name in names if name and file.is_certain(name))
    annotation = VocAnnotation(size, [], [], tuple(files))
    for number, element in enumerate(root.findall("object") or root.findall("objects/object")):
        if parse_flag(element.findtext("deleted", "")):  # LabelMe keeps deleted objects
            continue
        difficult = parse_flag(element.findtext("difficult", ""))
        try:
            name = _class_of(element, file)
            boxes = list(_corner_texts(name, element))
        except BoxError as error:
            boxes = []
            _add_invalid(annotation, error, file, number)
        for texts in boxes:
            try:
                annotation.objects.append(BoxObject(name, parse_box(name, texts), difficult))
            except BoxError as error:
                _add_invalid(annotation, error, file, number)
    return annotation


def object_names(path: PathLike) -> Set[str]:
    """Names of the objects in an annotation, found without parsing it: six times as fast.

    Raises AnnotationError as `read_annotation` does, but not if the file is damaged.
    """
    text = _PART.sub(b"", read_bytes(path, MAX_ANNOTATION_BYTES))
    names = (_NAME.search(match[1]) for match in _OBJECT.finditer(text))
    return {class_name(name[1].decode("utf-8", "replace")) if name else "" for name in names}


def looks_like_annotation(path: PathLike) -> bool:
    """Whether a file starts as a VOC annotation does, in any encoding."""
    return starts_with_tag(path, "annotation")


def write_annotation(
    path: PathLike,
    image_file: str,
    size: Size,
    names: Sequence[str],
    boxes: Union[np.ndarray, Sequence[Sequence[float]]],
    difficult: Optional[Sequence[bool]] = None,
) -> None:
    """Write an annotation file in the layout of the VOC devkit; see `annotation_text`."""
    folder = Path(path).absolute().parent.parent.name
    text = annotation_text(image_file, size, names, boxes, difficult, folder)
    Path(path).write_text(text, encoding="utf-8")


def annotation_text(
    image_file: str,
    size: Size,
    names: Sequence[str],
    boxes: Union[np.ndarray, Sequence[Sequence[float]]],
    difficult: Optional[Sequence[bool]] = None,
    folder: str = "",
) -> str:
    """Text of an annotation file.

    Parameters
    ----------
    image_file, folder : str
        Name of the image file, without folder, and of the dataset's folder. What XML cannot hold is
        percent-encoded; see `files.escape_name`.
    size : tuple of int
        ``(width, height)`` in pixels.
    names : sequence of str
        Class of each box.
    boxes : array-like
        ``(N, 4)`` xmin, ymin, xmax, ymax in pixels counted from 0; 1 is added here. Values are written with
        up to ten significant digits.
    difficult : sequence of bool, optional
        VOC's flag for each box; defaults to False.
    """
    flags = [False] * len(names) if difficult is None else list(difficult)
    if not len(names) == len(boxes) == len(flags):
        raise ValueError(f"{len(names)} names, {len(boxes)} boxes and {len(flags)} difficult flags")
    lines = [
        "<annotation>",
        f"\t<folder>{_escape_file(folder)}</folder>",
        f"\t<filename>{_escape_file(image_file)}</filename>",
        f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>",
        "\t<segmented>0</segmented>",
    ]
    for name, box, flag in zip(names, boxes, flags):
        corners = "".join(f"<{tag}>{float(v) + 1:.10g}</{tag}>" for tag, v in zip(CORNERS, box))
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(name)}</name>",
            "\t\t<pose>Unspecified</pose>",
            "\t\t<truncated>0</truncated>",
            f"\t\t<difficult>{int(flag)}</difficult>",
            f"\t\t<bndbox>{corners}</bndbox>",
            "\t</object>",
        ]
    return "\n".join(lines) + "\n</annotation>\n"


def _escape_file(name: str) -> str:
    return escape(escape_name(name, _NOT_IN_XML))


def _add_invalid(annotation: VocAnnotation, error: BoxError, file: XmlFile, number: int) -> None:
    where = file.line_of("object", number)
    annotation.invalid.append(Finding(error.code, file.path, where, str(error)))


def _class_of(element: Element, file: XmlFile) -> str:
    name = class_name(element.findtext("name", ""))
    if not name:
        raise BoxError("object-without-class", "object without a name")
    if not file.is_certain(name):
        raise AnnotationError(
            f"the encoding of the class {name!r} is unknown: the file is not in UTF-8 and declares no other "
            "encoding that fits; save it as UTF-8"
        )
    return name


def _text(element: Element, tag: str) -> str:
    return element.findtext(tag, "").strip()


def _corner_texts(name: str, element: Element) -> Iterator[List[str]]:
    """Texts of xmin, ymin, xmax and ymax of each box of an object; BoxError if there is none."""
    boxes = element.findall("bndbox") or element.findall("segm/box")
    for box in boxes:
        yield [_text(box, corner) or box.get(corner, "").strip() for corner in CORNERS]
    if boxes:
        return
    polygon, rotated = element.find("polygon"), element.find("robndbox")
    if polygon is not None:
        xs, ys = _coordinates(polygon, "x"), _coordinates(polygon, "y")
        if not xs or not ys:
            raise BoxError("polygon-invalid", f"{name}: polygon without points")
    elif rotated is not None:
        xs, ys = _rotated_box(name, rotated)
    else:
        raise BoxError("box-missing", f"{name}: no box")
    try:
        corners = (min(map(float, xs)), min(map(float, ys)), max(map(float, xs)), max(map(float, ys)))
    except ValueError:
        raise BoxError("polygon-invalid", f"{name}: coordinates that are not numbers") from None
    if not all(math.isfinite(float(value)) for value in (*xs, *ys)):
        raise BoxError("box-not-finite", f"{name}: coordinates that are not finite")
    yield [repr(corner) for corner in corners]


def _coordinates(polygon: Element, axis: str) -> List[str]:
    """Texts of elements such as ``x`` in LabelMe's ``pt``, or ``x1`` and ``x2`` in Roboflow's polygons."""
    return [element.text or "" for element in polygon.iter() if re.fullmatch(rf"{axis}\d*", element.tag)]


def _rotated_box(name: str, element: Element) -> Tuple[List[str], List[str]]:
    """Ends of the upright box around roLabelImg's rotated one: center, sides, and angle in radians."""
    try:
        x, y, width, height, angle = (float(_text(element, tag)) for tag in ("cx", "cy", "w", "h", "angle"))
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    except ValueError:
        raise BoxError("box-not-numeric", f"{name}: rotated box without five numbers") from None
    right, below = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return [repr(x - right), repr(x + right)], [repr(y - below), repr(y + below)]


def parse_flag(text: str) -> bool:
    """Value of ``difficult``."""
    return text.strip().lower() in ("1", "true")


def parse_box(name: str, texts: Sequence[str]) -> Tuple[float, ...]:
    """Box counted from 0, given the four texts of an object's corners, which are counted from 1.

    Raises BoxError if it is invalid.
    """
    shown = f"{name} with {', '.join(f'{c} {t or None}' for c, t in zip(CORNERS, texts))}"
    try:
        corners = [float(text) for text in texts]
    except ValueError:
        raise BoxError("box-not-numeric", f"{shown}: not numbers") from None
    xmin, ymin, xmax, ymax = corners
    if not all(math.isfinite(corner) for corner in corners):
        raise BoxError("box-not-finite", f"{shown}: not finite")
    if all(0 <= corner <= 1 for corner in corners) and xmax > xmin and ymax > ymin:
        raise BoxError("boxes-normalized", f"{shown}: appears normalized; expected pixels")
    if xmax < xmin or ymax < ymin:
        raise BoxError("box-inverted", f"{shown}: inverted")
    if xmax == xmin or ymax == ymin:
        # A single column or row of pixels: the continuous box has no width, whose logarithm is the target.
        raise BoxError("box-without-area", f"{shown}: no area")
    return (xmin - 1, ymin - 1, xmax - 1, ymax - 1)
