"""Files in a dataset's folder that nothing names: forgotten images, annotations of images that are gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator, List, Mapping, Set

from ..data.annotations.voc_xml import (
    IMAGE_ENDINGS,
    LISTS,
    image_files,
    missing_folders,
    read_list,
    split_names,
)
from ..data.dataset import Dataset
from ..data.findings import Finding
from ..data.formats.voc import annotation_files


def check_unreferenced(kind: str, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Findings about files, whatever the lists in `parts` name."""
    if kind == "voc":
        folders = [
            path for path in [root, *sorted(root.glob("VOC[12][0-9][0-9][0-9]"))] if not missing_folders(path)
        ]
        for folder in folders:
            yield from _voc_folder(folder)
        if not folders:
            yield from _voc_files(root, parts)
        return
    used = {os.path.realpath(sample.image_path) for dataset in parts.values() for sample in dataset}
    named = {os.path.realpath(finding.file) for dataset in parts.values() for finding in dataset.findings}
    for path in sorted(_images_below(root) - used - named):
        yield Finding("image-unlisted" if kind == "yolo" else "image-unannotated", path, "", "")
    if kind == "yolo":
        stems = {os.path.splitext(path)[0] for path in used | named}
        for labels in sorted(root.rglob("*.txt")):
            where = list(labels.parts)
            if "labels" in where and labels.name != "classes.txt":
                where[len(where) - 1 - where[::-1].index("labels")] = "images"
                if os.path.splitext(os.path.realpath(Path(*where)))[0] not in stems:
                    yield Finding("annotation-orphaned", str(labels), "", "")


def _voc_folder(folder: Path) -> Iterator[Finding]:
    images = image_files(folder)
    annotations = {name[:-4] for name in os.listdir(folder / "Annotations") if name.endswith(".xml")}
    listed: Set[str] = set()
    for split in split_names(folder):
        listed.update(read_list(folder / LISTS / f"{split}.txt", images))
    for image_id in sorted(annotations - set(images) - listed):
        yield Finding("annotation-orphaned", str(folder / "Annotations" / f"{image_id}.xml"), "", "")
    for image_id in sorted(set(images) - listed):
        code = "image-unlisted" if image_id in annotations else "image-unannotated"
        yield Finding(code, str(folder / "JPEGImages" / images[image_id]), "", "")


def _voc_files(root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
    stems = {path.stem for path in annotation_files(root)}
    for image in sorted(_images_below(root)):
        if os.path.splitext(os.path.basename(image))[0] not in stems:
            yield Finding("image-unannotated", image, "", "")


def _images_below(root: Path) -> Set[str]:
    found: List[str] = []
    for where, _, names in os.walk(root):
        found += [os.path.join(where, name) for name in names if name.lower().endswith(IMAGE_ENDINGS)]
    return {os.path.realpath(path) for path in found}
