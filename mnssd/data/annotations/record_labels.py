"""Object labels of MXNet's record files and lists, as ``im2rec`` and GluonCV's tutorial write them.

A label is ``A, B, ...``: A header numbers (often 4, with the image's width and height) and B numbers per
object; then for each object its class and ``xmin, ymin, xmax, ymax`` normalized by the image size. A sixth
number is 1 for a difficult object. As in GluonCV, a normalized value times the side is a pixel counted from
0.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import IO, Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from ...errors import DataError, ImageError
from ...files import NAME_ERRORS
from ...options import Size
from ..findings import Findings
from ..image import image_size
from .annotation import AnnotationError, AnnotationList, BoxError, BoxObject
from .paths import image_stem
from .record_file import HEADER, Record, iter_records, record_image_path
from .text_files import CLASSES_FILE, open_text

_DECIMALS = 3  # of a pixel: normalized float32 values do not restore whole pixels exactly
_MAX_LABEL = 1 << 20  # numbers; COCO has at most some 100 objects per image


class Entry(NamedTuple):
    """An image of a file: number, label, name or path of the image, and place in the file."""

    number: int
    label: Sequence[float]
    image: str
    where: str


def is_record(path: Path) -> bool:
    """Whether a file is a record file rather than a list."""
    return path.suffix.lower() == ".rec"


def entries_of(path: Path) -> Iterator[Entry]:
    """Entries of a record file or a list, in order; raises DataError if it is damaged."""
    return _record_entries(path) if is_record(path) else _list_entries(path)


def stems_of(path: Path) -> Dict[int, str]:
    """Record numbers to image names without ending, from the list beside a record file."""
    if not is_record(path):
        return {}
    try:
        return {entry.number: image_stem(entry.image) for entry in entries_of(path.with_suffix(".lst"))}
    except DataError:  # missing or damaged; only the names are lost
        return {}


def _record_entries(path: Path) -> Iterator[Entry]:
    with open(path, "rb") as file:
        for index, record in enumerate(iter_records(path)):
            yield read_entry(path, file, record, index)


def read_entry(path: Path, file: IO[bytes], record: Record, index: int) -> Entry:
    """The entry of a record; without label and image if it has none that can be read."""
    where = f"record {index}"
    file.seek(record.start)
    head = file.read(min(HEADER.size, record.length))
    if len(head) < HEADER.size or not record.whole:
        return Entry(index, (), "", where)
    flag, single, number, _ = HEADER.unpack(head)
    offset = HEADER.size + 4 * flag
    if flag > _MAX_LABEL or offset > record.length:
        return Entry(index, (), "", where)
    label = struct.unpack(f"<{flag}f", file.read(4 * flag)) if flag else (single,)
    return Entry(number, label, record_image_path(path, record.start + offset, record.length - offset), where)


def _list_entries(path: Path) -> Iterator[Entry]:
    with open_text(path, "a list of images and labels", errors=NAME_ERRORS) as file:
        for index, line in enumerate(file, 1):
            words = line.rstrip("\r\n").split("\t")
            if not line.strip():
                continue
            try:
                number, label = int(float(words[0])), [float(word) for word in words[1:-1]]
            except (ValueError, OverflowError):
                number, label = index, []
            yield Entry(number, label, words[-1], f"line {index}")


def label_table(label: Sequence[float]) -> np.ndarray:
    """The objects of a label as ``(N, B)`` float64: class, corners, and what follows.

    Raises AnnotationError if it is no label of objects.
    """
    numbers = np.array(label, np.float64)
    if len(numbers) < 2 or not np.isfinite(numbers[:2]).all():
        raise AnnotationError("no object label")
    header, width = int(numbers[0]), int(numbers[1])
    if not (2 <= header <= len(numbers) and 5 <= width <= 1000) or (len(numbers) - header) % width:
        raise AnnotationError(
            f"invalid label: {len(numbers)} numbers, header of {header}, objects of {width}"
        )
    return numbers[header:].reshape(-1, width)


def parse_label(
    entry: Entry, names: Sequence[str], size: Size, file: str, findings: Findings
) -> List[BoxObject]:
    """The objects of an entry with normalized corners; a finding for each that cannot be used.

    Raises AnnotationError as `label_table`.
    """
    objects: List[BoxObject] = []
    for number, row in enumerate(label_table(entry.label)):
        try:
            objects.append(_parse_object(row, names, size))
        except BoxError as error:
            findings.add(error.code, file, f"object {number}: {error}", entry.where)
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


def add_entries(
    result: AnnotationList,
    file: str,
    split: str,
    entries: Iterable[Tuple[str, Entry]],
    parse: Callable[[Entry, Size], List[BoxObject]],
    id_of: Callable[[Entry], str],
) -> None:
    """Add entries, each with the path of its image, to `result`; images that cannot be used are skipped.

    An entry that repeats another one is left out; one with other objects of the same image is kept. `parse`
    reads the objects of an entry, given the image's size, and `id_of` its image id, empty if it has none.
    """
    by_path: Dict[str, List[Entry]] = {}
    for image_path, entry in entries:
        if not image_path:
            result.skip(AnnotationError("no label and image that can be read"), file, entry.where)
            continue
        same = by_path.setdefault(image_path, [])
        if any(list(entry.label) == list(other.label) for other in same):
            result.findings.add("image-listed-twice", file, os.path.basename(image_path), entry.where)
        else:
            same.append(entry)
    ids: Set[str] = set()
    for image_path, same in by_path.items():
        first = same[0]
        objects: List[BoxObject] = []
        try:
            image_id = id_of(first)
            if not image_id or image_id in ids:
                image_id = f"{split}-{first.where.split()[1]}"
            size = image_size(image_path)
            for entry in same:
                objects += parse(entry, size)
            result.add(image_id, image_path, file, size, objects, first.where)
            ids.add(image_id)
        except (AnnotationError, ImageError) as error:
            result.skip(error, file, first.where)
