"""Annotations as read from files, and their conversion to samples: the same rules for every format.

Boxes are clipped to their images, boxes without area are dropped, and images that cannot be used are skipped.
Each of these is recorded as a finding, and summarized in the notes of the dataset.
"""

from __future__ import annotations

import difflib
from collections import Counter
from itertools import chain
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ...boxes import clip
from ...errors import DataError, ImageError
from ...files import encodable
from ...options import Size, listed, unknown_name
from ..dataset import Dataset, NoClassesError
from ..findings import Findings, summary
from ..image import image_size, read_bytes
from ..image_header import read_header
from ..sample import OriginalBoxes, Sample

_MAX_SIDE = 1 << 20


class AnnotationError(Exception):
    """An image or annotation that cannot be used; readers record it as a finding and continue."""

    def __init__(self, text: str, code: str = "annotation-unreadable") -> None:
        super().__init__(text)
        self.code = code


class BoxError(ValueError):
    """A box that cannot be used: code of the finding, and the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class BoxObject(NamedTuple):
    """An object; `box` is ``xmin, ymin, xmax, ymax`` in pixels counted from 0, both ends inclusive."""

    name: str
    box: Sequence[float]
    difficult: bool = False


class Annotation(NamedTuple):
    """Annotation of one image, with class names instead of labels."""

    image_id: str
    image_path: str
    size: Size
    names: List[str]
    boxes: np.ndarray
    difficult: List[bool]
    original: Optional[OriginalBoxes] = None


class AnnotationList:
    """The annotations of one list, while it is read.

    Attributes
    ----------
    annotations : list of Annotation
        Usable images.
    findings : Findings
    declared : tuple of str
        Classes that the dataset declares, whether or not they occur.
    other_classes : iterable of str
        Classes of annotations outside of the list: a rare class may be missing from this list only. Consumed
        if a requested class is neither declared nor in the list.
    """

    def __init__(self) -> None:
        self.annotations: List[Annotation] = []
        self.findings = Findings()
        self.declared: Tuple[str, ...] = ()
        self.other_classes: Iterable[str] = ()
        self._skipped: List[str] = []

    def add(
        self,
        image_id: str,
        image_path: str,
        file: str,
        size: Optional[Size],
        objects: Sequence[BoxObject],
        where: str = "",
    ) -> None:
        """Add an image; its boxes are clipped, and those without area are dropped.

        Raises AnnotationError if the size must be read from the image and the image is unreadable.

        Parameters
        ----------
        image_id, image_path : str
        file : str
            Annotation file; `where` is the place in it.
        size : tuple of int, optional
            ``(width, height)`` in the annotation; the image's own size is used, and a difference recorded.
        objects : sequence of BoxObject
            Their coordinates are finite.
        """
        boxes, first = (
            np.array([entry.box for entry in objects], np.float64).reshape(-1, 4),
            len(self.findings.items),
        )
        try:
            real = image_size(image_path)
        except ImageError as error:
            if size is None:
                raise AnnotationError(str(error), "image-unreadable") from error
            real = size
        fault = _frame_fault(image_path, boxes, size, real)
        if fault:
            self.findings.add(fault[0], file, fault[1], where)
        clipped = clip(boxes, real)
        usable = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        for entry, pixels, is_usable in zip(objects, excess(boxes, real), usable):
            if not is_usable:
                self.findings.add("box-outside", file, entry.name, where)
            elif pixels > 1:
                self.findings.add("box-clipped", file, f"{entry.name}, by {pixels:g} px", where)
            elif pixels > 1e-3:  # smaller values are rounding errors of conversions
                self.findings.add("box-over-edge", file, "", where)
        names, difficult = [entry.name for entry in objects], [entry.difficult for entry in objects]
        new = tuple(self.findings.items[first:])
        original = OriginalBoxes(names, boxes, difficult, size, new) if new and len(boxes) else None
        kept = [entry for entry, is_usable in zip(objects, usable) if is_usable]
        names, difficult = [entry.name for entry in kept], [entry.difficult for entry in kept]
        self.annotations.append(
            Annotation(image_id, image_path, real, names, clipped[usable], difficult, original)
        )

    def skip(self, error: Exception, file: str, where: str = "") -> None:
        """Record an image that cannot be used."""
        self._skipped.append(f"{where or file}: {error}")
        self.findings.add(getattr(error, "code", "image-unreadable"), file, str(error), where)

    def check_skipped(self, place: str, total: int) -> None:
        """Raise DataError if more than half of the `total` images were skipped, or there is no image."""
        if not total:
            raise DataError(f"{place}: no image in this list; select other lists with --splits, or remove it")
        if 2 * len(self._skipped) > total:
            first = f"; the first: {self._skipped[0]}" if self._skipped else ""
            raise DataError(f"{place}: {len(self._skipped)} of {total} images cannot be used{first}")

    def class_names(self) -> Tuple[str, ...]:
        """Names of the classes that occur, sorted; also those of boxes outside of their images."""
        names = [entry.original.names if entry.original else entry.names for entry in self.annotations]
        return tuple(sorted(set(chain(*names))))

    def to_dataset(
        self, name: str, place: str, classes: Optional[Sequence[str]], allow_absent: bool
    ) -> Dataset:
        """Samples labeled with the requested classes.

        Raises DataError if there are no classes, or one is requested twice, has no name, is not in UTF-8, or
        is not in the dataset.

        Parameters
        ----------
        name, place : str
            Name of the dataset, and its file or folder for errors.
        classes : sequence of str, optional
            In the order of the labels; defaults to the declared classes and the others that occur.
        allow_absent : bool
            Accept classes that the dataset does not have.
        """
        # A blank line of classes.txt is a number without a name.
        declared = tuple(filter(None, self.declared))
        chosen = tuple(dict.fromkeys((*declared, *self.class_names())) if classes is None else classes)
        if not chosen:
            found = (
                "; ".join(summary(self.findings.items)) or f"{len(self.annotations)} images, none with a box"
            )
            raise NoClassesError(
                f"{place}: no objects, so no class names; pass --classes or write classes.txt ({found})"
            )
        if len(set(chosen)) < len(chosen) or not all(chosen):
            raise DataError(f"{place}: class names must be unique and not empty: {listed(chosen)}")
        for class_name in chosen:
            if encodable(class_name) != class_name:  # names of files may be any bytes, those of classes not
                raise DataError(f"{place}: the class {class_name!r} is not in UTF-8; save the file as UTF-8")
        counts = Counter(class_name for annotation in self.annotations for class_name in annotation.names)
        absent = [class_name for class_name in chosen if class_name not in counts]
        if not allow_absent:
            _check_known(absent, {*counts, *declared}, self.other_classes, place)
        notes = summary(self.findings.items)
        for class_name in absent:
            self.findings.add("class-unused", name, class_name)
        ignored = []
        for class_name, count in counts.most_common():
            if class_name not in chosen:
                suggestion = _suggestion(class_name, chosen)
                self.findings.add("class-ignored", name, f"{class_name}, {count} objects{suggestion}")
                ignored.append(f"{class_name} {count}{suggestion}")
        if ignored:
            total = sum(counts[class_name] for class_name in set(counts) - set(chosen))
            notes.append(f"Objects of other classes, ignored: {total} ({listed(ignored)})")
        if absent:
            notes.append(f"Classes without objects in {name}: {listed(absent)}")
        labels = {class_name: label for label, class_name in enumerate(chosen)}
        samples = [_to_sample(annotation, labels) for annotation in self.annotations]
        return Dataset(name, chosen, samples, notes, self.findings.items)


def excess(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Number of pixels by which each box extends beyond an image of `size`; 0 for boxes inside."""
    over = np.concatenate([-boxes, boxes - np.array([size[0] - 1, size[1] - 1] * 2)], axis=1)
    return over.max(axis=1, initial=0)


