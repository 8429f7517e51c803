"""CVAT's format "CVAT for images": one XML file with many images.

Coordinates are continuous, from the left and upper edge of the image: columns 3 to 7 have ``xtl`` 3 and
``xbr`` 8, here xmin 3 and xmax 7. Polygons, masks, ellipses and cuboids are read as their bounding boxes.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple
from xml.etree.ElementTree import Element

from ...errors import DataError
from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject, parse_size
from ..annotations.paths import ImageFinder, unique_ids
from ..annotations.roles import role_of
from ..annotations.text_files import class_name
from ..annotations.xml_files import XmlFile, parse_xml, starts_with_tag
from . import Format, formats

ALL = "all"
"""Name of the list of a file whose images have no subset."""

_MAX_BYTES = 1 << 29
_MAX_NAME = 100  # of a list, which may be the name of a folder
_SHAPES = ("box", "polygon", "mask", "ellipse", "cuboid", "polyline", "points", "skeleton")

_Point = Tuple[float, float]


class _Image(NamedTuple):
    """An image element, with the file that it is in."""

    file: str
    name: str
    size: Optional[Size]
    shapes: List[Element]


class _Content(NamedTuple):
    """What one file has: labels, and images by list."""

    labels: Tuple[str, ...]
    lists: Dict[str, List[_Image]]


class CvatFormat(Format):
    """CVAT for images."""

    name = "cvat"
    description = "CVAT for images: one XML file with many images"
    layout = "annotations.xml of the export 'CVAT for images', with its images"
    contents = "CVAT XML"
    priority = 25
    copies_as = "coco"

    def lists(self, root: Path) -> Dict[str, Any]:
        """Lists by name, each with its images: by subset, task or file."""
        return {name: images for name, images in self._read(root)[1].items() if images}

    def evidence(self, root: Path) -> str:
        return super().evidence(root) if _files(root) else ""

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        images, result = self.place(root, split), AnnotationList()
        by_name: Dict[str, List[_Image]] = {}
        for image in images:
            by_name.setdefault(image.name, []).append(image)
        ids = unique_ids(list(by_name))
        folders = ("images", f"images/{split}", split, "", "images/default", "data")
        bases = [root / folder for folder in folders] + [Path(image.file).parent for image in images[:1]]
        finder = ImageFinder(root, bases, split)
        for name, entries in by_name.items():
            file = entries[0].file
            try:
                if len({entry.size for entry in entries}) > 1:
                    raise AnnotationError("several images with this name, of different sizes")
                path, objects = finder.find(name), _objects(entries, result)
                result.add(ids[name], path, file, entries[0].size, objects, name)
            except AnnotationError as error:
                result.skip(error, file, name)
        result.check_skipped(f"{root}, list {split}", len(by_name))
        result.declared = self._read(root)[0]
        return result

    def _read(self, root: Path) -> _Content:
        """Labels and lists of all files."""
        labels: Dict[str, None] = {}
        lists: Dict[str, List[_Image]] = {}
        files = _files(root)
        for path in files:
            status = path.stat()
            content = _read_file(str(path), status.st_mtime_ns, status.st_size)
            labels.update(dict.fromkeys(content.labels))
            for name, images in content.lists.items():
                if name == ALL and len(files) > 1:
                    name = path.stem if path.parent in (root, root / "annotations") else path.parent.name
                lists.setdefault(name, []).extend(images)
        return _Content(tuple(labels), lists)


def _files(root: Path) -> List[Path]:
    """CVAT's XML files in a folder, its ``annotations``, or folders of lists and tasks."""
    places = [root.glob("*"), (root / "annotations").glob("*"), root.glob("*/annotations.xml")]
    paths = {path for place in places for path in place if path.suffix.lower() == ".xml"}
    return [path for path in sorted(paths) if not path.name.startswith("._") and _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    tags = ("version", "meta", "image", "track")
    return (
        path.is_file()
        and starts_with_tag(path, "annotations")
        and any(starts_with_tag(path, t) for t in tags)
    )


@lru_cache(maxsize=4)
def _read_file(path: str, _time: int, _bytes: int) -> _Content:
    """Content of a file, remembered until the file changes; raises DataError if it is damaged."""
    try:
        file = parse_xml(path, _MAX_BYTES)
    except AnnotationError as error:
        raise DataError(f"{path}: {error}") from error
    root = file.root
    if root.tag != "annotations":
        raise DataError(f"{path}: not in CVAT's format: expected <annotations>, got <{root.tag}>")
    if root.find("track") is not None:
        raise DataError(
            f"{path}: tracks of a video; export the task as 'CVAT for images 1.1' or COCO, with its images"
        )
    subset = root.findtext("meta/task/subset", "").strip()
    tasks = {
        task.findtext("id", "").strip(): task.findtext("subset", "").strip()
        or task.findtext("name", "").strip()
        for task in root.iterfind("meta/project/tasks/task")
    }
    lists: Dict[str, List[_Image]] = {}
    for element in root.iterfind("image"):
        own = element.get("subset", "").strip() or subset
        task = tasks.get(element.get("task_id", "").strip(), "")
        name = own or (task if role_of(task) else "")
        name = ALL if name.lower() in ("", "default") else re.sub(r"[+:,/\\]", "-", name)[:_MAX_NAME]
        lists.setdefault(name, []).append(_image(path, element))
    labels = tuple(
        class_name(label.findtext("name", ""))
        for label in root.iterfind("meta/*/labels/label")
        if not label.findtext("parent", "").strip()  # a point of a skeleton
    )
    _check_encoding(file, lists, labels)
    return _Content(tuple(filter(None, labels)), lists)


def _image(path: str, element: Element) -> _Image:
    size = parse_size(element.get("width"), element.get("height"))
    shapes = [shape for shape in element if shape.tag in _SHAPES]
    return _Image(path, element.get("name", "").strip(), size, shapes)


def _check_encoding(file: XmlFile, lists: Dict[str, List[_Image]], labels: Sequence[str]) -> None:
    images = [image for entries in lists.values() for image in entries]
    names = [*labels, *(image.name for image in images)]
    names += [shape.get("label", "") for image in images for shape in image.shapes]
    doubtful = next((name for name in names if not file.is_certain(name)), None)
    if doubtful is not None:
        raise DataError(
            f"{file.path}: the encoding of {doubtful!r} is unknown: the file is not in UTF-8 and declares no "
            "other encoding that fits; save it as UTF-8"
        )


def _objects(images: Sequence[_Image], result: AnnotationList) -> List[BoxObject]:
    """Objects of an image; invalid ones become findings."""
    objects = []
    for image in images:
        for number, shape in enumerate(image.shapes, 1):
            label = class_name(shape.get("label", ""))
            try:
                if not label:
                    raise BoxError("object-without-class", f"{shape.tag} without a label")
                objects.append(BoxObject(label, _box(label, shape)))
            except BoxError as error:
                result.findings.add(error.code, image.file, str(error), f"{image.name}, shape {number}")
    return objects


def _box(label: str, shape: Element) -> Tuple[float, float, float, float]:
    """Bounding box of a shape, in pixels counted from 0; raises BoxError if it has none."""
    if shape.tag in ("polyline", "points", "skeleton"):
        raise BoxError("box-missing", f"{label}: CVAT's {shape.tag}, which has no box")
    try:
        points = _points(shape)
    except BoxError:
        raise
    except ValueError:
        raise BoxError("box-not-numeric", f"{label}: {shape.tag} whose coordinates are not numbers") from None
    if not points:
        raise BoxError("polygon-invalid", f"{label}: {shape.tag} without points")
    if not all(math.isfinite(value) and abs(value) < 1e9 for point in points for value in point):
        raise BoxError("box-not-finite", f"{label}: {shape.tag} whose coordinates are not finite")
    left, top = (min(point[axis] for point in points) for axis in (0, 1))
    right, bottom = (max(point[axis] for point in points) for axis in (0, 1))
    shown = f"{label}: {shape.tag} from {left:g}, {top:g} to {right:g}, {bottom:g}"
    if right <= 1 and bottom <= 1 and min(left, top) >= 0 and right > left and bottom > top:
        raise BoxError("boxes-normalized", f"{shown}, which appears normalized; expected pixels")
    if right - left <= 1 or bottom - top <= 1:  # a single column or row of pixels
        raise BoxError("box-without-area", f"{shown}, no area")
    return left, top, right - 1, bottom - 1


def _points(shape: Element) -> List[_Point]:
    """Points whose bounding box is that of the shape; ValueError if a number is missing."""

    def values(*names: str) -> List[float]:
        return [float(shape.get(name, "")) for name in names]

    if shape.tag == "box":
        left, top, right, bottom = values("xtl", "ytl", "xbr", "ybr")
        if right < left or bottom < top:
            raise BoxError("box-inverted", f"{shape.get('label')}: box from {left:g}, {top:g}: inverted")
        center = (left + right) / 2, (top + bottom) / 2
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return _rotate(corners, center, math.radians(float(shape.get("rotation") or 0)))
    if shape.tag == "mask":
        left, top, width, height = values("left", "top", "width", "height")
        return [(left, top), (left + width, top + height)]
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = values("cx", "cy", "rx", "ry")
        angle = math.radians(float(shape.get("rotation") or 0))
        cos, sin = math.cos(angle), math.sin(angle)
        right, below = math.hypot(radius_x * cos, radius_y * sin), math.hypot(radius_x * sin, radius_y * cos)
        return [(x - right, y - below), (x + right, y + below)]
    if shape.tag == "cuboid":
        corners = re.findall(r"x([a-z]{2}\d)", " ".join(shape.keys()))
        return [(xy[0], xy[1]) for xy in (values(f"x{corner}", f"y{corner}") for corner in corners)]
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError
    return [(float(x), float(y)) for x, y in pairs]


def _rotate(points: Sequence[_Point], center: _Point, angle: float) -> List[_Point]:
    """Points turned around a center; exactly the same ones for no angle."""
    if not angle:
        return list(points)
    (x0, y0), cos, sin = center, math.cos(angle), math.sin(angle)
    return [(x0 + (x - x0) * cos - (y - y0) * sin, y0 + (x - x0) * sin + (y - y0) * cos) for x, y in points]


formats.register(CvatFormat.name, CvatFormat())
