"""Detection files of the Pascal VOC devkit: one text file per class, ``comp4_det_SPLIT_CLASS.txt``.

Each line is ``image_id score xmin ymin xmax ymax`` with pixels counted from 1. Numbers are written with full
precision: evaluating the files gives exactly the result of evaluating the detections. White space in an image
id is percent-encoded, ``a%20b``.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Collection, Iterator, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from ..data.sample import Detections
from ..errors import DataError
from ..files import NAME_ERRORS, atomic_write, escape_name, unescape_name

_NOT_IN_WORDS = re.compile(r"\s|\ufeff|%[0-9A-Fa-f]{2}")

_COMPETITIONS = ("comp4", "comp3")  # trained on any data, and on VOC data only; comp4 is written


@dataclass(frozen=True)
class DetectionTable:
    """Contents of detection files: class by class, in the order of the lines; one image id per detection.

    Boxes, in pixels counted from 0, and scores are float64, to keep the precision of the files. `notes` list
    classes without a file and count inverted boxes.
    """

    image_ids: List[str]
    detections: Detections
    notes: List[str]


class DetectionWriter:
    """Context manager that writes one file per class, on success of the ``with`` block only.

    Parameters
    ----------
    folder : str or Path
        Created if missing. Files of the same names are replaced.
    split : str
        SPLIT in the file names.
    classes : sequence of str
        A class without detections gets an empty file.

    Raises
    ------
    DataError
        If the split or a class cannot be part of a file name, or an image id is empty.
    """

    def __init__(self, folder: Union[str, Path], split: str, classes: Sequence[str]) -> None:
        self._paths = [Path(folder) / detection_file_name(split, name) for name in classes]
        self._lines: List[List[str]] = [[] for _ in classes]
        if Path(folder).exists() and not Path(folder).is_dir():
            raise DataError(f"{folder}: not a folder; choose a folder for the detection files")
        os.makedirs(folder, exist_ok=True)  # now, so that it fails before the evaluation

    def __enter__(self) -> DetectionWriter:
        return self

    def add(self, image_id: str, detections: Detections) -> None:
        """Add the detections of one image, in any order."""
        if not image_id:
            raise DataError("an image id is empty, which detection files cannot hold; rename the image")
        word = escape_name(image_id, _NOT_IN_WORDS)
        scores = np.asarray(detections.scores, np.float64).tolist()
        boxes = (np.asarray(detections.boxes, np.float64) + 1).tolist()
        for label, score, box in zip(np.asarray(detections.labels).tolist(), scores, boxes):
            numbers = " ".join(map(repr, (score, *box)))
            self._lines[label].append(f"{word} {numbers}\n")

    def __exit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        if kind is None:
            with contextlib.ExitStack() as files:
                for path, lines in zip(self._paths, self._lines):
                    files.enter_context(atomic_write(path)).writelines(lines)


def read_detections(
    folder: Union[str, Path], split: str, classes: Sequence[str], image_ids: Collection[str]
) -> DetectionTable:
    """Read the detection files of one split, written by any program.

    For the split ``2007_test``, the devkit's own files of ``test`` are read, too. A class without a file has
    no detections. `image_ids` are all images of the split.

    Raises
    ------
    DataError
        If a line does not have six fields, a number is not finite, or an image is not in the split; the
        message has file and line. Also if the folder is missing, or has no file of this split or two for one
        class.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a folder of detection files")
    paths = [_find_file(folder, split, name) for name in classes]
    if not any(paths):
        raise DataError(_no_files(folder, split, classes))
    split_ids = frozenset(image_ids)
    ids: List[str] = []
    rows: List[List[float]] = []
    labels: List[int] = []
    notes: List[str] = []
    for label, path in enumerate(paths):
        lines = list(_lines(path, split_ids)) if path else []
        ids += [image_id for image_id, _ in lines]
        rows += [numbers for _, numbers in lines]
        labels += [label] * len(lines)
        inverted = sum(row[3] < row[1] or row[4] < row[2] for _, row in lines)
        if inverted:
            notes.append(f"{path}: {inverted} of {len(lines)} boxes are inverted and match nothing")
    missing = [name for name, path in zip(classes, paths) if path is None]
    if missing:
        notes.append(f"{folder}: no file for {', '.join(missing)}; counted as no detections")
    table = np.array(rows, np.float64).reshape(-1, 5)
    return DetectionTable(ids, Detections(table[:, 1:] - 1, np.array(labels, np.int32), table[:, 0]), notes)


def detection_file_name(split: str, class_name: str, competition: str = "comp4") -> str:
    """File name for a class: ``comp4_det_SPLIT_CLASS.txt``."""
    name = f"{competition}_det_{split}_{class_name}.txt"
    if os.path.basename(name) != name or "\0" in name:
        raise DataError(f"split {split!r} and class {class_name!r}: not valid in a file name")
    return name


def _find_file(folder: Path, split: str, class_name: str) -> Optional[Path]:
    with_year = re.fullmatch(r"\d{4}_(\w+)", split)
    splits = [split, with_year.group(1)] if with_year else [split]  # the devkit of a year omits the year
    candidates = [folder / detection_file_name(s, class_name, c) for s in splits for c in _COMPETITIONS]
    paths = [path for path in candidates if path.is_file()]
    if len(paths) > 1:
        raise DataError(f"{paths[0]} and {paths[1]} are for the same class; remove one of them")
    return paths[0] if paths else None


def _no_files(folder: Path, split: str, classes: Sequence[str]) -> str:
    names = sorted(path.name for path in folder.glob("comp*_det_*.txt"))
    present = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "no detection files"
    return (
        f"{folder}: no detection files of split {split!r}; expected names such as "
        f"{detection_file_name(split, classes[0])}, got {present}"
    )


def _lines(path: Path, split_ids: Collection[str]) -> Iterator[Tuple[str, List[float]]]:
    """Image id and five numbers of each line."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors=NAME_ERRORS)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 6:
            raise DataError(
                f"{path}:{number}: {len(fields)} fields, expected 6: image_id score xmin ymin xmax ymax"
            )
        image_id = next((name for name in (unescape_name(fields[0]), fields[0]) if name in split_ids), None)
        if image_id is None:
            example = f", such as {min(split_ids)!r}" if split_ids else ""
            raise DataError(
                f"{path}:{number}: image {fields[0]!r} is not one of the {len(split_ids)} images of the "
                f"dataset{example}"
            )
        yield image_id, [_number(field, path, number) for field in fields[1:]]


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{path}:{line}: expected a number, got {text!r}") from None
    if not math.isfinite(value):
        raise DataError(f"{path}:{line}: expected a finite number, got {text!r}")
    return value
