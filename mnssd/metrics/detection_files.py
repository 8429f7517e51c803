"""Detections in the devkit's text format: one file a class, ``comp4_det_SPLIT_CLASS.txt``.

Each line is ``image_id score xmin ymin xmax ymax``; pixels are counted from 1, so 1 is added to our
coordinates when writing and taken off when reading. Numbers are written so that they are read back
to the last bit: scoring the files gives exactly what scoring the detections gives.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Collection, Iterator, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from ..data.sample import Detections
from ..errors import DataError
from ..files import atomic_write

_COMPETITIONS = ("comp4", "comp3")  # detectors trained on any data, and on VOC's alone; comp4 is written


@dataclass(frozen=True)
class DetectionTable:
    """What detection files hold: class after class, within a class in the order of the lines.

    Attributes
    ----------
    image_ids : list of str
        One for each detection.
    detections : Detections
        Boxes ``(N, 4)`` and scores ``(N,)`` are float64 here, since files may tell apart what float32
        cannot; boxes in pixels counted from 0.
    notes : list of str
        Lines for the user: classes without a file, boxes that no object can match.
    """

    image_ids: List[str]
    detections: Detections
    notes: List[str]


class DetectionWriter:
    """Writes one file for each class, all of them when the ``with`` block ends well, else none.

    Parameters
    ----------
    folder : str or Path
        Made if missing. Files of the same names are replaced.
    split : str
        The SPLIT of the file names.
    classes : sequence of str
        Class names; a class without detections gets an empty file.

    Raises
    ------
    DataError
        For a split or class that cannot be part of a file name, or an image id with white space,
        which the format cannot hold.
    """

    def __init__(self, folder: Union[str, Path], split: str, classes: Sequence[str]) -> None:
        self._paths = [Path(folder) / detection_file_name(split, name) for name in classes]
        self._lines: List[List[str]] = [[] for _ in classes]
        if Path(folder).exists() and not Path(folder).is_dir():
            raise DataError(f"{folder} is no folder; detections are written as one file for each class")
        os.makedirs(folder, exist_ok=True)  # at once: a folder that cannot be made is known before the work

    def __enter__(self) -> DetectionWriter:
        return self

    def add(self, image_id: str, detections: Detections) -> None:
        """Add the detections of one image, in any order."""
        if not image_id or image_id.split() != [image_id]:
            raise DataError(
                f"image id {image_id!r}: the devkit's format cannot hold white space; rename the image"
            )
        scores = np.asarray(detections.scores, np.float64).tolist()
        boxes = (np.asarray(detections.boxes, np.float64) + 1).tolist()
        for label, score, box in zip(np.asarray(detections.labels).tolist(), scores, boxes):
            numbers = " ".join(map(repr, (score, *box)))
            self._lines[label].append(f"{image_id} {numbers}\n")

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is None:
            with contextlib.ExitStack() as files:
                for path, lines in zip(self._paths, self._lines):
                    files.enter_context(atomic_write(path)).writelines(lines)


def read_detections(
    folder: Union[str, Path], split: str, classes: Sequence[str], image_ids: Collection[str]
) -> DetectionTable:
    """Read the detection files of one split, anybody's.

    Parameters
    ----------
    folder : str or Path
        Where the files are.
    split : str
        The SPLIT of the file names. For ``2007_test`` the devkit's own ``test`` is understood too.
    classes : sequence of str
        A class without a file has no detections, which the notes say.
    image_ids : collection of str
        The images of the split; a line about any other is an error.

    Raises
    ------
    DataError
        Naming file and line: not six fields, a number that is none or is not finite, an unknown image.
        Or the folder is missing, holds no file of this split, or two for one class.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of detections")
    paths = [_find_file(folder, split, name) for name in classes]
    if not any(paths):
        raise DataError(_no_files(folder, split, classes))
    known = frozenset(image_ids)
    ids: List[str] = []
    rows: List[List[float]] = []
    labels: List[int] = []
    notes: List[str] = []
    for label, path in enumerate(paths):
        if path is None:
            continue
        before = len(rows)
        for image_id, numbers in _lines(path, known):
            ids.append(image_id)
            rows.append(numbers)
        labels += [label] * (len(rows) - before)
        inverted = sum(row[3] < row[1] or row[4] < row[2] for row in rows[before:])
        if inverted:
            notes.append(
                f"{path}: {inverted} of {len(rows) - before} boxes end before they begin and match nothing"
            )
    missing = [name for name, path in zip(classes, paths) if path is None]
    if missing:
        notes.append(f"{folder}: no file for {', '.join(missing)}: counted as no detections")
    table = np.array(rows, np.float64).reshape(-1, 5)
    return DetectionTable(ids, Detections(table[:, 1:] - 1, np.array(labels, np.int32), table[:, 0]), notes)


def detection_file_name(split: str, class_name: str, competition: str = "comp4") -> str:
    """``comp4_det_SPLIT_CLASS.txt``."""
    name = f"{competition}_det_{split}_{class_name}.txt"
    if os.path.basename(name) != name or "\0" in name:
        raise DataError(f"split {split!r} and class {class_name!r} cannot be made part of a file name")
    return name


def _find_file(folder: Path, split: str, class_name: str) -> Optional[Path]:
    candidates = [
        folder / detection_file_name(s, class_name, c) for s in _split_names(split) for c in _COMPETITIONS
    ]
    there = [path for path in candidates if path.is_file()]
    if len(there) > 1:
        raise DataError(f"{there[0]} and {there[1]} are for the same class; leave the one that is meant")
    return there[0] if there else None


def _split_names(split: str) -> List[str]:
    """How file names may call a split: as we do, ``2007_test``, or as that year's devkit does, ``test``."""
    with_year = re.fullmatch(r"\d{4}_(\w+)", split)
    return [split, with_year.group(1)] if with_year else [split]


def _no_files(folder: Path, split: str, classes: Sequence[str]) -> str:
    there = sorted(path.name for path in folder.glob("comp*_det_*.txt"))
    shown = (
        f"there are {', '.join(there[:3])}{', ...' if len(there) > 3 else ''}" if there else "there are none"
    )
    return (
        f"{folder} holds no detections of split {split!r}: expected files such as "
        f"{detection_file_name(split, classes[0])}; {shown}"
    )


def _lines(path: Path, known: Collection[str]) -> Iterator[Tuple[str, List[float]]]:
    """The image id and the five numbers of each line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text file ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 6:
            raise DataError(
                f"{path}:{number}: {len(fields)} fields, expected 6: image_id score xmin ymin xmax ymax"
            )
        if fields[0] not in known:
            example = f", such as {min(known)!r}" if known else ""
            raise DataError(
                f"{path}:{number}: image {fields[0]!r} is not among the {len(known)} of the dataset{example}"
            )
        yield fields[0], [_number(field, path, number) for field in fields[1:]]


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{path}:{line}: {text!r} is no number") from None
    if not math.isfinite(value):
        raise DataError(f"{path}:{line}: {text!r} is not finite")
    return value
