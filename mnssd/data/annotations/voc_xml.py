"""The files of Pascal VOC's layout: one annotation, one list of images, one folder.

A folder holds ``JPEGImages/ID.jpg``, ``Annotations/ID.xml`` and ``ImageSets/Main/SPLIT.txt``. In the
annotations pixels are counted from 1 and both ends of a box belong to it; here they are counted from 0.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

import defusedxml.ElementTree
import numpy as np

from ...errors import DataError
from ..image import IMAGE_ENDINGS
from .annotation import AnnotationError, BoxError

LISTS = os.path.join("ImageSets", "Main")

# The largest annotation of VOC has 15 kB.
MAX_ANNOTATION_BYTES = 16 << 20

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LIST_LINE = re.compile(r"(.*?\S)\s+(?:-1|0|1)")


class Fault(NamedTuple):
    """An object that has no usable box: the kind of finding, why, and where in the file."""

    code: str
    text: str
    where: str


class VocAnnotation(NamedTuple):
    """What one annotation file says.

    Attributes
    ----------
    size : tuple of int or None
        ``(width, height)``; None when it is missing or not positive.
    names : list of str
        The class of each box, as written.
    boxes : list of tuple of float
        ``xmin, ymin, xmax, ymax`` in pixels counted from 0, not clipped; xmax > xmin, ymax > ymin.
    difficult : list of bool
    faults : list of Fault
        One for each object that has no usable box.
    """

    size: Optional[Tuple[int, int]]
    names: List[str]
    boxes: List[Tuple[float, ...]]
    difficult: List[bool]
    faults: List[Fault]


def read_annotation(path: Union[str, Path]) -> VocAnnotation:
    """Read one annotation.

    An object is a child ``object`` of the root; boxes of its ``part`` elements are none of ours.

    Raises
    ------
    AnnotationError
        When the file is missing, too large, not XML, or XML of another kind.
    """
    root, text = _parse(path)
    annotation = VocAnnotation(_size(root.find("size")), [], [], [], [])
    for number, element in enumerate(root.iterfind("object")):
        name = (element.findtext("name") or "").strip()
        try:
            if not name:
                raise BoxError("object-nameless", "an object without a name")
            box = _box(element.find("bndbox"), name)
        except BoxError as error:
            annotation.faults.append(Fault(error.code, str(error), _line_of_object(text, number)))
            continue
        annotation.names.append(name)
        annotation.boxes.append(box)
        annotation.difficult.append((element.findtext("difficult") or "").strip().lower() in ("1", "true"))
    return annotation


def write_annotation(
    path: Union[str, Path],
    image_file: str,
    size: Tuple[int, int],
    names: Sequence[str],
    boxes: Union[np.ndarray, Sequence[Sequence[float]]],
    difficult: Optional[Sequence[bool]] = None,
) -> None:
    """Write one annotation as the VOC devkit lays it out.

    Parameters
    ----------
    path : str or Path
        The XML file to write.
    image_file : str
        Name of the image file, without folder.
    size : tuple of int
        ``(width, height)`` in pixels.
    names : sequence of str
        The class of each box.
    boxes : array-like
        ``(N, 4)`` xmin, ymin, xmax, ymax in pixels counted from 0; 1 is added here. Whole numbers are
        written as such, others to nine decimals at most.
    difficult : sequence of bool, optional
        The VOC flag for each box; by default none is difficult.
    """
    folder = Path(path).absolute().parent.parent.name
    text = annotation_text(image_file, size, names, boxes, difficult, folder)
    Path(path).write_text(text, encoding="utf-8")


def annotation_text(
    image_file: str,
    size: Tuple[int, int],
    names: Sequence[str],
    boxes: Union[np.ndarray, Sequence[Sequence[float]]],
    difficult: Optional[Sequence[bool]] = None,
    folder: str = "",
) -> str:
    """What `write_annotation` writes; `folder` is the name of that of the dataset."""
    flags = [False] * len(names) if difficult is None else list(difficult)
    if not len(names) == len(boxes) == len(flags):
        raise ValueError(f"{len(names)} names, {len(boxes)} boxes and {len(flags)} difficult flags")
    lines = [
        "<annotation>",
        f"\t<folder>{escape(folder)}</folder>",
        f"\t<filename>{escape(image_file)}</filename>",
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


def read_list(path: Union[str, Path], known: Dict[str, str]) -> List[str]:
    """Read a list of image ids, one a line; blank lines are allowed.

    The lists of a single class have a column with -1, 0 or 1 behind the id; it is cut off, unless the
    whole line is the id of an image.

    Parameters
    ----------
    path : str or Path
        ``ImageSets/Main/SPLIT.txt``.
    known : dict
        The ids that there are images of, as from `image_files`.

    Raises
    ------
    DataError
        When the file cannot be read or a line holds a path: an id must not lead out of the dataset.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of image ids ({error})") from error
    ids = []
    for number, line in enumerate(lines, 1):
        image_id = line.strip()
        if image_id and image_id not in known:
            match = _LIST_LINE.fullmatch(image_id)
            image_id = match.group(1) if match else image_id
        if image_id in (".", "..") or any(sign in image_id for sign in "/\\\0"):
            raise DataError(
                f"{path}, line {number}: {image_id!r} is a path; write image ids there, which are the names "
                "of the files in JPEGImages without their ending"
            )
        if image_id:
            ids.append(image_id)
    return ids


