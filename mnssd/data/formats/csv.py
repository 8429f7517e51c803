"""CSV tables with one object per line: ``filename,width,height,class,xmin,ymin,xmax,ymax``.

This is the format of TensorFlow's object detection tutorials, converted from VOC: pixels are counted from 1,
and both ends of a box are inclusive. A line without a class is an image without objects. A column
``difficult`` is optional.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ...errors import DataError
from ...files import atomic_write
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject, parse_size
from ..annotations.paths import ImageFinder, find_lists, unique_ids
from ..annotations.text_files import CLASSES_FILE, open_text, read_classes, write_classes
from ..annotations.voc_xml import CORNERS, parse_box, parse_flag
from ..dataset import Dataset
from . import Format, ImageFiles, formats

REQUIRED = ("filename", "class", *CORNERS)
COLUMNS = ("filename", "width", "height", "class", *CORNERS, "difficult")

LIST_FILE = "_annotations.csv"
"""File in a folder of each list, beside its images (Roboflow's layout)."""

_Row = Mapping[str, str]  # COLUMNS to values


class CsvFormat(Format):
    """CSV tables with one object per line."""

    name = "csv"
    description = "CSV tables: one object per line, as in TensorFlow's object detection tutorials"
    layout = f"CSV tables with the columns {', '.join(REQUIRED)}"
    contents = "CSV tables of objects"
    priority = 50

    def lists(self, root: Path) -> Dict[str, Any]:
        return find_lists(root, "*.csv", "(_annotations)?(_labels)?$", LIST_FILE, _is_table)

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        path, result = self.place(root, split), AnnotationList()
        by_image: Dict[str, List[Tuple[int, _Row]]] = {}
        for number, row in _rows(path):
            if row["filename"]:
                by_image.setdefault(row["filename"], []).append((number, row))
            else:
                result.findings.add("image-without-name", str(path), "", f"line {number}")
        ids, finder = unique_ids(list(by_image)), ImageFinder.for_list(root, path, split)
        for name, rows in by_image.items():
            (first, image), objects = rows[0], []
            try:
                image_path = finder.find(name)
                for number, row in rows:
                    try:
                        objects += _objects(row)
                    except BoxError as error:
                        result.findings.add(error.code, str(path), f"{name}: {error}", f"line {number}")
                size = parse_size(image["width"], image["height"])
                result.add(ids[name], image_path, str(path), size, objects, f"line {first}, {name}")
            except AnnotationError as error:
                result.skip(error, str(path), f"line {first}")
        result.check_skipped(str(path), len(by_image))
        result.declared = read_classes(root / CLASSES_FILE)
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
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


def _rows(path: Path) -> Iterator[Tuple[int, _Row]]:
    """Lines with their numbers; columns that are missing are empty."""
    try:
        with open_text(path, "a table") as file:
            reader = csv.reader(file)
            columns = [word.strip().lower() for word in next(reader, [])]
            if not set(REQUIRED) <= set(columns):
                raise DataError(f"{path}: expected the columns {', '.join(REQUIRED)} in the first line")
            for words in reader:
                if any(word.strip() for word in words):
                    values = dict(zip(columns, map(str.strip, words)))
                    yield reader.line_num, {column: values.get(column, "") for column in COLUMNS}
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def _objects(row: _Row) -> List[BoxObject]:
    """Object of a line, in a list; an empty list for an image without objects."""
    name, texts = row["class"], [row[corner] for corner in CORNERS]
    if not name and not any(texts):
        return []
    if not name:
        raise BoxError("object-without-class", "object without a class")
    if not all(texts):
        raise BoxError("box-missing", f"{name}: expected four corners")
    return [BoxObject(name, parse_box(name, texts), parse_flag(row["difficult"]))]


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
