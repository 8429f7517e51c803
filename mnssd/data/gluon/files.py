"""GluonCV's own datasets, whose images are files.

They are read as the formats read their files: images keep their paths, so large ones are decoded at a reduced
size, and findings name the file. Of a dataset whose items are changed by a subclass or a transform, only what
is unchanged is used; see `read_files`. The attributes used here are those of GluonCV 0.10.5.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxObject
from ..annotations.label_rows import label_rows, parse_rows
from ..annotations.paths import image_stem, unique_ids
from ..annotations.record_file import iter_records
from ..annotations.record_labels import (
    Entry,
    add_entries,
    is_record,
    label_table,
    parse_label,
    read_entry,
    stems_of,
)

_RECORD_HEAD = 8  # bytes of a record before its content


def read_files(
    dataset: Any, indices: Sequence[int], name: str, classes: Sequence[str]
) -> Optional[AnnotationList]:
    """Annotations of the items `indices` of a GluonCV dataset; None if its items are not those of files.

    Parameters
    ----------
    dataset : object
        A dataset of a class of GluonCV, or of a subclass.
    indices : sequence of int
    name : str
        Name of the dataset in findings.
    classes : sequence of str
        Names of the class indices.
    """
    from gluoncv import data as gcv

    reader: Optional[Callable[..., AnnotationList]] = None
    if isinstance(dataset, gcv.VOCDetection) and _gives_items_of(dataset, gcv.VOCDetection):
        own = ("_load_label", "_preload_labels", "_validate_label")
        is_plain = all(getattr(type(dataset), m) is getattr(gcv.VOCDetection, m) for m in own)
        is_plain = is_plain and dataset._anno_path == os.path.join("{}", "Annotations", "{}.xml")
        is_plain = is_plain and dataset._image_path == os.path.join("{}", "JPEGImages", "{}.jpg")
        reader = _read_voc if is_plain else _read_voc_rows
    elif isinstance(dataset, gcv.COCODetection) and _gives_items_of(dataset, gcv.COCODetection):
        reader = _read_coco
    elif isinstance(dataset, gcv.LstDetection) and _gives_items_of(dataset, gcv.LstDetection):
        reader = _read_lst if dataset._flag == 1 else None
    elif isinstance(dataset, gcv.RecordFileDetection) and _gives_items_of(dataset, gcv.RecordFileDetection):
        reader = _read_records if dataset._flag == 1 and is_record(Path(dataset.filename)) else None
    return reader(dataset, indices, name, classes) if reader else None


def _gives_items_of(dataset: Any, kind: Any) -> bool:
    """Whether the items of a dataset are those of the class `kind`, without a transform."""
    return type(dataset).__getitem__ is kind.__getitem__ and getattr(dataset, "_transform", None) is None


# ---- VOCDetection, CustomVOCDetection


def _read_voc(dataset: Any, indices: Sequence[int], name: str, classes: Sequence[str]) -> AnnotationList:
    """By the reader of the VOC format. Objects of other classes are ignored, with a finding."""
    from ..formats.voc import read_ids

    result = read_ids([(Path(dataset._items[i][0]), dataset._items[i][1]) for i in indices])
    is_generated = "CLASSES" in vars(dataset)  # by CustomVOCDetection, whose index_map does not have them
    index = {n: i for i, n in enumerate(classes)} if is_generated else dataset.index_map

    def rename(annotated: str) -> str:
        key = annotated if annotated in index else annotated.lower()  # GluonCV's names are in lower case
        return classes[index[key]] if key in index else annotated

    for number, annotation in enumerate(result.annotations):
        original = annotation.original
        if original is not None:
            original = original._replace(names=[rename(n) for n in original.names])
        names = [rename(n) for n in annotation.names]
        result.annotations[number] = annotation._replace(names=names, original=original)
    result.check_skipped(name, len(indices))
    return result


def _read_voc_rows(dataset: Any, indices: Sequence[int], name: str, classes: Sequence[str]) -> AnnotationList:
    """With the labels of a subclass that reads annotations in its own way."""

    def label(index: int) -> Any:
        return dataset._label_cache[index] if dataset._label_cache else dataset._load_label(index)

    items = [(dataset._image_path.format(*dataset._items[i]), partial(label, i)) for i in indices]
    return _read_labels(items, name, classes)


def voc_class_names(dataset: Any) -> Optional[Sequence[str]]:
    """Names of the class indices of a `VOCDetection`; None if its `index_map` leaves some without a name."""
    if "CLASSES" in vars(dataset):  # CustomVOCDetection, whose `classes` are those of Pascal VOC all the same
        return list(dataset.CLASSES)
    index_map = dataset.index_map  # perhaps in another order than `classes`
    is_complete = sorted(index_map.values()) == list(range(len(index_map)))
    return sorted(index_map, key=index_map.__getitem__) if is_complete else None


# ---- COCODetection


def _read_coco(dataset: Any, indices: Sequence[int], name: str, classes: Sequence[str]) -> AnnotationList:
    crowds = _coco_crowds(dataset)

    def label(index: int) -> np.ndarray:
        rows = label_rows(dataset._labels[index])[:, :5]
        crowd = crowds.get(dataset._items[index], set())
        return np.column_stack([rows, [tuple(row) in crowd for row in rows.tolist()]])

    return _read_labels([(dataset._items[i], partial(label, i)) for i in indices], name, classes)


def _coco_crowds(dataset: Any) -> Dict[str, Set[Tuple[float, ...]]]:
    """Rows of the crowds by image, which `COCODetection` gives as objects like any other.

    They are difficult objects, as in the COCO format: the metrics ignore them.
    """
    from gluoncv.utils.bbox import bbox_clip_xyxy, bbox_xywh_to_xyxy

    crowds: Dict[str, Set[Tuple[float, ...]]] = {}
    for coco in dataset._coco:
        for crowd in coco.loadAnns(coco.getAnnIds(iscrowd=True)):
            image = coco.imgs[crowd["image_id"]]
            box = bbox_clip_xyxy(bbox_xywh_to_xyxy(crowd["bbox"]), image["width"], image["height"])
            row = (*map(float, box), float(dataset.json_id_to_contiguous[crowd["category_id"]]))
            crowds.setdefault(dataset._parse_image_path(image), set()).add(row)
    return crowds


def _read_labels(
    items: Sequence[Tuple[str, Callable[[], Any]]], name: str, classes: Sequence[str]
) -> AnnotationList:
    """Images by path, each with a function that returns its label."""
    result, ids = AnnotationList(), unique_ids([path for path, _ in items])
    first: Dict[str, int] = {}
    for number, (path, label) in enumerate(items):
        where = f"item {number}"
        if first.setdefault(path, number) != number:
            result.findings.add("image-listed-twice", name, f"as item {first[path]}", where)
            continue
        try:
            objects = parse_rows(_rows_of(label), classes, result.findings, name, where)
            result.add(ids[path], path, name, None, objects, where)
        except AnnotationError as error:
            result.skip(error, name, where)
    result.check_skipped(name, len(items))
    return result


def _rows_of(label: Callable[[], Any]) -> np.ndarray:
    try:
        return label_rows(label())
    except AnnotationError:
        raise
    except Exception as error:  # the user's code reads the label, perhaps from a damaged file
        raise AnnotationError(f"raised {type(error).__name__}: {error}") from error


# ---- LstDetection, RecordFileDetection


def _read_lst(dataset: Any, indices: Sequence[int], name: str, classes: Sequence[str]) -> AnnotationList:
    entries = []
    for number, index in enumerate(indices):
        path = str(dataset._items[index])
        entries.append((path, Entry(index, dataset._labels[index].tolist(), path, f"item {number}")))
    return _read_entries(dataset, entries, name, classes, lambda entry: image_stem(entry.image))


def _read_records(dataset: Any, indices: Sequence[int], name: str, classes: Sequence[str]) -> AnnotationList:
    path, index_of = Path(dataset.filename), dataset._record.idx
    records = {record.start - _RECORD_HEAD: record for record in iter_records(path)}
    stems, entries = stems_of(path), []
    with open(path, "rb") as file:
        for number, index in enumerate(indices):
            record = records.get(
                index_of[dataset._record.keys[index]]
            )  # None if the index is of another file
            entry = read_entry(path, file, record, index) if record else Entry(index, (), "", "")
            entries.append((entry.image, entry._replace(where=f"item {number}")))
    return _read_entries(dataset, entries, name, classes, lambda entry: stems.get(entry.number, ""))


def _read_entries(
    dataset: Any,
    entries: List[Tuple[str, Entry]],
    name: str,
    classes: Sequence[str],
    id_of: Callable[[Entry], str],
) -> AnnotationList:
    result = AnnotationList()

    def parse(entry: Entry, size: Size) -> List[BoxObject]:
        if dataset._coord_normalized:
            return parse_label(entry, classes, size, name, result.findings)
        table = label_table(entry.label)
        rows = np.column_stack([table[:, 1:5], table[:, :1], table[:, 5:6]])
        return parse_rows(rows, classes, result.findings, name, entry.where)

    add_entries(result, name, name, entries, parse, id_of)
    result.check_skipped(name, len(entries))
    return result
