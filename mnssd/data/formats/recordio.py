"""MXNet's detection record files and lists, as ``im2rec`` and GluonCV's tutorial write them.

The label of a record is ``A, B, ...`` (A numbers of header, often 4 with the image's width and height; B
numbers an object), then for each object its class and ``xmin, ymin, xmax, ymax`` as shares of the sides; a
sixth number says that it is difficult. As GluonCV reads them, a share times the side is the pixel counted
from 0. ``.lst`` files hold the same, a line an image: number, label, path, between tabs.
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError, ImageError
from ...files import atomic_write, write_bytes
from ..annotations.annotation import (
    AnnotationError,
    BoxError,
    Reading,
    make_annotation,
    make_dataset,
    read_classes,
)
from ..annotations.paths import MAX_BYTES, Images
from ..annotations.record_file import HEADER, name_of, records
from ..dataset import Dataset
from ..findings import Findings
from ..image import image_size, read_bytes
from . import Format, formats

CLASSES = "classes.txt"
_DIGITS = 3  # of a pixel
_LABEL_HEADER, _LABEL_WIDTH = 4, 6
_LARGEST_LABEL = 1 << 20  # numbers; COCO's fullest image has some 100 objects
_SUFFIXES = (".rec", ".lst")


def rec_files(root: Path) -> Dict[str, Path]:
    """The lists of a dataset, their names and files; of both kinds the record file."""
    found: Dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for path in sorted(root.glob(f"*{suffix}")) if root.is_dir() else ():
            if path.is_file() and _is_detection(path):
                found.setdefault(path.stem, path)
    return found


def _is_detection(path: Path) -> bool:
    """Whether the first label is that of objects, not a class for the whole image."""
    try:
        first = next(_entries(path), None)
    except (DataError, OSError):
        return path.suffix == ".rec"  # so that what is wrong with it is said
    return first is not None and len(first.label) >= 2 and first.label[0] >= 2 and first.label[1] >= 5


class _Entry(NamedTuple):
    """One image of a file: number, label, what it is called or where it lies, where it stands."""

    number: int
    label: Sequence[float]
    image: str
    where: str


def read_rec(
    root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read one record file or list.

    Parameters
    ----------
    root : Path
        The folder; ``classes.txt`` there names the classes, else they are called by their numbers.
    split : str
        A key of `rec_files`.
    classes : sequence of str, optional
        Wanted, in the order of the labels; by default all, in the order of their numbers.
    allow_absent : bool
        Accept classes that the dataset has not.

    Raises
    ------
    DataError
        When the file is damaged, or more than half of its images cannot be used.
    """
    files = rec_files(root)
    if split not in files:
        raise DataError(
            f"{root}: no record file {split!r} of objects; there are: {', '.join(files) or 'none'}"
        )
    path = files[split]
    names = read_classes(root / CLASSES)
    reading = Reading()
    findings = reading.findings
    images = Images(root, [place for place in (root, root / "images", root / "JPEGImages") if place.is_dir()])
    stems = _stems(path)
    total, ids, seen = 0, set(), set()
    for entry in _entries(path):
        total += 1
        try:
            image = entry.image if path.suffix == ".rec" else images.find(entry.image)
            image_id = (
                stems.get(entry.number, "") if path.suffix == ".rec" else os.path.basename(_stem(entry.image))
            )
            if not image_id or image_id in ids:
                image_id = f"{split}-{entry.where.split()[1]}"
            if image in seen:
                findings.add("image-listed-twice", str(path), os.path.basename(image), entry.where)
                continue
            seen.add(image)
            size = image_size(image)
            rows = _objects(entry, names, size, path, findings)
            reading.records.append(
                make_annotation(
                    image_id, image, str(path), size, [row[0] for row in rows], [row[1] for row in rows],
                    [row[2] for row in rows], findings, entry.where,
                )
            )  # fmt: skip
            ids.add(image_id)
        except (AnnotationError, ImageError) as error:
            reading.skip(error, str(path), entry.where)
    reading.check(str(path), total)
    known = names or tuple(
        sorted({name for record in reading.records for name in record.names}, key=_as_number)
    )
    wanted = known if classes is None else tuple(classes)
    if not wanted:
        raise DataError(f"{path}: no object in any record, so no classes; name them in {root / CLASSES}")
    return make_dataset(f"{root.name} {split}", reading.records, wanted, known, allow_absent, findings)


def _as_number(name: str) -> int:
    return int(name)


def _stem(name: str) -> str:
    return os.path.splitext(name.replace("\\", "/"))[0]


def _stems(path: Path) -> Dict[int, str]:
    """By number the name without ending that the list beside a record file has."""
    beside = path.with_name(f"{path.stem}.lst")
    if path.suffix != ".rec" or not beside.is_file():
        return {}
    try:
        return {entry.number: os.path.basename(_stem(entry.image)) for entry in _entries(beside)}
    except DataError:  # a damaged list loses the names and nothing else
        return {}


def _entries(path: Path) -> Iterator[_Entry]:
    yield from _of_records(path) if path.suffix == ".rec" else _of_list(path)


def _of_records(path: Path) -> Iterator[_Entry]:
    with open(path, "rb") as file:
        for number, record in enumerate(records(path)):
            where = f"record {number}"
            file.seek(record.start)
            head = file.read(min(HEADER.size, record.length))
            if len(head) < HEADER.size or not record.whole:
                yield _Entry(number, (), "", where)
                continue
            flag, single, known, _ = HEADER.unpack(head)
            if flag > _LARGEST_LABEL or HEADER.size + 4 * flag > record.length:
                yield _Entry(number, (), "", where)
                continue
            label = struct.unpack(f"<{flag}f", file.read(4 * flag)) if flag else (single,)
            offset = HEADER.size + 4 * flag
            yield _Entry(known, label, name_of(path, record.start + offset, record.length - offset), where)


