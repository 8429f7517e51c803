"""Content of COCO's JSON files: images, categories and boxes, as the many tools that write them do."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from ...errors import DataError
from ...files import NAME_ERRORS
from ...options import Size
from ..findings import Findings
from .annotation import AnnotationError, BoxError, BoxObject, parse_size
from .coco_files import KEYS, other_format
from .coco_masks import mask_box, parse_number
from .paths import ImageFinder
from .text_files import class_name, open_text

Key = Union[int, str]
"""An id as compared here: a number if it is one, also as text."""


class CocoImage(NamedTuple):
    """An image: its name, and the ids and the different sizes of all its entries."""

    name: str
    ids: List[Key]
    sizes: List[Size]

    @property
    def size(self) -> Optional[Size]:
        """``(width, height)`` if it is stated, and everywhere the same."""
        return self.sizes[0] if len(self.sizes) == 1 else None

    def joined(self, other: CocoImage) -> CocoImage:
        """The image with the entries of `other`, another name of the same file."""
        sizes = list(dict.fromkeys(self.sizes + other.sizes))
        return CocoImage(self.name, list(dict.fromkeys(self.ids + other.ids)), sizes)

    def find(self, finder: ImageFinder, shared: Mapping[Key, Sequence[str]]) -> str:
        """Path of the image; raises AnnotationError if there is none, or one of its ids is in `shared`."""
        for key in self.ids:
            if key in shared:
                names = ", ".join(map(repr, shared[key][:3]))
                raise AnnotationError(f"image id {key!r} stands for several images: {names}")
        try:
            return finder.find(self.name)
        except AnnotationError as error:
            if error.code != "image-missing" or "." in self.name.replace("\\", "/").rpartition("/")[2]:
                raise
            return finder.find_stem(self.name)


def load(path: Path) -> Dict[str, Any]:
    """Content of a file; raises DataError, with what was found instead, if it is not in COCO's format."""
    try:
        with open_text(path, "JSON", errors=NAME_ERRORS) as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS):
        if not content["images"]:
            raise DataError(f"{path}: its list 'images' is empty")
        if content["annotations"] and all(_has(entry, "segments_info") for entry in content["annotations"]):
            raise DataError(f"{path}: panoptic segments; COCO's file instances_*.json with boxes is needed")
        return content
    expected = f"expected an object with the lists {', '.join(KEYS)}"
    other = other_format([path])
    if other:
        raise DataError(f"{other}; {expected}")
    found = f"an object with {', '.join(map(repr, list(content)[:10]))}" if _has(content) else "no object"
    annotations = content.get("annotations") if _has(content) else None
    if isinstance(annotations, list) and any(_has(entry, "caption") for entry in annotations):
        found = "captions, which have no boxes; COCO's file instances_*.json is needed"
    raise DataError(f"{path}: not in COCO format; {expected}, found {found}")


def _has(value: Any, key: Optional[str] = None) -> bool:
    """Whether `value` is an object with the key, or any object."""
    return isinstance(value, dict) and (key is None or key in value)


def parse_key(value: Any) -> Optional[Key]:
    """An id; None if it cannot be one. The text ``"7"`` and the number 7.0 are the id 7, ``"007"`` is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        value = value.strip()
        number = re.fullmatch(r"(0|-?[1-9][0-9]{0,17})(\.0+)?", value)
        return int(number[1]) if number else value or None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_categories(path: Path, content: Mapping[str, Any]) -> Dict[Key, str]:
    """Category ids to names, in the order of the ids.

    Raises DataError if an id has two names, or one name has several ids with different supercategories.
    """
    names: Dict[Key, str] = {}
    parents: Dict[str, str] = {}
    for entry in content["categories"]:
        key, raw = (parse_key(entry.get("id")), entry.get("name")) if _has(entry) else (None, None)
        name = class_name(raw) if isinstance(raw, (str, int)) and not isinstance(raw, bool) else ""
        if key is None or not name:
            raise DataError(f"{path}: category without id or name: {str(entry)[:80]}")
        parent = class_name(entry.get("supercategory") or "")
        if names.setdefault(key, name) != name:
            raise DataError(f"{path}: two categories with id {key!r}: {names[key]!r} and {name!r}")
        if parents.setdefault(name, parent) != parent:
            raise DataError(
                f"{path}: two categories {name!r}, with supercategories {parents[name]!r} and {parent!r}"
            )
        names[key] = name
    if not names:
        raise DataError(f"{path}: its list 'categories' is empty, so the classes have no names")
    return {key: names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))}


def declared_classes(
    content: Mapping[str, Any], categories: Mapping[Key, str]
) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Names of the classes, and those left out.

    Roboflow writes a category for the project, the supercategory of all others, that no annotation has. It
    is left out.
    """
    names = tuple(dict.fromkeys(categories.values()))
    keys = {parse_key(entry.get("category_id")) for entry in content["annotations"] if _has(entry)}
    used = {categories[key] for key in keys if key is not None and key in categories}
    parents = {class_name(entry["name"]): str(entry.get("supercategory")) for entry in content["categories"]}
    for name in names:
        others = {class_name(parents[other]) for other in names if other != name}
        if name not in used and others == {name} and parents[name].lower() in ("none", "", "null"):
            return tuple(other for other in names if other != name), (name,)
    return names, ()


