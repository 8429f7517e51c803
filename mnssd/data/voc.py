"""Reading Pascal VOC, and data sets laid out like it, into samples.

What can be mended is mended, what cannot is left out, and the data set's notes tell of both. What
would make the whole data set a wrong one is an error.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ..errors import DataError, ImageError, OptionError
from ..options import unknown_name
from .dataset import Dataset
from .download import archive_of
from .image import image_size
from .sample import Sample
from .voc_format import (
    LISTS,
    BadAnnotation,
    image_files,
    missing_folders,
    read_annotation,
    read_list,
    split_names,
    write_annotation,
)

__all__ = ["VOC_CLASSES", "read_voc", "read_voc_folder", "write_annotation"]

# In the devkit's order (VOCcode/VOCinit.m).
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

_NAMED = 5  # so many files are named in a note


class _Record(NamedTuple):
    """One image as read, before the classes are settled."""

    image_id: str
    image_path: str
    size: Tuple[int, int]
    names: List[str]
    boxes: np.ndarray
    difficult: List[bool]


class _Notes:
    """Counts what was found, with the first places of each."""

    def __init__(self) -> None:
        self._places: Dict[str, List[str]] = {}

    def add(self, what: str, place: str) -> None:
        self._places.setdefault(what, []).append(place)

    def lines(self) -> List[str]:
        lines = []
        for what, places in self._places.items():
            more = "" if len(places) <= _NAMED else f" and {len(places) - _NAMED} more"
            lines.append(f"{what}: {len(places)} ({'; '.join(places[:_NAMED])}{more})")
        return lines


def read_voc(
    root: Union[str, Path],
    splits: str,
    classes: Optional[Sequence[str]] = None,
    *,
    allow_absent: bool = False,
) -> Dataset:
    """Read image lists of a Pascal VOC devkit.

    Parameters
    ----------
    root : str or Path
        The folder ``VOCdevkit``, which holds ``VOC2007``, ``VOC2012``.
    splits : str
        Lists as YEAR_NAME, joined by ``+``: ``2007_trainval+2012_trainval``. An image that two lists
        name is taken once.
    classes : sequence of str, optional
        The classes wanted, in the order of the labels; by default `VOC_CLASSES`. Objects of others
        are ignored, and their images stay.
    allow_absent : bool
        Accept a wanted class that no annotation knows, with a note: for measuring a detector on
        photographs that lack some of its classes.

    Returns
    -------
    Dataset
        Boxes are clipped to their images; those without area are dropped; images with an unusable
        annotation, or without a file, are left out. ``notes`` tells of each.

    Raises
    ------
    OptionError
        `splits` that are not understood.
    DataError
        A folder, list or class that is not there; a list without images; more than half of the
        annotations or images unusable.
    """
    parts = _parse_splits(splits)
    root = Path(root)
    for year, _ in parts:
        if not (root / f"VOC{year}").is_dir():
            raise DataError(_no_year(root, year))
    notes = _Notes()
    records: List[_Record] = []
    seen: Set[Path] = set()
    for year, split in parts:
        archive = archive_of(year, split)
        hint = f"; unpack {archive} there again, or add --download to fetch it" if archive else ""
        records += _read_split(root / f"VOC{year}", split, seen, hint, notes)
    wanted = VOC_CLASSES if classes is None else tuple(classes)
    folders = [root / f"VOC{year}" for year, _ in parts]
    return _dataset(f"VOC {splits}", records, wanted, VOC_CLASSES, folders, allow_absent, notes)


def read_voc_folder(
    folder: Union[str, Path],
    split: str,
    classes: Optional[Sequence[str]] = None,
    *,
    allow_absent: bool = False,
) -> Dataset:
    """Read one image list of one folder in VOC's layout.

    Parameters
    ----------
    folder : str or Path
        It holds ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
    split : str
        Name of the list, ``train`` for ``ImageSets/Main/train.txt``.
    classes : sequence of str, optional
        The classes wanted, in the order of the labels. By default those in ``folder/classes.txt``, one
        name a line; without that file the names found in this split, sorted.
    allow_absent : bool
        As for `read_voc`.

    Returns
    -------
    Dataset
        As for `read_voc`.

    Raises
    ------
    DataError
        As for `read_voc`; or there is no object to take class names from.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the one that holds {_parts_of_layout()}")
    notes = _Notes()
    records = _read_split(folder, split, set(), "", notes)
    listed = _listed_classes(folder)
    if classes is not None:
        wanted = tuple(classes)
    else:
        wanted = listed or tuple(sorted({name for record in records for name in record.names}))
    if not wanted:
        raise DataError(f"{folder}: no object in any annotation of {split!r}, so no class names; give them")
    return _dataset(f"{folder.name} {split}", records, wanted, listed, [folder], allow_absent, notes)


