"""COCO's JSON format.

A box is ``[x, y, width, height]`` in pixels: columns 3 to 7 have x 3 and width 5, here xmin 3 and xmax 7.
Crowds (``iscrowd``), whose detections COCO's metric ignores, are read as difficult objects.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

from ...errors import DataError
from ...files import atomic_write
from ..annotations import coco_files, coco_json
from ..annotations.annotation import AnnotationError, AnnotationList, BoxObject
from ..annotations.coco_files import LIST_FILE
from ..annotations.paths import ImageFinder, find_lists, unique_ids
from ..dataset import Dataset
from ..findings import Finding
from . import Format, ImageFiles, difficult_notes, formats

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
        affixes, is_list, choose = coco_files.AFFIXES, coco_files.is_coco, coco_files.detection_files
        return find_lists(root, "*.json", affixes, LIST_FILE, is_list, choose)

    def evidence(self, root: Path) -> str:
        return (
            self.weak_evidence(root)
            if any(map(coco_files.has_annotations, self.lists(root).values()))
            else ""
        )

    def weak_evidence(self, root: Path) -> str:
        return super().evidence(root)

    def place(self, root: Path, split: str) -> Any:
        other = "" if self.lists(root) else self.found_instead(root)
        if other:
            raise DataError(f"{root}: not a dataset in the {self.name} format. {other}")
        return super().place(root, split)

    def found_instead(self, root: Path) -> str:
        return coco_files.other_format(coco_files.json_files(root))

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        path = self.place(root, split)
        content, result = coco_json.load(path), AnnotationList()
        categories = coco_json.parse_categories(path, content)
        result.declared, result.other_classes = coco_json.declared_classes(content, categories)
        images, names = coco_json.parse_images(path, content, result.findings)
        sizes = {key: image.size for image in images for key in image.ids}
        objects = coco_json.parse_objects(path, content, categories, sizes, result.findings)
        shared = {key: names[key] for key in names if len(names[key]) > 1}
        finder, skipped = ImageFinder.for_list(root, path, split), 0
        located: Dict[str, coco_json.CocoImage] = {}
        for image in images:
            try:
                file = os.path.normpath(image.find(finder, shared))
                known = located.setdefault(file, image)
                located[file] = known if known is image else known.joined(image)
            except AnnotationError as error:
                result.skip(error, str(path), image.name)
                skipped += 1
        _add_images(result, path, located, objects)
        result.check_skipped(str(path), len(located) + skipped)
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
        if "boxes-as-corners" not in codes and outside > MANY_CLIPPED * (boxes + codes.count("box-outside")):
            text = f"{outside} of {boxes} exceed their images; COCO's boxes are [x, y, width, height]"
            yield Finding("boxes-as-corners", dataset.name, "", text)


def _add_images(
    result: AnnotationList,
    path: Path,
    located: Mapping[str, coco_json.CocoImage],
    objects: Mapping[coco_json.Key, List[BoxObject]],
) -> None:
    """Add the images by their paths, with the objects of all their ids."""
    ids = unique_ids([image.name for image in located.values()])
    corners = coco_json.CornerCheck(MANY_CLIPPED)
    for file, image in located.items():
        boxes = [box for key in image.ids for box in objects.get(key, [])]
        if len(image.ids) > 1:
            text = f"{len(image.ids)} entries, {len(boxes)} boxes"
            result.findings.add("image-entries-joined", str(path), text, image.name)
        if len(image.sizes) > 1:
            sizes = ", ".join(f"{width}x{height}" for width, height in image.sizes)
            result.findings.add("size-differs", str(path), f"several sizes: {sizes}", image.name)
        try:
            result.add(ids[image.name], file, str(path), image.size, boxes, image.name)
            corners.add(boxes, result.annotations[-1].size)
        except AnnotationError as error:
            result.skip(error, str(path), image.name)
    if corners.result:
        result.findings.add("boxes-as-corners", str(path), corners.result)


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
