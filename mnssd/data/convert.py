"""A dataset in another format: its images copied or linked, its lists and boxes written anew."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import yaml

from ..errors import DataError, OptionError
from ..files import write_whole
from .annotations.record_file import place_of
from .annotations.voc_xml import LISTS, write_annotation
from .dataset import Dataset
from .formats.coco import write_coco
from .formats.csv import write_csv
from .formats.recordio import write_rec
from .formats.yolo import write_yolo
from .image import read_bytes

FORMATS = ("voc", "coco", "yolo", "csv", "recordio")


class Converted(NamedTuple):
    """How many were written, and what the format cannot hold, in words."""

    images: int
    boxes: int
    notes: List[str]


def convert(parts: Dict[str, Dataset], target: Path, kind: str, link: bool) -> Converted:
    """Write a dataset.

    Parameters
    ----------
    parts : dict of str to Dataset
        The lists by name, all with the same classes.
    target : Path
        A folder that is new or empty.
    kind : str
        One of `FORMATS`.
    link : bool
        Hard links in place of copies, where the file system allows it.

    Raises
    ------
    OptionError
        When `target` holds something already.
    DataError
        When two images of different lists have the same id.
    """
    if kind not in FORMATS:
        raise OptionError(f"format is one of {', '.join(FORMATS)}, not {kind!r}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target}: holds something already; choose a new folder")
    _refuse_double(parts)
    target.mkdir(parents=True, exist_ok=True)
    notes: List[str] = []
    classes = next(iter(parts.values())).classes
    for split, dataset in parts.items():
        files = {sample.image_id: _file_name(sample.image_id, sample.image_path) for sample in dataset}
        folder = target / ("JPEGImages" if kind == "voc" else f"images/{split}")
        if kind != "recordio":  # that has its images inside
            folder.mkdir(parents=True, exist_ok=True)
            for sample in dataset:
                _place(sample.image_path, folder / files[sample.image_id], link)
        difficult = sum(int(sample.difficult.sum()) for sample in dataset)
        if kind == "voc":
            _write_voc(dataset, target, split, files)
        elif kind == "coco":
            (target / "annotations").mkdir(exist_ok=True)
            write_coco(dataset, target / "annotations" / f"instances_{split}.json", files)
            if difficult:
                notes.append(f"{split}: {difficult} difficult objects are crowds now (iscrowd)")
        elif kind == "csv":
            write_csv(dataset, target / f"{split}.csv", files)
        elif kind == "recordio":
            write_rec(dataset, target, split, files)
        else:
            write_yolo(dataset, target / "labels" / split, files)
            if difficult:
                notes.append(
                    f"{split}: {difficult} difficult objects are like others now: YOLO cannot tell them"
                )
    if kind in ("voc", "csv"):
        write_whole(target / "classes.txt", "".join(f"{name}\n" for name in classes).encode("utf-8"))
    if kind == "yolo":
        names = dict(enumerate(classes))
        lists = {split: f"images/{split}" for split in parts}
        content = yaml.safe_dump({**lists, "names": names}, sort_keys=False, allow_unicode=True)
        write_whole(target / "data.yaml", content.encode("utf-8"))
    images = sum(len(dataset) for dataset in parts.values())
    boxes = sum(len(sample.labels) for dataset in parts.values() for sample in dataset)
    return Converted(images, boxes, notes)


def _refuse_double(parts: Dict[str, Dataset]) -> None:
    seen: Dict[str, str] = {}
    for dataset in parts.values():
        for sample in dataset:
            other = seen.setdefault(_plain_id(sample.image_id), sample.image_path)
            if other != sample.image_path:
                raise DataError(f"{other} and {sample.image_path} would have one name; rename one of them")


def _plain_id(image_id: str) -> str:
    """Without folders: the new dataset has one for all."""
    return image_id.replace("/", "_")


def _file_name(image_id: str, path: str) -> str:
    inside = place_of(path)
    ending = os.path.splitext(path)[1] if inside is None else _ending_of(read_bytes(path, 16))
    return _plain_id(image_id) + ending


def _ending_of(start: bytes) -> str:
    """Of an image that has no name: whatever it is, the readers go by its bytes."""
    return ".png" if start.startswith(b"\x89PNG") else ".jpg"


def _place(source: str, target: Path, link: bool) -> None:
    if target.exists():  # it is in two lists
        return
    if place_of(source):
        write_whole(target, read_bytes(source))
        return
    if link:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(os.path.realpath(source), target)
            return
    shutil.copyfile(source, target)


def _write_voc(dataset: Dataset, target: Path, split: str, files: Dict[str, str]) -> None:
    for folder in ("Annotations", LISTS):
        (target / folder).mkdir(parents=True, exist_ok=True)
    names: Sequence[str] = dataset.classes
    for sample in dataset:
        path = target / "Annotations" / f"{_plain_id(sample.image_id)}.xml"
        labels = [names[label] for label in sample.labels]
        write_annotation(
            path, files[sample.image_id], sample.size, labels, sample.boxes, list(sample.difficult)
        )
    listed = "".join(f"{_plain_id(sample.image_id)}\n" for sample in dataset)
    write_whole(target / LISTS / f"{split}.txt", listed.encode("utf-8"))