def unrotated(size: Size) -> Size:
    """Size of an image before its EXIF rotation by 90 degrees, or after it."""
    return size[1], size[0]


def orientation(image_path: str) -> int:
    """EXIF orientation of an image, 1 to 8; 1 if it is unreadable."""
    try:
        return read_header(read_bytes(image_path), image_path).orientation
    except ImageError:
        return 1


def _frame_fault(
    image_path: str, boxes: np.ndarray, size: Optional[Size], real: Size
) -> Optional[Tuple[str, str]]:
    """Code and text if the boxes may belong to an image of another size than the `real` one."""
    if size is not None and size != real:
        code, _, text = size_mismatch(image_path, size, real)
        return (code, text) if len(boxes) else ("size-unused", text)
    before = unrotated(real)
    if excess(boxes, real).max(initial=0) <= 1 or excess(boxes, before).max(initial=0) > 1:
        return None
    if orientation(image_path) < 5:
        return None
    return (
        "boxes-unrotated",
        f"they fit {before[0]}x{before[1]}, but the rotated image is {real[0]}x{real[1]}",
    )


def size_mismatch(file: str, size: Size, real: Size) -> Tuple[str, str, str]:
    """Code, file and text of the finding that an annotation has another size than the image."""
    code = "size-swapped" if size == (real[1], real[0]) else "size-differs"
    return code, file, f"{size[0]}x{size[1]}, but the image is {real[0]}x{real[1]}"


def parse_size(width: Any, height: Any) -> Optional[Size]:
    """Image size in an annotation, as numbers or text; None if it is missing or cannot be right."""
    try:
        size = int(float(width or 0)), int(float(height or 0))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 and max(size) < _MAX_SIDE else None


def _check_known(names: Sequence[str], known: Set[str], other_classes: Iterable[str], place: str) -> None:
    others = iter(other_classes)
    for name in names:
        while name not in known:
            other = next(others, None)
            if other is None:
                raise DataError(f"{place}: {unknown_name('class', name, known)}")
            known.add(other)


def _suggestion(name: str, classes: Sequence[str]) -> str:
    """Text after the name of an ignored class that resembles a requested one."""
    folded = {class_name.casefold(): class_name for class_name in classes}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.8)
    return f" - did you mean {folded[near[0]]}?" if near else ""


def _to_sample(annotation: Annotation, labels: Dict[str, int]) -> Sample:
    """Sample with class names replaced by labels; objects of other classes are ignored."""
    indices = np.array([labels.get(name, -1) for name in annotation.names], np.int32)
    known = indices >= 0
    boxes, difficult = annotation.boxes[known], np.array(annotation.difficult, bool)[known]
    return Sample(
        annotation.image_id, annotation.image_path, boxes, indices[known], difficult, annotation.size,
        annotation.original,
    )  # fmt: skip
