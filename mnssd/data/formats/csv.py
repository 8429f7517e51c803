"""Tables with a line an object: ``filename,width,height,class,xmin,ymin,xmax,ymax``.

As TensorFlow's tutorials make them from VOC's XML, so pixels are counted from 1 and both ends of a box belong
to it. A line with an empty class is an image without objects; a column ``difficult`` is read, too.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import atomic_write
from ..annotations.annotation import (
    AnnotationError,
    BoxError,
    Reading,
    make_annotation,
    make_dataset,
    read_classes,
    write_classes,
)
from ..annotations.paths import MAX_BYTES, Images, unique_ids
from ..annotations.voc_xml import CORNERS, box_of
from ..dataset import Dataset
from . import Format, formats

NEEDED = ("filename", "class", *CORNERS)
COLUMNS = ("filename", "width", "height", "class", *CORNERS, "difficult")

_ENDINGS = ("_labels", "_annotations")  # of a list's file name, as the tutorials have it
OWN_FILE = "_annotations.csv"
"""In a folder of each list's own, with its images (Roboflow's way)."""


def csv_files(root: Path) -> Dict[str, Path]:
    """The lists of a dataset, their names and files; none where there is no such table."""
    found: Dict[str, Path] = {}
    if not root.is_dir():
        return found
    for folder in (root, root / "annotations"):
        for path in sorted(folder.glob("*.csv")) if folder.is_dir() else ():
            if _is_table(path):
                name = path.stem
                for ending in _ENDINGS:
                    name = name[: -len(ending)] if name.endswith(ending) and name != ending else name
                found.setdefault(name, path)
    for path in sorted(root.glob(f"*/{OWN_FILE}")):
        if _is_table(path):
            found.setdefault(path.parent.name, path)
    return found


def _is_table(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            first = file.readline(4096)
    except OSError:
        return False
    return set(NEEDED) <= {word.strip().strip('"').lower() for word in first.split(",")}


class _Line(NamedTuple):
    number: int
    values: Mapping[str, str]


def read_csv(
    root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read one table.

    Parameters
    ----------
    root : Path
        The folder; images lie in it, in ``images`` or ``images/SPLIT``, or beside the table.
    split : str
        A key of `csv_files`.
    classes : sequence of str, optional
        Wanted, in the order of the labels; by default those in ``classes.txt``, else all found, sorted.
    allow_absent : bool
        Accept classes that do not occur.

    Raises
    ------
    DataError
        When the table is not there or cannot be read, or more than half of its images cannot be used.
    """
    files = csv_files(root)
    if split not in files:
        raise DataError(f"{root}: no table {split!r} of objects; there are: {', '.join(files) or 'none'}")
    path, reading = files[split], Reading()
    findings = reading.findings
    by_image: Dict[str, List[_Line]] = {}
    for line in _lines(path):
        name = (line.values.get("filename") or "").strip()
        if name:
            by_image.setdefault(name, []).append(line)
        else:
            findings.add("image-nameless", str(path), "", f"line {line.number}")
    ids = unique_ids(list(by_image))
    places = [root, root / "images", root / split, root / "images" / split, path.parent]
    images = Images(root, [place for place in places if place.is_dir()])
    for name, lines in by_image.items():
        objects: List[Tuple[str, Tuple[float, ...], bool]] = []
        where = f"line {lines[0].number}"
        try:
            image = images.find(name)
            for line in lines:
                try:
                    objects += _object(line.values)
                except BoxError as error:
                    findings.add(error.code, str(path), f"{name}: {error}", f"line {line.number}")
            reading.records.append(
                make_annotation(
                    ids[name], image, str(path), _size(lines[0].values), [o[0] for o in objects],
                    [o[1] for o in objects], [o[2] for o in objects], findings, f"{where}, {name}",
                )
            )  # fmt: skip
        except AnnotationError as error:
            reading.skip(error, str(path), where)
    reading.check(str(path), len(by_image))
    listed = read_classes(root / "classes.txt")
    wanted = tuple(classes or listed or sorted({name for record in reading.records for name in record.names}))
    if not wanted:
        raise DataError(f"{path}: no object in any line, so no class names; give them")
    return make_dataset(f"{root.name} {split}", reading.records, wanted, listed, allow_absent, findings)


def _lines(path: Path) -> Iterator[_Line]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: far too large for a table")
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [word.strip().lower() for word in next(reader, [])]
            if not set(NEEDED) <= set(columns):
                raise DataError(f"{path}: its first line has not the columns {', '.join(NEEDED)}")
            for words in reader:
                if any(word.strip() for word in words):
                    yield _Line(reader.line_num, dict(zip(columns, words)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def _object(values: Mapping[str, str]) -> List[Tuple[str, Tuple[float, ...], bool]]:
    """The object of a line, in a list; an empty one for a line that says that there is none."""
    name = (values.get("class") or "").strip()
    texts = [(values.get(corner) or "").strip() for corner in CORNERS]
    if not name and not any(texts):
        return []
    if not name:
        raise BoxError("object-nameless", "an object without a class")
    if not all(texts):
        raise BoxError("box-missing", f"{name} without four corners")
    difficult = (values.get("difficult") or "").strip().lower() in ("1", "true")
    return [(name, box_of(name, texts), difficult)]


def _size(values: Mapping[str, str]) -> Optional[Tuple[int, int]]:
    try:
        width, height = (int(float(values.get(side) or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if 0 < width < 1 << 20 and 0 < height < 1 << 20 else None


def write_csv(dataset: Dataset, path: Path, files: Mapping[str, str]) -> None:
    """Write a dataset as one table.

    Parameters
    ----------
    dataset : Dataset
    path : Path
    files : mapping of str to str
        By image id the name of its file.
    """
    with atomic_write(path) as file:
        writer: Any = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for sample in dataset:
            start = [files[sample.image_id], *sample.size]
            if not len(sample.labels):
                writer.writerow([*start, "", "", "", "", "", 0])
            for box, label, difficult in zip(sample.boxes.tolist(), sample.labels, sample.difficult):
                corners = [f"{value + 1:.10g}" for value in box]
                writer.writerow([*start, dataset.classes[int(label)], *corners, int(difficult)])


class CsvFormat(Format):
    """CSV tables."""

    name = "csv"
    description = "CSV tables: one object per line, as in TensorFlow's object detection tutorials"
    layout = "CSV tables with the columns filename, class, xmin, ymin, xmax, ymax"
    contents = "CSV tables of objects"
    priority = 50

    def lists(self, root: Path) -> Dict[str, Any]:
        return csv_files(root)

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        return read_csv(root, split, classes, allow_absent=allow_absent)

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
        for split, dataset in parts.items():
            write_csv(dataset, folder / f"{split}.csv", files[split])
        write_classes(parts, folder)
        return []


formats.register(CsvFormat.name, CsvFormat())
