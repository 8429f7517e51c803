"""CSV tables with one object per line: ``filename,width,height,class,xmin,ymin,xmax,ymax``.

This is the format of TensorFlow's object detection tutorials, converted from VOC: pixels are counted from 1,
and both ends of a box are inclusive. A line without a class is an image without objects. A column
``difficult`` is optional.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import atomic_write
from ..annotations.annotation import (
    AnnotationError,
    AnnotationList,
    BoxError,
    BoxObject,
    choose_classes,
    make_dataset,
    read_classes,
    write_classes,
)  # fmt: skip
from ..annotations.paths import MAX_BYTES, ImageFinder, unique_ids
from ..annotations.voc_xml import CORNERS, parse_box
from ..dataset import Dataset
from . import Format, formats

REQUIRED = ("filename", "class", *CORNERS)
COLUMNS = ("filename", "width", "height", "class", *CORNERS, "difficult")

LIST_FILE = "_annotations.csv"
"""File in a folder of each list, beside its images (Roboflow's layout)."""

_SUFFIXES = ("_labels", "_annotations")  # of a list's file name in the tutorials


class _Line(NamedTuple):
    number: int
    values: Mapping[str, str]


class CsvFormat(Format):
    """CSV tables with one object per line."""

    name = "csv"
    description = "CSV tables: one object per line, as in TensorFlow's object detection tutorials"
    layout = f"CSV tables with the columns {', '.join(REQUIRED)}"
    contents = "CSV tables of objects"
    priority = 50

    def lists(self, root: Path) -> Dict[str, Any]:
        files: Dict[str, Path] = {}
        for folder in (root, root / "annotations"):
            for path in sorted(folder.glob("*.csv")) if folder.is_dir() else ():
                if _is_table(path):
                    name = path.stem
                    for suffix in _SUFFIXES:
                        name = name[: -len(suffix)] if name.endswith(suffix) and name != suffix else name
                    files.setdefault(name, path)
        for path in sorted(root.glob(f"*/{LIST_FILE}")) if root.is_dir() else ():
            if _is_table(path):
                files.setdefault(path.parent.name, path)
        return files

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        path, result = self.place(root, split), AnnotationList()
        by_image: Dict[str, List[_Line]] = {}
        for line in _lines(path):
            name = (line.values.get("filename") or "").strip()
            if name:
                by_image.setdefault(name, []).append(line)
            else:
                result.findings.add("image-without-name", str(path), "", f"line {line.number}")
        ids = unique_ids(list(by_image))
        bases = [root, root / "images", root / split, root / "images" / split, path.parent]
        finder = ImageFinder(root, bases)
        for name, lines in by_image.items():
            where, objects = f"line {lines[0].number}", []
            try:
                image_path = finder.find(name)
                for line in lines:
                    try:
                        objects += _objects(line.values)
                    except BoxError as error:
                        result.findings.add(error.code, str(path), f"{name}: {error}", f"line {line.number}")
                size = _size(lines[0].values)
                result.add(ids[name], image_path, str(path), size, objects, f"{where}, {name}")
            except AnnotationError as error:
                result.skip(error, str(path), where)
        result.check_skipped(str(path), len(by_image))
        declared = read_classes(root / "classes.txt")
        chosen = choose_classes(classes, declared or result.class_names(), path)
        return make_dataset(
            f"{root.name} {split}", result.annotations, chosen, declared, allow_absent, result.findings
        )

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
        for split, dataset in parts.items():
            _write_table(dataset, folder / f"{split}.csv", files[split])
        write_classes(parts, folder)
        return []


def _is_table(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(4096)
    except OSError:
        return False
    return set(REQUIRED) <= {word.strip().strip('"').lower() for word in header.split(",")}


def _lines(path: Path) -> Iterator[_Line]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 30} GiB; split it into several lists")
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [word.strip().lower() for word in next(reader, [])]
            if not set(REQUIRED) <= set(columns):
                raise DataError(f"{path}: expected the columns {', '.join(REQUIRED)} in the first line")
            for words in reader:
                if any(word.strip() for word in words):
                    yield _Line(reader.line_num, dict(zip(columns, words)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def _objects(values: Mapping[str, str]) -> List[BoxObject]:
    """Object of a line, in a list; an empty list for an image without objects."""
    name = (values.get("class") or "").strip()
    texts = [(values.get(corner) or "").strip() for corner in CORNERS]
    if not name and not any(texts):
        return []
    if not name:
        raise BoxError("object-without-class", "object without a class")
    if not all(texts):
        raise BoxError("box-missing", f"{name}: expected four corners")
    difficult = (values.get("difficult") or "").strip().lower() in ("1", "true")
    return [BoxObject(name, parse_box(name, texts), difficult)]


def _size(values: Mapping[str, str]) -> Optional[Tuple[int, int]]:
    try:
        width, height = (int(float(values.get(side) or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if 0 < width < 1 << 20 and 0 < height < 1 << 20 else None


def _write_table(dataset: Dataset, path: Path, files: Mapping[str, str]) -> None:
    with atomic_write(path) as file:
        writer: Any = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for sample in dataset:
            image = [files[sample.image_id], *sample.size]
            if not len(sample.labels):
                writer.writerow([*image, "", "", "", "", "", 0])
            for box, label, difficult in zip(sample.boxes.tolist(), sample.labels, sample.difficult):
                corners = [f"{value + 1:.10g}" for value in box]
                writer.writerow([*image, dataset.classes[int(label)], *corners, int(difficult)])


formats.register(CsvFormat.name, CsvFormat())
