"""MXNet's record files and lists for detection, as ``im2rec`` and GluonCV's tutorial write them.

The label of a record is ``A, B, ...``: A header numbers (often 4, with the image's width and height) and B
numbers per object; then for each object its class and ``xmin, ymin, xmax, ymax`` normalized by the image
size. A sixth number is 1 for a difficult object. As in GluonCV, a normalized value times the side is a pixel
counted from 0. ``.lst`` files contain the same as text, one image per line: number, label and path, separated
by tabs.
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

import numpy as np

from ...errors import DataError, ImageError
from ...files import NAME_ERRORS, atomic_write, utf8_path
from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject
from ..annotations.image_names import find_image
from ..annotations.paths import ImageFinder, image_stem
from ..annotations.record_file import HEADER, iter_records, record_image_path
from ..annotations.text_files import CLASSES_FILE, open_text, read_classes, write_classes
from ..dataset import Dataset
from ..findings import Findings
from ..image import image_size, read_bytes
from ..sample import Sample
from . import Format, ImageFiles, formats

_DECIMALS = 3  # of a pixel: normalized float32 values do not restore whole pixels exactly
_MAX_LABEL = 1 << 20  # numbers; COCO has at most some 100 objects per image


class _Entry(NamedTuple):
    """An image of a file: number, label, name or path of the image, and place in the file."""

    number: int
    label: Sequence[float]
    image: str
    where: str


class RecordioFormat(Format):
    """MXNet's record files and lists for detection."""

    name = "recordio"
    description = "MXNet record files (.rec, .lst) with object labels, as im2rec and GluonCV write them"
    layout = "record files (.rec, .lst) with object labels"
    contents = "MXNet record files with object labels"
    priority = 40
    image_folder = None

    def lists(self, root: Path) -> Dict[str, Any]:
        """Lists by name: their files, and if there are both, the record file."""
        files: Dict[str, Path] = {}
        for suffix in (".rec", ".lst"):
            for path in sorted(root.glob("*.*")):
                if path.suffix.lower() == suffix and path.is_file() and _has_objects(path):
                    files.setdefault(path.stem, path)
        return files

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        path, result = self.place(root, split), AnnotationList()
        names, stems = read_classes(root / CLASSES_FILE), _stems(path)
        images, total = _entries_by_image(root, path, split, result)
        ids: Set[str] = set()
        for image_path, entries in images.items():
            first, objects = entries[0], []
            try:
                image_id = stems.get(first.number, "") if _is_record(path) else image_stem(first.image)
                if not image_id or image_id in ids:
                    image_id = f"{split}-{first.where.split()[1]}"
                size = image_size(image_path)
                for entry in entries:
                    objects += _objects(entry, names, size, path, result.findings)
                result.add(image_id, image_path, str(path), size, objects, first.where)
                ids.add(image_id)
            except (AnnotationError, ImageError) as error:
                result.skip(error, str(path), first.where)
        result.check_skipped(str(path), total)
        result.declared = names or tuple(sorted(result.class_names(), key=int))
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        for split, dataset in parts.items():
            _write_records(dataset, folder, split, files[split])
        write_classes(parts, folder)
        return []


def _entries_by_image(
    root: Path, path: Path, split: str, result: AnnotationList
) -> Tuple[Dict[str, List[_Entry]], int]:
    """Entries by path of their image, and the number of all; missing images are skipped.

    A line of a list that repeats another one is left out; one with other objects of the same image is kept.
    """
    finder = ImageFinder(
        root, [root / f for f in ("", "images", "JPEGImages", split, f"images/{split}")], split
    )
    by_path: Dict[str, List[_Entry]] = {}
    total = 0
    for entry in _entries(path):
        total += 1
        try:
            image_path = entry.image if _is_record(path) else find_image(finder, entry.image)
        except AnnotationError as error:
            result.skip(error, str(path), entry.where)
            continue
        entries = by_path.setdefault(image_path, [])
        if any(list(entry.label) == list(other.label) for other in entries):
            result.findings.add("image-listed-twice", str(path), os.path.basename(image_path), entry.where)
        else:
            entries.append(entry)
    return by_path, total


def _is_record(path: Path) -> bool:
    return path.suffix.lower() == ".rec"


def _has_objects(path: Path) -> bool:
    """Whether the first label is one of objects rather than the class of the whole image."""
    try:
        first = next(_entries(path), None)
    except (DataError, OSError):
        return _is_record(path)  # reading it raises the error
    return first is not None and len(first.label) >= 2 and first.label[0] >= 2 and first.label[1] >= 5


def _stems(path: Path) -> Dict[int, str]:
    """Record numbers to image names without ending, from the list beside a record file."""
    if not _is_record(path):
        return {}
    try:
        return {entry.number: image_stem(entry.image) for entry in _entries(path.with_suffix(".lst"))}
    except DataError:  # missing or damaged; only the names are lost
        return {}


def _entries(path: Path) -> Iterator[_Entry]:
    return _record_entries(path) if _is_record(path) else _list_entries(path)


