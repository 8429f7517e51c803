"""MXNet's record files and lists for detection; `annotations.record_labels` describes their labels.

``.rec`` files contain the images. ``.lst`` files are text with one image per line: number, label and path,
separated by tabs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from ...errors import DataError
from ...files import atomic_write, utf8_path
from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxObject
from ..annotations.image_names import find_image
from ..annotations.paths import ImageFinder, image_stem
from ..annotations.record_labels import Entry, add_entries, entries_of, is_record, parse_label, stems_of
from ..annotations.text_files import CLASSES_FILE, read_classes, write_classes
from ..dataset import Dataset
from ..image import file_content
from ..sample import Sample
from . import Format, ImageFiles, formats


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
        names, stems = read_classes(root / CLASSES_FILE), stems_of(path)
        entries, total = _found_entries(root, path, split, result)

        def parse(entry: Entry, size: Size) -> List[BoxObject]:
            return parse_label(entry, names, size, str(path), result.findings)

        def id_of(entry: Entry) -> str:
            return stems.get(entry.number, "") if is_record(path) else image_stem(entry.image)

        add_entries(result, str(path), split, entries, parse, id_of)
        result.check_skipped(str(path), total)
        result.declared = names or tuple(sorted(result.class_names(), key=int))
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        for split, dataset in parts.items():
            _write_records(dataset, folder, split, files[split])
        write_classes(parts, folder)
        return []


def _found_entries(
    root: Path, path: Path, split: str, result: AnnotationList
) -> Tuple[List[Tuple[str, Entry]], int]:
    """Entries with the paths of their images, and the number of all; missing images are skipped."""
    finder = ImageFinder(
        root, [root / f for f in ("", "images", "JPEGImages", split, f"images/{split}")], split
    )
    found: List[Tuple[str, Entry]] = []
    total = 0
    for entry in entries_of(path):
        total += 1
        try:
            found.append((entry.image if is_record(path) else find_image(finder, entry.image), entry))
        except AnnotationError as error:
            result.skip(error, str(path), entry.where)
    return found, total


def _has_objects(path: Path) -> bool:
    """Whether the first label is one of objects rather than the class of the whole image."""
    try:
        first = next(entries_of(path), None)
    except (DataError, OSError):
        return is_record(path)  # reading it raises the error
    return first is not None and len(first.label) >= 2 and first.label[0] >= 2 and first.label[1] >= 5


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
                content = file_content(sample.image_path)
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
