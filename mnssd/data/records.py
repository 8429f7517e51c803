"""One image of a data set as its annotation has it, to a sample: the same rules for every format.

Boxes are clipped to their images, those without area dropped, images that cannot be used left out; what was
done is counted, with the first places of each, for the data set's notes.
"""

from __future__ import annotations

import difflib
from collections import Counter
from functools import partial
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ..errors import DataError, ImageError
from ..options import unknown_name
from .dataset import Dataset
from .image import image_size
from .sample import Sample

_NAMED = 5  # so many files are named in a note


class BadAnnotation(Exception):
    """One annotation that cannot be used; the text says why. The readers count it and go on."""


class Record(NamedTuple):
    """One image as read, before the classes are settled."""

    image_id: str
    image_path: str
    size: Tuple[int, int]
    names: List[str]
    boxes: np.ndarray
    difficult: List[bool]


class Notes:
    """Counts what was found, with the first places of each."""

    def __init__(self) -> None:
        self._places: Dict[str, List[str]] = {}

    def add(self, what: str, place: str) -> None:
        """One more of a kind."""
        self._places.setdefault(what, []).append(place)

    def lines(self) -> List[str]:
        """A line a kind."""
        lines = []
        for what, places in self._places.items():
            more = "" if len(places) <= _NAMED else f" and {len(places) - _NAMED} more"
            lines.append(f"{what}: {len(places)} ({'; '.join(places[:_NAMED])}{more})")
        return lines


def make_record(
    image_id: str,
    image_path: str,
    place: str,
    stated: Optional[Tuple[int, int]],
    names: List[str],
    boxes: Iterable[Sequence[float]],
    difficult: List[bool],
    notes: Notes,
) -> Record:
    """An image's boxes within its size.

    Parameters
    ----------
    image_id, image_path : str
    place : str
        What the user knows the annotation by.
    stated : tuple of int, optional
        ``(width, height)`` as the annotation has it.
    names : list of str
        The class of each box.
    boxes : iterable
        ``xmin, ymin, xmax, ymax`` in pixels counted from 0, both ends belonging to the box; finite.
    difficult : list of bool
    notes : Notes

    Raises
    ------
    BadAnnotation
        When the size has to come from the image, which cannot be read.
    """
    found = np.array(list(boxes), np.float64).reshape(-1, 4)
    size = stated
    if size is None or outside(found, size).max(initial=0) > 1:
        # Before boxes are cut down to the stated size, the image has its say.
        try:
            real = image_size(image_path)
        except ImageError as error:
            raise BadAnnotation(str(error)) from error
        if size is not None and size != real:
            notes.add(
                "Annotations that state another size than their image has", f"{place}: {size}, not {real}"
            )
        size = real
    clipped = np.clip(found, 0, [size[0] - 1, size[1] - 1] * 2).astype(np.float32)
    left = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    for name, excess, usable in zip(names, outside(found, size), left):
        if not usable:
            notes.add("Boxes without area inside their images, dropped", f"{place}: {name}")
        elif excess > 1:
            notes.add("Boxes partly outside their images, clipped", f"{place}: {name}, by {excess:g} px")
        elif excess > 1e-3:  # what is less, conversions leave
            notes.add("Boxes over the edge by a pixel or less, clipped", place)
    names = [name for name, usable in zip(names, left) if usable]
    difficult = [flag for flag, usable in zip(difficult, left) if usable]
    return Record(image_id, image_path, size, names, clipped[left], difficult)


def outside(boxes: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """By how many pixels each box reaches over the edge of an image of `size`; 0 for those inside."""
    over = np.concatenate([-boxes, boxes - np.array([size[0] - 1, size[1] - 1] * 2)], axis=1)
    return over.max(axis=1, initial=0)


def make_dataset(
    name: str,
    records: List[Record],
    classes: Tuple[str, ...],
    known: Iterable[str],
    allow_absent: bool,
    notes: Notes,
    check: Optional[Callable[[List[str], Set[str]], None]] = None,
) -> Dataset:
    """Records with the wanted classes as labels.

    Parameters
    ----------
    name : str
        What the user is shown.
    records : list of Record
    classes : tuple of str
        Wanted, in the order of the labels.
    known : iterable of str
        Names that the data set declares, whether they occur or not.
    allow_absent : bool
        Accept wanted classes that are neither known nor occur.
    notes : Notes
    check : callable, optional
        Given the wanted names that nobody knows and those that somebody does; raises DataError when they are
        nowhere. By default they are refused.
    """
    if len(set(classes)) < len(classes) or not all(classes):
        raise DataError(f"{name}: class names must be unique and not empty: {', '.join(classes)}")
    occurring = Counter(object_name for record in records for object_name in record.names)
    absent = [wanted for wanted in classes if wanted not in occurring]
    if not allow_absent:
        unknown = [wanted for wanted in absent if wanted not in known]
        (check or partial(_refuse, name))(unknown, set(occurring) | set(known))
    lines = notes.lines()
    if absent:
        lines.append(f"Classes without any object in {name}: {', '.join(absent)}")
    ignored = [(other, count) for other, count in occurring.most_common() if other not in classes]
    if ignored:
        shown = ", ".join(f"{other} {count}{_misspelling(other, classes)}" for other, count in ignored)
        lines.append(f"Objects of other classes, ignored: {sum(count for _, count in ignored)} ({shown})")
    index = {wanted: label for label, wanted in enumerate(classes)}
    return Dataset(name, classes, [to_sample(record, index) for record in records], lines)


def _refuse(name: str, unknown: List[str], known: Set[str]) -> None:
    for wanted in unknown:
        raise DataError(f"{name}: {unknown_name('class', wanted, known)}")


def _misspelling(name: str, classes: Sequence[str]) -> str:
    """A question behind the name of an ignored class that looks much like a wanted one."""
    plain = {wanted.casefold(): wanted for wanted in classes}
    near = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=0.8)
    return f" - is that {plain[near[0]]}?" if near else ""


def to_sample(record: Record, index: Dict[str, int]) -> Sample:
    """With the labels of `index`; objects of other classes are left out."""
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