def image_files(folder: Union[str, Path]) -> Dict[str, str]:
    """Map the ids of all images in ``folder/JPEGImages`` to their file names."""
    found: Dict[str, Tuple[int, str]] = {}
    for name in os.listdir(os.path.join(folder, "JPEGImages")):
        image_id, ending = os.path.splitext(name)
        if ending.lower() in IMAGE_ENDINGS:
            rank = (IMAGE_ENDINGS.index(ending.lower()), name)
            found[image_id] = min(rank, found.get(image_id, rank))
    return {image_id: name for image_id, (_, name) in found.items()}


def missing_folders(folder: Union[str, Path]) -> List[str]:
    """Which of the three folders of the layout are not there."""
    return [
        name for name in ("Annotations", "JPEGImages", LISTS) if not os.path.isdir(os.path.join(folder, name))
    ]


def split_names(folder: Union[str, Path]) -> List[str]:
    """The lists of a folder, those of single classes (``cat_train``) left out where ``train`` is there."""
    lists = os.path.join(folder, LISTS)
    names = {os.path.splitext(name)[0] for name in os.listdir(lists) if name.endswith(".txt")}
    return sorted(name for name in names if not ("_" in name and name.rsplit("_", 1)[1] in names))


def is_complete(folder: Union[str, Path], split: str) -> bool:
    """Whether the list is there, and the image and annotation of every line of it."""
    path = os.path.join(folder, LISTS, f"{split}.txt")
    if missing_folders(folder) or not os.path.isfile(path):
        return False
    images = image_files(folder)
    annotations = set(os.listdir(os.path.join(folder, "Annotations")))
    ids = read_list(path, images)
    return bool(ids) and all(image_id in images and f"{image_id}.xml" in annotations for image_id in ids)


def _line_of_object(text: bytes, number: int) -> str:
    """Where the object begins, the first of them being number 0; comments and parts are looked past."""
    plain = re.sub(
        rb"<!--.*?-->|<part>.*?</part>", lambda match: b"\n" * match[0].count(b"\n"), text, flags=re.S
    )
    starts = [match.start() for match in re.finditer(rb"<object[\s>]", plain)]
    return f"line {plain.count(bytes([10]), 0, starts[number]) + 1}" if number < len(starts) else ""


def _parse(path: Union[str, Path]) -> Tuple[Element, bytes]:
    try:
        if os.path.getsize(path) > MAX_ANNOTATION_BYTES:
            raise AnnotationError("far too large for an annotation")
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise AnnotationError("the file is missing", "annotation-missing") from None
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}") from error
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except (ParseError, ValueError, LookupError) as error:  # ValueError: defusedxml's, and odd encodings
        raise AnnotationError(f"not XML that can be read: {error}") from error
    if root.tag != "annotation":
        raise AnnotationError(f"XML, but not a VOC annotation: its root is <{root.tag}>")
    return root, text


def _size(element: Optional[Element]) -> Optional[Tuple[int, int]]:
    if element is None:
        return None
    try:
        width, height = (int(float(element.findtext(side) or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(element: Optional[Element], name: str) -> Tuple[float, ...]:
    """The corners counted from 0; BoxError says what is wrong with them."""
    if element is None:
        raise BoxError("box-missing", f"{name} without a box")
    return box_of(name, [(element.findtext(corner) or "").strip() for corner in CORNERS])


def box_of(name: str, texts: Sequence[str]) -> Tuple[float, ...]:
    """Corners counted from 0, of an object's four texts, which count from 1.

    Raises
    ------
    BoxError
        It says what is wrong with them.
    """
    shown = f"{name} with {', '.join(f'{c} {t or None}' for c, t in zip(CORNERS, texts))}"
    try:
        corners = [float(text) for text in texts]
    except ValueError:
        raise BoxError("box-not-numbers", f"{shown}: not numbers") from None
    xmin, ymin, xmax, ymax = corners
    if not all(math.isfinite(corner) for corner in corners):
        raise BoxError("box-not-finite", f"{shown}: not finite")
    if all(0 <= corner <= 1 for corner in corners) and xmax > xmin and ymax > ymin:
        raise BoxError("boxes-as-shares", f"{shown}: shares of the sides, it seems; these boxes are pixels")
    if xmax < xmin or ymax < ymin:
        raise BoxError("box-inverted", f"{shown}: inverted")
    if xmax == xmin or ymax == ymin:
        # One column or row of pixels in VOC's terms: nothing a detector of boxes can learn from, and
        # the logarithm of its side is -inf.
        raise BoxError("box-without-area", f"{shown}: no area")
    return (xmin - 1, ymin - 1, xmax - 1, ymax - 1)
