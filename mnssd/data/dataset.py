"""A dataset: samples in a fixed order, the names of their classes, and what their reader has to say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Dict, List, Sequence, Tuple, Union, overload

import numpy as np

from ..errors import DataError
from .findings import Finding
from .sample import Sample


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[Sample]):
    """A sequence of samples.

    Attributes
    ----------
    name : str
        What the user is shown, such as ``VOC 2012_val``.
    classes : tuple of str
        Names; a label is the index into them.
    samples : list of Sample
        In the order of the list they were read from.
    notes : list of str
        One line each about what was clipped, dropped, skipped or ignored, with counts and the first
        file names. Empty when nothing was.
    findings : list of Finding
        The same, one by one.

    Raises
    ------
    DataError
        When two samples share an ``image_id``: detections are filed under it.
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
                    "ids must be unique: rename one of them or leave one list out"
                )
            paths[sample.image_id] = sample.image_path

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> List[Sample]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Sample, List[Sample]]:
        return self.samples[index]

    def first(self, count: int) -> Dataset:
        """The first `count` samples that have an object which the metric counts.

        Meant for training on a handful of images as a check: images without objects would prove
        nothing. Fewer samples come back when the dataset has no more.

        Raises
        ------
        DataError
            When no image has such an object.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        chosen: List[Sample] = []
        for sample in self.samples:
            if len(chosen) == count:
                break
            if (~sample.difficult).any():
                chosen.append(sample)
        if not chosen:
            raise DataError(f"{self.name}: no image has an object of {', '.join(self.classes)}")
        return Dataset(
            f"{self.name}, first {len(chosen)}", self.classes, chosen, list(self.notes), list(self.findings)
        )

    def with_classes(self, classes: Tuple[str, ...]) -> Dataset:
        """The same with other classes, its own among them."""
        if classes == self.classes:
            return self
        labels = np.array([classes.index(name) for name in self.classes], np.int32)
        samples = [replace(sample, labels=labels[sample.labels]) for sample in self.samples]
        return Dataset(self.name, classes, samples, list(self.notes), list(self.findings))

    def hold_out(self, share: float) -> Tuple[Dataset, Dataset]:
        """Two parts: the rest, and about `share` of the images, to measure on while choosing.

        Which images are held out depends on nothing but their ids, so that it is the same set on every
        machine, in every run, whatever the order of the list.

        Raises
        ------
        DataError
            When one of the parts would be empty.
        """
        count = round(share * len(self))
        if not 0 < count < len(self):
            raise DataError(
                f"{self.name}: {len(self)} images, of which {share:g} to hold out leaves a part empty"
            )
        order = sorted(self.samples, key=lambda sample: hashlib.sha256(sample.image_id.encode()).digest())
        held = {sample.image_id for sample in order[:count]}
        parts = [[s for s in self.samples if (s.image_id in held) == inside] for inside in (False, True)]
        names = (f"{self.name} without {count} held out", f"{count} held out of {self.name}")
        rest, tenth = (
            Dataset(name, self.classes, part, list(self.notes), list(self.findings))
            for name, part in zip(names, parts)
        )
        return rest, tenth
