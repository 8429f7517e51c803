"""Files of the Pascal VOC layout: XML annotations, lists of images, and the folders they are in.

A folder has ``JPEGImages/ID.jpg``, ``Annotations/ID.xml`` and ``ImageSets/Main/SPLIT.txt``. In annotations
pixels are counted from 1 and both ends of a box are inclusive; here they are counted from 0.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Container, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

import defusedxml.ElementTree
import numpy as np

from ...errors import DataError
from ...options import Size
from ..findings import Finding
from ..image import IMAGE_ENDINGS, PathLike
from .annotation import AnnotationError, BoxError, BoxObject, parse_size
from .text_files import MAX_ANNOTATION_BYTES, read_lines

LISTS = os.path.join("ImageSets", "Main")

CORNERS = ("xmin", "ymin", "xmax", "ymax")

# A line of the list of a single class, such as cat_train.txt: image id, and whether the class occurs.
_LIST_LINE = re.compile(r"(.*?\S)\s+(?:-1|0|1)")


class VocAnnotation(NamedTuple):
    """Content of one annotation file.

    The boxes of `objects` are not clipped, but xmax > xmin and ymax > ymin; `invalid` has the other objects.
    """

    size: Optional[Size]  # None if it is missing or cannot be right
    objects: List[BoxObject]
    invalid: List[Finding]


def read_annotation(path: PathLike) -> VocAnnotation:
    """Read an annotation file; boxes of an object's ``part`` elements are ignored.

    Raises AnnotationError if the file is missing, too large, not XML, or not a VOC annotation.
    """
    root, text = _parse(path)
    size = parse_size(root.findtext("size/width"), root.findtext("size/height"))
    annotation = VocAnnotation(size, [], [])
    for number, element in enumerate(root.iterfind("object")):
        name, corners = element.findtext("name", "").strip(), element.find("bndbox")
        try:
            if not name:
                raise BoxError("object-without-class", "object without a name")
            if corners is None:
                raise BoxError("box-missing", f"{name}: no box")
            box = parse_box(name, [corners.findtext(corner, "").strip() for corner in CORNERS])
        except BoxError as error:
            where = _line_of_object(text, number)
            annotation.invalid.append(Finding(error.code, str(path), where, str(error)))
            continue
        annotation.objects.append(BoxObject(name, box, parse_flag(element.findtext("difficult", ""))))
    return annotation


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
        Name of the image file, without folder, and of the dataset's folder.
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


def read_image_ids(path: Path, known: Container[str]) -> List[str]:
    """Image ids in a list file, ``ImageSets/Main/SPLIT.txt``, one per line; blank lines are ignored.

    The lists of single classes have a second column with -1, 0 or 1, which is removed unless the whole line
    is in `known`, the ids of the existing images. Raises DataError if the file is unreadable, or a line is a
    path: ids must not lead out of the dataset.
    """
    ids = []
    for number, image_id in read_lines(path, "image ids"):
        match = None if image_id in known else _LIST_LINE.fullmatch(image_id)
        image_id = match.group(1) if match else image_id
        if image_id in (".", "..") or any(sign in image_id for sign in "/\\\0"):
            raise DataError(
                f"{path}, line {number}: {image_id!r} is a path; expected an image id: the name of a file in "
                "JPEGImages without its ending"
            )
        ids.append(image_id)
    return ids


def image_files(folder: Path) -> Dict[str, str]:
    """Image ids to file names in ``folder/JPEGImages``; if an id has several files, the preferred ending."""
    files: Dict[str, str] = {}
    names = sorted(os.listdir(folder / "JPEGImages"))
    for ending in IMAGE_ENDINGS:
        for name in names:
            if name.lower().endswith(ending):
                files.setdefault(os.path.splitext(name)[0], name)
    return files


def missing_folders(folder: Path) -> List[str]:
    """Those of the three folders of the layout that do not exist."""
    return [name for name in ("Annotations", "JPEGImages", LISTS) if not (folder / name).is_dir()]


def list_files(folder: Path) -> Dict[str, Path]:
    """Lists by name, sorted, without those of single classes (``cat_train`` beside ``train``)."""
    files = {path.stem: path for path in (folder / LISTS).glob("*.txt")}
    names = (name for name in sorted(files) if "_" not in name or name.rsplit("_", 1)[1] not in files)
    return {name: files[name] for name in names}


def is_complete(folder: Path, split: str) -> bool:
    """Whether the list is readable, and the image and annotation of each of its lines exist."""
    path = folder / LISTS / f"{split}.txt"
    if missing_folders(folder) or not path.is_file():
        return False
    images = image_files(folder)
    annotations = set(os.listdir(folder / "Annotations"))
    try:
        ids = read_image_ids(path, images)
    except DataError:
        return False
    return bool(ids) and all(image_id in images and f"{image_id}.xml" in annotations for image_id in ids)


def _line_of_object(text: bytes, number: int) -> str:
    """Line of an object by its index; comments and the parts of objects are blanked out first."""
    hidden = re.compile(rb"<!--.*?-->|<part>.*?</part>", re.S)
    plain = hidden.sub(lambda match: b"\n" * match[0].count(b"\n"), text)
    starts = [match.start() for match in re.finditer(rb"<object[\s>]", plain)]
    return f"line {plain.count(bytes([10]), 0, starts[number]) + 1}" if number < len(starts) else ""


def _parse(path: PathLike) -> Tuple[Element, bytes]:
    try:
        if os.path.getsize(path) > MAX_ANNOTATION_BYTES:
            raise AnnotationError(
                f"larger than {MAX_ANNOTATION_BYTES >> 20} MiB, too large for an annotation"
            )
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise AnnotationError("no such file", "annotation-missing") from None
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror}") from error
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except (ParseError, ValueError, LookupError) as error:  # ValueError: entities, and unusual encodings
        raise AnnotationError(f"not valid XML: {error}") from error
    if root.tag != "annotation":
        raise AnnotationError(f"not a VOC annotation: expected <annotation>, got <{root.tag}>")
    return root, text


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
