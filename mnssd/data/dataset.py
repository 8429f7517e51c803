"""Detection dataset: samples in a fixed order, class names and notes from reading them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union, overload

import numpy as np

from ..errors import DataError
from ..files import NAME_ERRORS
from ..options import listed
from .findings import Finding, summary
from .sample import Sample

S = TypeVar("S")


class SampleSequence(Sequence[S]):
    """The sequence of the items in `samples`."""

    samples: List[S]

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> S: ...

    @overload
    def __getitem__(self, index: slice) -> List[S]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[S, List[S]]:
        return self.samples[index]


class NoClassesError(DataError):
    """A list without objects, in a dataset that declares no classes."""


@dataclass(frozen=True, eq=False)
class Dataset(SampleSequence[Sample]):
    """A sequence of samples.

    Attributes
    ----------
    name : str
        Name in messages, such as ``VOC 2012_val``.
    classes : tuple of str
        Labels are indices into it.
    samples : list of Sample
        In the order of the image list.
    notes : list of str
        What was clipped, dropped, skipped or ignored, with counts and the first file names, for the user.
    findings : list of Finding
        The same, one per occurrence.

    Raises
    ------
    DataError
        If two samples have the same ``image_id``, which identifies detections.
    """

    name: str
    classes: Tuple[str, ...]
    samples: List[Sample]
    notes: List[str] = field(default_factory=list)
    findings: List[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        paths: Dict[str, str] = {}
        for sample in self.samples:
            if sample.image_id in paths:
                raise DataError(
                    f"{self.name}: {paths[sample.image_id]} and {sample.image_path} have the same image id; "
                    "rename one of the files, or read only one of the lists"
                )
            paths[sample.image_id] = sample.image_path

    def first(self, count: int) -> Dataset:
        """Up to `count` samples with an object that is not difficult; raises DataError if there is none."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        chosen = list(islice((sample for sample in self.samples if (~sample.difficult).any()), count))
        if not chosen:
            raise DataError(f"{self.name}: no image has an object of {listed(self.classes)}")
        return replace(self, name=f"{self.name}, first {len(chosen)}", samples=chosen)

    def with_classes(self, classes: Tuple[str, ...]) -> Dataset:
        """The dataset with labels that index `classes`; objects of other classes are left out."""
        if classes == self.classes:
            return self
        index = {name: label for label, name in enumerate(classes)}
        labels = np.array([index.get(name, -1) for name in self.classes], np.int32)
        samples = []
        for sample in self.samples:
            new = labels[sample.labels]
            kept = new >= 0
            boxes, difficult = sample.boxes[kept], sample.difficult[kept]
            samples.append(replace(sample, boxes=boxes, labels=new[kept], difficult=difficult))
        return replace(self, classes=classes, samples=samples)

    def as_gluon(self) -> Any:
        """The dataset as a `gluon.data.Dataset`, for Gluon's `DataLoader` and GluonCV's transforms.

        Its items are those of GluonCV's `VOCDetection`: the image, ``(height, width, 3)`` uint8 RGB as
        `mx.nd.NDArray`, and ``(N, 6)`` float64 rows xmin, ymin, xmax, ymax, class, difficult. It has their
        `classes`, and Gluon's `transform`, `filter`, `shard`, `take` and `sample`. An item whose image cannot
        be read raises ImageError.
        """
        from .gluon.views import DetectionView

        return DetectionView(self)

    def content(self, sample: Sample) -> Dict[str, bytes]:
        """The objects of a sample by class name, as bytes; the same for every order of the classes.

        They begin with the image's id, as other images may have the same boxes.
        """
        start = sample.image_id.encode("utf-8", NAME_ERRORS) + b"\0"
        content: Dict[str, bytes] = {}
        for box, label, difficult in zip(sample.boxes, sample.labels.tolist(), sample.difficult.tolist()):
            name = self.classes[label]
            content[name] = content.get(name, start) + box.tobytes() + bytes([difficult])
        return content

    def hold_out(self, fraction: float) -> Tuple[Dataset, Dataset]:
        """Split into the remaining images and about `fraction` of the images, held out for validation.

        The split depends on the image ids, not on their order. Raises DataError if a part would be empty.
        """
        count = round(fraction * len(self))
        if not 0 < count < len(self):
            raise DataError(
                f"{self.name}: holding out {fraction:g} of {len(self)} images leaves an empty part"
            )
        order = sorted(self.samples, key=lambda sample: _digest(sample.image_id))
        held_ids = {sample.image_id for sample in order[:count]}
        rest = [sample for sample in self.samples if sample.image_id not in held_ids]
        held = [sample for sample in self.samples if sample.image_id in held_ids]
        return (
            replace(self, name=f"{self.name} without {count} held out", samples=rest),
            replace(self, name=f"{count} held out of {self.name}", samples=held),
        )


def _digest(image_id: str) -> bytes:
    return hashlib.sha256(image_id.encode("utf-8", NAME_ERRORS)).digest()


def join(name: str, datasets: Sequence[Dataset]) -> Dataset:
    """Datasets with the same classes as one; an image with the same objects in several of them is used once.

    Raises DataError as `Dataset` if the objects differ.
    """
    samples: List[Sample] = []
    repeated: List[Finding] = []
    by_id: Dict[str, Sample] = {}
    for dataset in datasets:
        for sample in dataset:
            first = by_id.setdefault(sample.image_id, sample)
            is_repeated = first is not sample and first.image_path == sample.image_path
            if is_repeated and dataset.content(first) == dataset.content(sample):
                repeated.append(Finding("image-listed-twice", sample.image_path, "", ""))
            else:
                samples.append(sample)
    notes = [*(note for dataset in datasets for note in dataset.notes), *summary(repeated)]
    findings = [*(finding for dataset in datasets for finding in dataset.findings), *repeated]
    return Dataset(name, datasets[0].classes, samples, notes, findings)


def read_together(
    readers: Sequence[Callable[[Optional[Sequence[str]]], Dataset]], classes: Optional[Sequence[str]] = None
) -> List[Dataset]:
    """Datasets of several readers with the same classes: the requested ones, or those of all datasets.

    Raises NoClassesError if there are no classes at all.
    """
    if classes:
        return [read(classes) for read in readers]
    found: List[Optional[Dataset]] = []
    error: Optional[NoClassesError] = None
    for read in readers:
        try:
            found.append(read(None))
        except NoClassesError as reason:
            found.append(None)
            error = error or reason
    union = tuple(dict.fromkeys(name for dataset in found if dataset for name in dataset.classes))
    if error and not union:
        raise error
    return [
        read(union) if dataset is None else dataset.with_classes(union)
        for read, dataset in zip(readers, found)
    ]