def _record_entries(path: Path) -> Iterator[_Entry]:
    with open(path, "rb") as file:
        for index, record in enumerate(iter_records(path)):
            entry = _Entry(index, (), "", f"record {index}")
            file.seek(record.start)
            head = file.read(min(HEADER.size, record.length))
            if len(head) == HEADER.size and record.whole:
                flag, single, number, _ = HEADER.unpack(head)
                offset = HEADER.size + 4 * flag
                if flag <= _MAX_LABEL and offset <= record.length:
                    label = struct.unpack(f"<{flag}f", file.read(4 * flag)) if flag else (single,)
                    image = record_image_path(path, record.start + offset, record.length - offset)
                    entry = _Entry(number, label, image, entry.where)
            yield entry


def _list_entries(path: Path) -> Iterator[_Entry]:
    with open_text(path, "a list of images and labels", errors=NAME_ERRORS) as file:
        for index, line in enumerate(file, 1):
            words = line.rstrip("\r\n").split("\t")
            if not line.strip():
                continue
            try:
                number, label = int(float(words[0])), [float(word) for word in words[1:-1]]
            except (ValueError, OverflowError):
                number, label = index, []
            yield _Entry(number, label, words[-1], f"line {index}")


def _objects(
    entry: _Entry, names: Sequence[str], size: Size, path: Path, findings: Findings
) -> List[BoxObject]:
    label = np.array(entry.label, np.float64)
    if len(label) < 2 or not np.isfinite(label[:2]).all():
        raise AnnotationError("no object label")
    header, width = int(label[0]), int(label[1])
    if not (2 <= header <= len(label) and 5 <= width <= 1000) or (len(label) - header) % width:
        raise AnnotationError(f"invalid label: {len(label)} numbers, header of {header}, objects of {width}")
    objects: List[BoxObject] = []
    for number, row in enumerate(label[header:].reshape(-1, width)):
        try:
            objects.append(_parse_object(row, names, size))
        except BoxError as error:
            findings.add(error.code, str(path), f"object {number}: {error}", entry.where)
    return objects


def _parse_object(row: np.ndarray, names: Sequence[str], size: Size) -> BoxObject:
    if row[0] == -1 and len(set(row.tolist())) == 1:
        raise BoxError("box-missing", "padding (-1) instead of an object")
    if not np.isfinite(row[:5]).all() or np.abs(row[:5]).max() > 1e6:
        raise BoxError("box-not-finite", f"expected a class and four finite numbers, got {row[:5].tolist()}")
    label = int(row[0])
    if label != row[0] or label < 0 or (names and label >= len(names)):
        raise BoxError("class-unknown", f"class {row[0]:g}, expected 0 to {len(names) - 1}")
    name, corners = names[label] if names else str(label), row[1:5].tolist()
    if not name:
        raise BoxError(
            "class-unknown", f"class {label} has no name: line {label + 1} of {CLASSES_FILE} is blank"
        )
    left, top, right, bottom = corners
    if max(corners) > 2 and right > left + 1:
        raise BoxError("boxes-in-pixels", f"{name}: box appears to be in pixels, not 0 to 1")
    if right < left or bottom < top:
        raise BoxError("box-inverted", f"{name} with {corners}: inverted")
    left, right = (round(value * size[0], _DECIMALS) for value in (left, right))
    top, bottom = (round(value * size[1], _DECIMALS) for value in (top, bottom))
    if right - left <= 0 or bottom - top <= 0 or math.isinf(left + top + right + bottom):
        raise BoxError("box-without-area", f"{name} with {corners}: no area")
    return BoxObject(name, (left, top, right, bottom), bool(len(row) > 5 and row[5] == 1))


def _write_records(dataset: Dataset, folder: Path, split: str, files: Mapping[str, str]) -> None:
    """Write ``SPLIT.rec``, which contains the images, ``SPLIT.idx`` and ``SPLIT.lst``."""
    from mxnet import recordio

    lines: List[str] = []
    stem = re.sub(r"[^\w.-]", "_", split)
    with utf8_path(folder / f"{stem}.rec") as path:
        writer: Any = recordio.MXIndexedRecordIO(str(folder / f"{stem}.idx"), path, "w")
        try:
            for number, sample in enumerate(dataset):
                label = _label(sample)
                content = read_bytes(sample.image_path)
                writer.write_idx(number, recordio.pack(recordio.IRHeader(0, label, number, 0), content))
                numbers = "\t".join(f"{value:.9g}" for value in label)
                lines.append(f"{number}\t{numbers}\t{files[sample.image_id]}\n")
        finally:
            writer.close()
    with atomic_write(folder / f"{stem}.lst") as file:
        file.writelines(lines)


def _label(sample: Sample) -> np.ndarray:
    boxes = sample.boxes / np.array([*sample.size, *sample.size])
    rows = np.column_stack([sample.labels, boxes, sample.difficult]).astype(np.float64)
    return np.concatenate([[4, rows.shape[1]], sample.size, rows.ravel()]).astype(np.float32)


formats.register(RecordioFormat.name, RecordioFormat())
