"""COCO's JSON format.

A box is ``[x, y, width, height]`` in pixels: columns 3 to 7 have x 3 and width 5, here xmin 3 and xmax 7.
Crowds (``iscrowd``), whose detections COCO's metric ignores, are read as difficult objects.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ...errors import DataError
from ...files import atomic_write
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject, parse_size
from ..annotations.paths import ImageFinder, find_lists, unique_ids
from ..annotations.text_files import open_text
from ..dataset import Dataset
from ..findings import Finding, Findings
from . import Format, ImageFiles, difficult_notes, formats

LIST_FILE = "_annotations.coco.json"
"""File in a folder of each list, beside its images (Roboflow's layout)."""

MANY_CLIPPED = 0.2
"""Share of boxes outside their images above which they are probably corners, read as corner and size."""


class CocoFormat(Format):
    """COCO's JSON format."""

    name = "coco"
    description = "COCO JSON: one file per list, boxes as x, y, width, height"
    layout = f"COCO JSON files in the folder, in annotations/, or as */{LIST_FILE}"
    contents = "COCO JSON files"
    priority = 20

    def lists(self, root: Path) -> Dict[str, Any]:
        return find_lists(root, "*.json", "^instances_|(2017|2014)$", LIST_FILE, _is_coco)

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        path = self.place(root, split)
        content, result = _load(path), AnnotationList()
        categories = _categories(path, content)
        result.declared = tuple(categories.values())
        objects = _objects_by_image(path, content, categories, result.findings)
        images = _images(path, content, result.findings)
        ids = unique_ids([image["file_name"] for image in images])
        finder = ImageFinder.for_list(root, path, split)
        for image in images:
            name, size = image["file_name"], parse_size(image.get("width"), image.get("height"))
            try:
                boxes = objects.get(image["id"], [])
                result.add(ids[name], finder.find(name), str(path), size, boxes, name)
            except AnnotationError as error:
                result.skip(error, str(path), name)
        result.check_skipped(str(path), len(images))
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        (folder / "annotations").mkdir(exist_ok=True)
        for split, dataset in parts.items():
            write_coco(dataset, folder / "annotations" / f"instances_{split}.json", files[split])
        return difficult_notes(parts, "written as crowds (iscrowd)")

    def check(self, dataset: Dataset) -> Iterator[Finding]:
        codes = [finding.code for finding in dataset.findings]
        boxes = sum(len(sample.labels) for sample in dataset)
        outside = codes.count("box-clipped") + codes.count("box-outside")
        if outside > MANY_CLIPPED * (boxes + codes.count("box-outside")):
            text = f"{outside} of {boxes} exceed their images; COCO's boxes are [x, y, width, height]"
            yield Finding("boxes-as-corners", dataset.name, "", text)


def _is_coco(path: Path) -> bool:
    """Judged by the first and last 64 KiB, because a file may have hundreds of megabytes."""
    try:
        with open(path, "rb") as file:
            start = file.read(1 << 16)
            file.seek(max(0, path.stat().st_size - (1 << 16)))
            end = file.read()
    except OSError:
        return False
    return start.lstrip()[:1] == b"{" and any(b'"images"' in part for part in (start, end))


def _load(path: Path) -> Dict[str, Any]:
    try:
        with open_text(path, "JSON") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise DataError(f"{path}: not in COCO format; expected an object with the lists {', '.join(keys)}")
    return content


def _categories(path: Path, content: Mapping[str, Any]) -> Dict[int, str]:
    """Category ids to names, in the order of the ids."""
    names: Dict[int, str] = {}
    for entry in content["categories"]:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: category without id or name: {str(entry)[:80]}")
        if number in names or name.strip() in names.values():
            raise DataError(f"{path}: two categories with id {number} or name {name!r}")
        names[number] = name.strip()
    return {number: names[number] for number in sorted(names)}


def _images(path: Path, content: Mapping[str, Any], findings: Findings) -> List[Dict[str, Any]]:
    images: Dict[Any, Dict[str, Any]] = {}
    names = set()
    for position, entry in enumerate(content["images"]):
        where = f"image {position + 1}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            findings.add("image-without-name", str(path), "", where)
        elif not isinstance(entry.get("id"), (int, str)):
            findings.add("image-without-id", str(path), "", where)
        elif entry["id"] in images or entry["file_name"] in names:
            findings.add("image-listed-twice", str(path), "", entry["file_name"])
        else:
            images[entry["id"]] = entry
            names.add(entry["file_name"])
    return list(images.values())


def _objects_by_image(
    path: Path, content: Mapping[str, Any], categories: Mapping[int, str], findings: Findings
) -> Dict[Any, List[BoxObject]]:
    """Image ids to their valid objects."""
    objects: Dict[Any, List[BoxObject]] = {}
    ids = (entry.get("id") for entry in content["images"] if isinstance(entry, dict))
    image_ids = {number for number in ids if _is_key(number)}
    for position, entry in enumerate(content["annotations"]):
        try:
            image_id, box = _object(entry, categories)
            if image_id not in image_ids:
                raise BoxError("object-without-image", f"unknown image id {image_id!r}")
        except BoxError as error:
            findings.add(error.code, str(path), str(error), f"annotation {position + 1}")
            continue
        objects.setdefault(image_id, []).append(box)
    return objects


def _object(entry: Any, categories: Mapping[int, str]) -> Tuple[Any, BoxObject]:
    """Image id and object of an entry of ``annotations``."""
    if not isinstance(entry, dict) or not _is_key(entry.get("image_id")):
        raise BoxError("object-without-image", "no image id")
    category, box = entry.get("category_id"), entry.get("bbox")
    if not isinstance(category, int) or category not in categories:
        raise BoxError("class-unknown", f"unknown category id {category!r}")
    name = categories[category]
    if not (isinstance(box, list) and len(box) == 4 and all(_is_number(v) and abs(v) < 1e9 for v in box)):
        raise BoxError(_fault_of_box(box), f"{name}: expected a box of four numbers, got {str(box)[:60]}")
    x, y, width, height = map(float, box)
    if min(width, height) > 0 and max(box) <= 1:
        raise BoxError("boxes-normalized", f"{name}: box appears normalized; COCO's boxes are in pixels")
    if width <= 1 or height <= 1:  # a single column or row of pixels, as in VOC's annotations
        code = "box-inverted" if min(width, height) < 0 else "box-without-area"
        raise BoxError(code, f"{name}: no area, width {width:g} and height {height:g}")
    box_object = BoxObject(name, (x, y, x + width - 1, y + height - 1), bool(entry.get("iscrowd")))
    return entry["image_id"], box_object


def _fault_of_box(box: Any) -> str:
    if not isinstance(box, list) or not box:
        return "box-missing"
    return "box-not-finite" if len(box) == 4 and all(map(_is_number, box)) else "box-not-numeric"


def _is_key(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def write_coco(dataset: Dataset, path: Path, files: Mapping[str, str]) -> None:
    """Write a dataset as one JSON file; difficult objects become crowds.

    `files` are file names by image id, relative to the dataset's folder or its ``images``.
    """
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for number, sample in enumerate(dataset, 1):
        width, height = sample.size
        images.append({"id": number, "file_name": files[sample.image_id], "width": width, "height": height})
        for box, label, difficult in zip(sample.boxes.tolist(), sample.labels, sample.difficult):
            bbox = [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]
            annotation = {
                "id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1, "bbox": bbox,
                "area": bbox[2] * bbox[3], "iscrowd": int(difficult),
            }  # fmt: skip
            annotations.append(annotation)
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(dataset.classes)]
    content = {"categories": categories, "images": images, "annotations": annotations}
    with atomic_write(path) as file:
        json.dump(content, file, allow_nan=False)


formats.register(CocoFormat.name, CocoFormat())
