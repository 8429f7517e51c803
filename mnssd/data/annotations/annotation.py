"""One image of a dataset as its annotation has it, to a sample: the same rules for every format.

Boxes are clipped to their images, those without area dropped, images that cannot be used left out; what was
done is counted, with the first places of each, for the dataset's notes.
"""

from __future__ import annotations

import difflib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ...boxes import clip
from ...errors import DataError, ImageError
from ...files import write_text
from ...options import unknown_name
from ..dataset import Dataset
from ..findings import Finding, Findings
from ..image import image_size
from ..sample import Sample


class AnnotationError(Exception):
    """One annotation that cannot be used; the text says why. The readers count it and go on."""

    def __init__(self, text: str, code: str = "annotation-unreadable") -> None:
        super().__init__(text)
        self.code = code


class BoxError(ValueError):
    """One box that cannot be used: the kind of finding, and why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Annotation(NamedTuple):
    """One image as read, before the classes are settled."""

    image_id: str
    image_path: str
    size: Tuple[int, int]
    names: List[str]
    boxes: np.ndarray
    difficult: List[bool]


class Reading:
    """One list while it is read: the usable images, and what was wrong with the others.

    Attributes
    ----------
    records : list of Annotation
    findings : Findings
        Those of several lists, where there are some.
    """

    def __init__(self, findings: Optional[Findings] = None) -> None:
        self.records: List[Annotation] = []
        self.findings = findings or Findings()
        self._skipped: List[str] = []

    def skip(self, error: Exception, file: str, where: str = "", code: str = "image-unreadable") -> None:
        """Leave out an image; `code` says what an error is that does not say it itself."""
        self._skipped.append(f"{where or file}: {error}")
        self.findings.add(getattr(error, "code", code), file, str(error), where)

    def check(self, place: str, total: int, hint: str = "") -> None:
        """Raise DataError when there is no image, or more than half of the `total` cannot be used."""
        if not total or 2 * len(self._skipped) > total:
            first = f", the first of them because of {self._skipped[0]}" if self._skipped else ""
            raise DataError(f"{place}: {len(self._skipped)} of {total} images cannot be used{first}{hint}")


def make_annotation(
    image_id: str,
    image_path: str,
    file: str,
    stated: Optional[Tuple[int, int]],
    names: List[str],
    boxes: Iterable[Sequence[float]],
    difficult: List[bool],
    findings: Findings,
    where: str = "",
) -> Annotation:
    """An image's boxes within its size.

    Parameters
    ----------
    image_id, image_path : str
    file : str
        That of the annotation.
    stated : tuple of int, optional
        ``(width, height)`` as the annotation has it.
    names : list of str
        The class of each box.
    boxes : iterable
        ``xmin, ymin, xmax, ymax`` in pixels counted from 0, both ends belonging to the box; finite.
    difficult : list of bool
    findings : Findings
    where : str
        In the file.

    Raises
    ------
    AnnotationError
        When the size has to come from the image, which cannot be read.
    """
    found = np.array(list(boxes), np.float64).reshape(-1, 4)
    size = stated
    if size is None or outside(found, size).max(initial=0) > 1:
        # Before boxes are cut down to the stated size, the image has its say.
        try:
            real = image_size(image_path)
        except ImageError as error:
            raise AnnotationError(str(error), "image-unreadable") from error
        if size is not None and size != real:
            turned = size == (real[1], real[0])
            findings.add("size-turned" if turned else "size-differs", file, f"{size}, not {real}", where)
        size = real
    clipped = clip(found, size)
    left = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    for name, excess, usable in zip(names, outside(found, size), left):
        if not usable:
            findings.add("box-outside", file, name, where)
        elif excess > 1:
            findings.add("box-clipped", file, f"{name}, by {excess:g} px", where)
        elif excess > 1e-3:  # what is less, conversions leave
            findings.add("box-over-edge", file, "", where)
    names = [name for name, usable in zip(names, left) if usable]
    difficult = [flag for flag, usable in zip(difficult, left) if usable]
    return Annotation(image_id, image_path, size, names, clipped[left], difficult)


def read_classes(path: Path) -> Tuple[str, ...]:
    """The names in a file, one a line; none where there is no such file.

    Raises
    ------
    DataError
        When it cannot be read as text.
    """
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of class names ({error})") from error
    return tuple(line.strip() for line in lines if line.strip())


def write_classes(parts: Mapping[str, Dataset], folder: Path) -> None:
    """Write ``classes.txt``: the classes of a dataset, one per line."""
    classes = next(iter(parts.values())).classes
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))


def outside(boxes: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """By how many pixels each box reaches over the edge of an image of `size`; 0 for those inside."""
    over = np.concatenate([-boxes, boxes - np.array([size[0] - 1, size[1] - 1] * 2)], axis=1)
    return over.max(axis=1, initial=0)


def make_dataset(
    name: str,
    records: List[Annotation],
    classes: Tuple[str, ...],
    known: Iterable[str],
    allow_absent: bool,
    findings: Findings,
    check: Optional[Callable[[List[str], Set[str]], None]] = None,
) -> Dataset:
    """Records with the wanted classes as labels.

    Parameters
    ----------
    name : str
        What the user is shown.
    records : list of Annotation
    classes : tuple of str
        Wanted, in the order of the labels.
    known : iterable of str
        Names that the dataset declares, whether they occur or not.
    allow_absent : bool
        Accept wanted classes that are neither known nor occur.
    findings : Findings
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
    lines = findings.lines()
    if absent:
        lines.append(f"Classes without any object in {name}: {', '.join(absent)}")
    ignored = [(other, count) for other, count in occurring.most_common() if other not in classes]
    findings.found += [Finding("class-unused", name, "", wanted) for wanted in absent]
    findings.found += [
        Finding("class-ignored", name, "", f"{other}, {count} objects{_misspelling(other, classes)}")
        for other, count in ignored
    ]
    if ignored:
        shown = ", ".join(f"{other} {count}{_misspelling(other, classes)}" for other, count in ignored)
        lines.append(f"Objects of other classes, ignored: {sum(count for _, count in ignored)} ({shown})")
    index = {wanted: label for label, wanted in enumerate(classes)}
    return Dataset(name, classes, [to_sample(record, index) for record in records], lines, findings.found)


def _refuse(name: str, unknown: List[str], known: Set[str]) -> None:
    for wanted in unknown:
        raise DataError(f"{name}: {unknown_name('class', wanted, known)}")


def _misspelling(name: str, classes: Sequence[str]) -> str:
    """A question behind the name of an ignored class that looks much like a wanted one."""
    plain = {wanted.casefold(): wanted for wanted in classes}
    near = difflib.get_close_matches(name.casefold(), list(plain), n=1, cutoff=0.8)
    return f" - is that {plain[near[0]]}?" if near else ""


def to_sample(record: Annotation, index: Dict[str, int]) -> Sample:
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