def _parts_of_layout() -> str:
    return f"Annotations, JPEGImages and {LISTS}"


def _parse_splits(splits: str) -> List[Tuple[str, str]]:
    parts = [re.fullmatch(r"(\d{4})_(\w+)", part.strip(), re.ASCII) for part in splits.split("+")]
    if not all(parts):
        raise OptionError(
            f"splits {splits!r}: write YEAR_LIST, several joined by '+', as in 2007_trainval+2012_trainval"
        )
    return [(part.group(1), part.group(2)) for part in parts if part]


def _no_year(root: Path, year: str) -> str:
    for other in (root.parent, root / "VOCdevkit", root.parent / "VOCdevkit"):
        if (other / f"VOC{year}").is_dir():
            return f"{root} holds no VOC{year}, but {other} does: give that folder as --data-root"
    state = "is not there" if not root.is_dir() else f"holds no VOC{year}"
    return (
        f"{root} {state}; --data-root must be the folder VOCdevkit, which holds VOC2007 and VOC2012. "
        "Add --download to fetch the official archives into it"
    )


def _read_split(folder: Path, split: str, seen: Set[Path], hint: str, notes: _Notes) -> List[_Record]:
    """Read one list; `seen` holds the annotations taken so far, over all lists."""
    missing = missing_folders(folder)
    if missing:
        raise DataError(
            f"{folder} is incomplete: {' and '.join(missing)} missing. A folder in VOC's layout holds "
            f"{_parts_of_layout()}{hint}"
        )
    path = folder / LISTS / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(split_names(folder)) or "none"
        raise DataError(f"{path} does not exist; lists there: {there}{hint}")
    images = image_files(folder)
    ids = read_list(path, images)
    if not ids:
        raise DataError(f"{path} lists no image{hint}")
    records: List[_Record] = []
    skipped: List[str] = []
    for image_id in ids:
        annotation = folder / "Annotations" / f"{image_id}.xml"
        if annotation in seen:
            notes.add("Images listed twice, taken once", image_id)
            continue
        seen.add(annotation)
        try:
            if image_id not in images:
                raise BadAnnotation(f"there is no image {folder / 'JPEGImages' / image_id}.jpg")
            image_path = os.path.join(folder, "JPEGImages", images[image_id])
            records.append(_read_record(image_id, image_path, annotation, notes))
        except BadAnnotation as error:
            skipped.append(f"{annotation}: {error}")
            notes.add("Images skipped", skipped[-1])
    if 2 * len(skipped) > len(ids):
        raise DataError(
            f"{path}: {len(skipped)} of {len(ids)} images cannot be used, the first of them because of "
            f"{skipped[0]}{hint}"
        )
    return records


