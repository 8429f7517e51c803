"""CSV tables with one object per line: ``filename,width,height,class,xmin,ymin,xmax,ymax``.

This is the format of TensorFlow's object detection tutorials, converted from VOC: pixels are counted from 1,
and both ends of a box are inclusive. A line without a class is an image without objects. A column
``difficult`` is optional. The tables of other tools are read as well; see `annotations.table`.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from ...errors import DataError, ImageError
from ...files import atomic_write
from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject, parse_size
from ..annotations.class_table import ClassNames, read_class_names
from ..annotations.image_names import find_image
from ..annotations.paths import ImageFinder, find_lists, unique_ids
from ..annotations.roles import role_of
from ..annotations.table import (
    ONLY_CLASS,
    Table,
    TableRow,
    is_readable,
    is_table,
    read_sets,
    read_table,
    to_pixels,
)
from ..annotations.table_layouts import CORNER_AND_SIZE, TUTORIAL_COLUMNS
from ..annotations.text_files import write_classes
from ..dataset import Dataset
from ..image import image_size
from . import Format, ImageFiles, formats

COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "difficult")

LIST_FILE = "_annotations.csv"
"""File in a folder of each list, beside its images (Roboflow's layout)."""

_AFFIXES = r"^(oidv\d+[-_])|(([-_]annotations?)?([-_](labels?|bbox|boxes|export)))$|[-_]annotations?$"
_MANY_OUTSIDE = 0.2
"""Share of boxes outside their images above which x and y are probably not the upper left corner."""


class _Place(NamedTuple):
    """A list: its table, and the value of the column that tells the lists apart."""

    path: Path
    subset: str = ""


class CsvFormat(Format):
    """CSV tables with one object per line."""

    name = "csv"
    description = "CSV tables: one object per line, as in TensorFlow's object detection tutorials"
    layout = f"CSV tables with the columns {', '.join(TUTORIAL_COLUMNS)} or those of another tool"
    contents = "CSV tables of objects"
    priority = 50

    def lists(self, root: Path) -> Dict[str, Any]:
        files = find_lists(root, "*.[ct]sv", _AFFIXES, LIST_FILE, is_table)
        places: Dict[str, _Place] = {}
        for name, path in files.items():
            subsets = read_sets(path)
            if len(subsets) < 2 and role_of(name) == role_of("".join(subsets)):
                places[name] = _Place(path)
                continue
            for subset in subsets or ("",):
                is_only = subset and len(files) == 1 and not role_of(name)
                full_name = "_".join(filter(None, (name, subset)))
                places[subset if is_only else full_name] = _Place(path, subset)
        return places

    def evidence(self, root: Path) -> str:
        if not any(is_readable(place.path) for place in self.lists(root).values()):
            return ""
        return super().evidence(root)

    def weak_evidence(self, root: Path) -> str:
        """Tables of unknown columns: reading them raises the error that names the columns."""
        return super().evidence(root)

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        (path, subset), result = self.place(root, split), AnnotationList()
        table, names = read_table(path), read_class_names([root, path.parent, root / "annotations"])
        rows = [row for row in table.rows if not subset or (row.split.lower() or "unassigned") == subset]
        if all(row.name == ONLY_CLASS for row in rows) and table.layout.label is None:
            result.findings.add("class-column-missing", str(path), f"read as {ONLY_CLASS!r}")
        images = _rows_by_image(rows, ImageFinder.for_list(root, path, split), path, result)
        ids = _image_ids(root, list(images))
        numbered = names.has_numbers(row.name for row in table.rows)
        sizes_of_boxes = _sizes_are_of_boxes(table)
        for image_path, image_rows in images.items():
            first, objects = image_rows[0], []
            where = f"line {first.line}, {first.image}"
            try:
                size = parse_size(*first.size) if first.size and not sizes_of_boxes else None
                real = _image_size(image_path) if table.is_normalized else None
                for row in image_rows:
                    try:
                        objects += _objects(row, table, names, numbered, real)
                    except BoxError as error:
                        text = f"{row.image}: {row.name} {error}"
                        result.findings.add(error.code, str(path), text, f"line {row.line}")
                result.add(ids[image_path], image_path, str(path), size, objects, where)
            except AnnotationError as error:
                result.skip(error, str(path), f"line {first.line}")
        result.check_skipped(str(path), len({row.image for row in rows if row.image}))
        _check_corners(path, table, result)
        result.declared = names.declared
        result.other_classes = self._other_classes(root, split)
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        for split, dataset in parts.items():
            _write_table(dataset, folder / f"{split}.csv", files[split])
        write_classes(parts, folder)
        return []

    def _other_classes(self, root: Path, split: str) -> Iterator[str]:
        """Classes in the tables of the other lists."""
        for name, (path, _) in self.lists(root).items():
            if name != split and is_readable(path):
                table, names = read_table(path), read_class_names([root, path.parent, root / "annotations"])
                if not names.has_numbers(row.name for row in table.rows):
                    yield from dict.fromkeys(names.name_of(row.name, False) for row in table.rows if row.name)


def _rows_by_image(
    rows: Sequence[TableRow], finder: ImageFinder, path: Path, result: AnnotationList
) -> Dict[str, List[TableRow]]:
    """Rows by path of their image, which may have several names; images that are missing are skipped."""
    paths: Dict[str, Optional[str]] = {}
    by_path: Dict[str, List[TableRow]] = {}
    for row in rows:
        if not row.image:
            result.findings.add("image-without-name", str(path), "", f"line {row.line}")
            continue
        if row.image not in paths:
            try:
                paths[row.image] = os.path.normpath(find_image(finder, row.image))
            except AnnotationError as error:
                paths[row.image] = None
                result.skip(error, str(path), f"line {row.line}")
        image_path = paths[row.image]
        if image_path is not None:
            by_path.setdefault(image_path, []).append(row)
    return by_path


def _image_ids(root: Path, paths: Sequence[str]) -> Dict[str, str]:
    """Ids of images by path; see `unique_ids`."""
    folder = os.path.realpath(root)
    folders = {name: os.path.realpath(name) for name in {os.path.dirname(path) for path in paths}}
    names = {
        path: os.path.relpath(os.path.join(folders[os.path.dirname(path)], os.path.basename(path)), folder)
        for path in paths
    }
    ids = unique_ids(list(names.values()))
    return {path: ids[name] for path, name in names.items()}


def _image_size(path: str) -> Size:
    try:
        return image_size(path)
    except ImageError as error:
        raise AnnotationError(str(error), "image-unreadable") from error


def _objects(
    row: TableRow, table: Table, names: ClassNames, numbered: bool, size: Optional[Size]
) -> List[BoxObject]:
    """Object of a row, in a list; an empty list for an image without objects."""
    if isinstance(row.edges, BoxError):
        raise row.edges
    if not isinstance(row.edges, tuple):
        return []
    return [BoxObject(names.name_of(row.name, numbered), to_pixels(row.edges, table, size), row.difficult)]


def _sizes_are_of_boxes(table: Table) -> bool:
    """Whether the columns width and height repeat the sizes of the boxes instead of the images'."""
    sizes = [(parse_size(*row.size), row.edges) for row in table.rows if row.size]
    boxes = [(size, edges) for size, edges in sizes if size is not None and isinstance(edges, tuple)]
    same = sum(
        abs(right - left - size[0]) <= 1 and abs(bottom - top - size[1]) <= 1
        for size, (left, top, right, bottom) in boxes
    )
    different = len({edges for _, edges in boxes}) > 1
    return different and 2 * same > len(boxes)


def _check_corners(path: Path, table: Table, result: AnnotationList) -> None:
    """Raise DataError if x, y, width and height do not fit the images."""
    codes = [finding.code for finding in result.findings.items]
    outside = codes.count("box-clipped") + codes.count("box-outside")
    boxes = sum(len(annotation.names) for annotation in result.annotations) + codes.count("box-outside")
    if table.layout.kind == CORNER_AND_SIZE and outside > max(1, _MANY_OUTSIDE * boxes):
        raise DataError(
            f"{path}: {outside} of {boxes} boxes exceed their images, read as left, top, width and height. "
            "In the first line, name corners xmin, ymin, xmax, ymax, and centers x_center, y_center"
        )


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