def parse_images(
    path: Path, content: Mapping[str, Any], findings: Findings
) -> Tuple[List[CocoImage], Dict[Key, List[str]]]:
    """Images with a name and an id, one for each name; and the names for each id."""
    images: Dict[str, CocoImage] = {}
    names: Dict[Key, List[str]] = {}
    for position, entry in enumerate(content["images"]):
        where = f"image {position + 1}"
        name, key = (_image_name(entry), parse_key(entry.get("id"))) if _has(entry) else ("", None)
        if not name:
            findings.add("image-without-name", str(path), "", where)
            continue
        if key is None:
            findings.add("image-without-id", str(path), "", where)
            continue
        image = images.setdefault(name, CocoImage(name, [], []))
        if key in image.ids:
            findings.add("image-listed-twice", str(path), "", name)
        else:
            image.ids.append(key)
            names.setdefault(key, []).append(name)
        size = parse_size(entry.get("width"), entry.get("height"))
        if size is not None and size not in image.sizes:
            image.sizes.append(size)
    return list(images.values()), names


def _image_name(entry: Mapping[str, Any]) -> str:
    """File name of an image, or the path in its web address."""
    for key in ("file_name", "coco_url", "flickr_url"):
        value = entry.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            is_address = re.match("(https?|file|s3|gs)://", value, re.I)
            return urlsplit(value.strip()).path.lstrip("/") if is_address else value
    return ""


def parse_objects(
    path: Path,
    content: Mapping[str, Any],
    categories: Mapping[Key, str],
    sizes: Mapping[Key, Optional[Size]],
    findings: Findings,
) -> Dict[Key, List[BoxObject]]:
    """Image ids, the keys of `sizes`, to their valid objects; an annotation listed twice is used once."""
    objects: Dict[Key, List[BoxObject]] = {}
    first: Dict[Tuple[Key, Key, BoxObject], Any] = {}
    for position, entry in enumerate(content["annotations"]):
        where = f"annotation {position + 1}"
        try:
            image_id, box = _parse_object(entry, categories, sizes)
        except BoxError as error:
            findings.add(error.code, str(path), str(error), where)
            continue
        own_id = parse_key(entry.get("id"))
        if own_id is not None:
            same = first.setdefault((own_id, image_id, box), entry)
            if same is not entry and same == entry:
                findings.add("annotation-listed-twice", str(path), box.name, where)
                continue
        objects.setdefault(image_id, []).append(box)
    return objects


def _parse_object(
    entry: Any, categories: Mapping[Key, str], sizes: Mapping[Key, Optional[Size]]
) -> Tuple[Key, BoxObject]:
    """Image id and object of an entry of ``annotations``."""
    image_id = parse_key(entry.get("image_id")) if _has(entry) else None
    if image_id is None:
        raise BoxError("object-without-image", "no image id")
    category = parse_key(entry.get("category_id"))
    if category is None or category not in categories:
        raise BoxError("class-unknown", f"unknown category id {str(entry.get('category_id'))[:60]!r}")
    name = categories[category]
    if image_id not in sizes:
        raise BoxError("object-without-image", f"unknown image id {image_id!r}")
    x, y, width, height = _parse_box(entry, name, sizes[image_id])
    if min(width, height) > 0 and max(x, y, width, height) <= 1:
        raise BoxError("boxes-normalized", f"{name}: box appears normalized; COCO's boxes are in pixels")
    if width <= 1 or height <= 1:  # a single column or row of pixels, as in VOC's annotations
        code = "box-inverted" if min(width, height) < 0 else "box-without-area"
        raise BoxError(code, f"{name}: no area, width {width:g} and height {height:g}")
    return image_id, BoxObject(name, (x, y, x + width - 1, y + height - 1), _flag(entry.get("iscrowd")))


def _parse_box(entry: Mapping[str, Any], name: str, size: Optional[Size]) -> Sequence[float]:
    """``x, y, width, height`` of an object; of its segmentation if the box is missing or all zeros."""
    box = entry.get("bbox")
    if isinstance(box, str):
        box = re.split(r"\s*[,;]\s*|\s+", box.strip("[]() \t\r\n"))
        box = [] if box == [""] else box
    values = [parse_number(value) for value in box] if isinstance(box, list) else []
    if not any(values) and not any(value is None for value in values) and entry.get("segmentation"):
        return mask_box(entry["segmentation"], name, size)
    if not values:
        raise BoxError("box-missing", f"{name}: expected a box of four numbers, got {str(box)[:60]}")
    numbers = [value for value in values if value is not None]
    text = f"{name}: expected a box of four numbers, got {str(box)[:60]}"
    if len(values) != 4 or len(numbers) != 4:
        raise BoxError("box-not-numeric", text)
    if not all(math.isfinite(value) and abs(value) < 1e9 for value in numbers):
        raise BoxError("box-not-finite", text)
    return numbers


def _flag(value: Any) -> bool:
    """Value of ``iscrowd``."""
    number = parse_number(value)
    return bool(number) if number is not None else str(value).strip().lower() in ("true", "yes")


class CornerCheck:
    """Whether the boxes of a file are probably corners, although read as corner and size.

    That is, each box fits its image as two corners, and more than the share `limit` does not fit as corner
    and size.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._fit = limit, True
        self._outside = self._total = 0

    def add(self, objects: Iterable[BoxObject], size: Size) -> None:
        """Count the objects of an image."""
        for entry in objects if self._fit else ():
            left, top, right, bottom = entry.box
            width, height = right - left + 1, bottom - top + 1
            self._fit = -1 <= left < width <= size[0] + 1 and -1 <= top < height <= size[1] + 1
            self._outside += right > size[0] or bottom > size[1]
            self._total += 1

    @property
    def result(self) -> str:
        """What was found, for the user; empty if the boxes are probably no corners."""
        if not self._fit or self._outside <= self._limit * self._total:
            return ""
        return (
            f"{self._outside} of {self._total} boxes exceed their images as [x, y, width, height], and all "
            "fit as [xmin, ymin, xmax, ymax]"
        )