def _read_record(image_id: str, image_path: str, path: Path, notes: _Notes) -> _Record:
    annotation = read_annotation(path)
    for fault in annotation.faults:
        notes.add("Boxes that cannot be used, dropped", f"{path.name}: {fault}")
    names, difficult, size = annotation.names, annotation.difficult, annotation.size
    boxes = np.array(annotation.boxes, np.float64).reshape(-1, 4)
    if size is None or _outside(boxes, size).max(initial=0) > 1:
        # Before boxes are cut down to the stated size, the image has its say.
        try:
            real = image_size(image_path)
        except ImageError as error:
            raise BadAnnotation(str(error)) from error
        if size is not None and size != real:
            notes.add(
                "Annotations that state another size than their image has", f"{path.name}: {size}, not {real}"
            )
        size = real
    clipped = np.clip(boxes, 0, [size[0] - 1, size[1] - 1] * 2).astype(np.float32)
    left = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    for name, excess, usable in zip(names, _outside(boxes, size), left):
        if not usable:
            notes.add("Boxes without area inside their images, dropped", f"{path.name}: {name}")
        elif excess > 1:
            place = f"{path.name}: {name}, by {excess:g} px"
            notes.add("Boxes partly outside their images, clipped", place)
        elif excess > 0:
            notes.add("Boxes over the edge by a pixel or less, clipped", path.name)
    names = [name for name, usable in zip(names, left) if usable]
    difficult = [flag for flag, usable in zip(difficult, left) if usable]
    return _Record(image_id, image_path, size, names, clipped[left], difficult)


def _outside(boxes: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """By how many pixels each box reaches over the edge of an image of `size`; 0 for those inside."""
    over = np.concatenate([-boxes, boxes - np.array([size[0] - 1, size[1] - 1] * 2)], axis=1)
    return over.max(axis=1, initial=0)


def _dataset(
    name: str,
    records: List[_Record],
    classes: Tuple[str, ...],
    known: Iterable[str],
    folders: List[Path],
    allow_absent: bool,
    notes: _Notes,
) -> Dataset:
    if len(set(classes)) < len(classes) or not all(classes):
        raise DataError(f"{name}: class names must be unique and not empty: {', '.join(classes)}")
    occurring = Counter(object_name for record in records for object_name in record.names)
    absent = [wanted for wanted in classes if wanted not in occurring]
    if not allow_absent:
        _check_known(
            [wanted for wanted in absent if wanted not in known], set(occurring) | set(known), folders
        )
    lines = notes.lines()
    if absent:
        lines.append(f"Classes without any object in {name}: {', '.join(absent)}")
    ignored = [(other, count) for other, count in occurring.most_common() if other not in classes]
    if ignored:
        shown = ", ".join(f"{other} {count}{_misspelling(other, classes)}" for other, count in ignored)
        lines.append(f"Objects of other classes, ignored: {sum(count for _, count in ignored)} ({shown})")
    index = {wanted: label for label, wanted in enumerate(classes)}
    return Dataset(name, classes, [_sample(record, index) for record in records], lines)


def _check_known(unknown: List[str], known: Set[str], folders: List[Path]) -> None:
    """Refuse a class that occurs in no annotation at all; a rare one may be missing in this split only."""
    left = set(unknown)
    for folder in folders:
        for path in (folder / "Annotations").glob("*.xml"):
            if not left:
                return
            try:
                names = set(read_annotation(path).names)
            except BadAnnotation:
                continue
            known |= names
            left -= names
    for name in unknown:
        if name in left:
            raise DataError(f"{folders[0] / 'Annotations'}: {unknown_name('class', name, known)}")


def _misspelling(name: str, classes: Sequence[str]) -> str:
    """A question behind the name of an ignored class that looks much like a wanted one."""
    plain = {wanted.casefold(): wanted for wanted in classes}
    near = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=0.8)
    return f" - is that {plain[near[0]]}?" if near else ""


def _sample(record: _Record, index: Dict[str, int]) -> Sample:
    labels = np.array([index.get(name, -1) for name in record.names], np.int32)
    wanted = labels >= 0
    return Sample(
        record.image_id,
        record.image_path,
        record.boxes[wanted],
        labels[wanted],
        np.array(record.difficult, bool)[wanted],
        record.size,
    )


def _listed_classes(folder: Path) -> Tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of class names ({error})") from error
    return tuple(line.strip() for line in lines if line.strip())