def _of_list(path: Path) -> Iterator[_Entry]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: far too large for a list")
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                words = line.rstrip("\r\n").split("\t")
                if len(words) < 2:
                    continue
                try:
                    label = [float(word) for word in words[1:-1]]
                    known = int(float(words[0]))
                except (ValueError, OverflowError):
                    label, known = [], number
                yield _Entry(known, label, words[-1], f"line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list ({error})") from error


_Object = Tuple[str, Tuple[float, float, float, float], bool]


def _objects(
    entry: _Entry, names: Sequence[str], size: Tuple[int, int], path: Path, findings: Findings
) -> List[_Object]:
    label = np.array(entry.label, np.float64)
    if len(label) < 2 or not np.isfinite(label[:2]).all():
        raise AnnotationError("no label of objects")
    header, width = int(label[0]), int(label[1])
    if not (2 <= header <= len(label) and 5 <= width <= 1000) or (len(label) - header) % width:
        raise AnnotationError(
            f"{len(label)} numbers are no header of {header} with whole objects of {width} behind it"
        )
    found: List[_Object] = []
    for number, row in enumerate(label[header:].reshape(-1, width)):
        try:
            found.append(_object(row, names, size))
        except BoxError as error:
            findings.add(error.code, str(path), f"object {number}: {error}", entry.where)
    return found


def _object(row: np.ndarray, names: Sequence[str], size: Tuple[int, int]) -> _Object:
    if row[0] == -1 and len(set(row.tolist())) == 1:
        raise BoxError("box-missing", "padding (-1) in place of an object")
    if not np.isfinite(row[:5]).all() or np.abs(row[:5]).max() > 1e6:
        raise BoxError("box-not-finite", f"not a class and four finite numbers: {row[:5].tolist()}")
    label = int(row[0])
    if label != row[0] or label < 0 or (names and label >= len(names)):
        raise BoxError("class-not-listed", f"class {row[0]:g}, but classes are 0 to {len(names) - 1}")
    name = names[label] if names else str(label)
    left, top, right, bottom = row[1:5].tolist()
    if max(left, top, right, bottom) > 2 and right > left + 1:
        raise BoxError(
            "boxes-as-pixels", f"{name}: pixels, it seems; a record's boxes are shares of the sides"
        )
    if right < left or bottom < top:
        raise BoxError("box-inverted", f"{name} with {row[1:5].tolist()}: inverted")
    # Shares of 32 bits do not give whole pixels back to the last bit; rounded they do.
    x, far_x = (round(share * size[0], _DIGITS) for share in (left, right))
    y, far_y = (round(share * size[1], _DIGITS) for share in (top, bottom))
    box = (x, y, far_x, far_y)
    if box[2] - box[0] <= 0 or box[3] - box[1] <= 0 or math.isinf(sum(box)):
        raise BoxError("box-without-area", f"{name} with {row[1:5].tolist()}: no area")
    return name, box, len(row) > 5 and row[5] == 1


def write_rec(dataset: Dataset, folder: Path, split: str, files: Mapping[str, str]) -> None:
    """Write ``SPLIT.rec``, ``SPLIT.idx`` and ``SPLIT.lst`` with the images inside the first.

    Parameters
    ----------
    dataset : Dataset
    folder : Path
    split : str
    files : mapping of str to str
        By image id the name of its file, for the list.
    """
    from mxnet import recordio

    lines: List[str] = []
    plain = re.sub(r"[^\w.-]", "_", split)
    writer: Any = recordio.MXIndexedRecordIO(str(folder / f"{plain}.idx"), str(folder / f"{plain}.rec"), "w")
    try:
        for number, sample in enumerate(dataset):
            label = _label(sample.labels, sample.boxes, sample.difficult, sample.size)
            content = read_bytes(sample.image_path)
            writer.write_idx(number, recordio.pack(recordio.IRHeader(0, label, number, 0), content))
            numbers = "\t".join(f"{value:.9g}" for value in label)
            lines.append(f"{number}\t{numbers}\t{files[sample.image_id]}\n")
    finally:
        writer.close()
    with atomic_write(folder / f"{plain}.lst") as file:
        file.writelines(lines)
    write_bytes(folder / CLASSES, "".join(f"{name}\n" for name in dataset.classes).encode("utf-8"))


def _label(labels: np.ndarray, boxes: np.ndarray, difficult: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    header = [_LABEL_HEADER, _LABEL_WIDTH, size[0], size[1]]
    shares = boxes / np.array([size[0], size[1]] * 2)
    rows = np.column_stack([labels, shares, difficult]) if len(labels) else np.zeros((0, _LABEL_WIDTH))
    return np.concatenate([header, rows.ravel()]).astype(np.float32)


class RecordioFormat(Format):
    """MXNet record files of objects."""

    name = "recordio"
    description = "MXNet record files (.rec, .lst) with object labels, as im2rec and GluonCV write them"
    layout = "record files (.rec, .lst) with object labels"
    contents = "MXNet record files with object labels"
    priority = 40
    image_folder = None

    def lists(self, root: Path) -> Dict[str, Any]:
        return rec_files(root)

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        return read_rec(root, split, classes, allow_absent=allow_absent)

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
        for split, dataset in parts.items():
            write_rec(dataset, folder, split, files[split])
        return []


formats.register(RecordioFormat.name, RecordioFormat())
