"""All checks of a dataset, long and short."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from ..data.dataset import Dataset
from ..data.findings import ERROR, KINDS, LEVELS, Finding, count_levels, summary
from ..data.formats import Format
from .boxes import check_anchors, check_classes, check_lists, check_samples, count_objects
from .images import check_images

Size = Tuple[int, int]


@dataclass
class CheckResult:
    """What was found.

    Attributes
    ----------
    findings : list of Finding
        The graver first; of one kind in the order of the dataset.
    lists : dict
        By name of the list: what `describe` says.
    twins : dict
        By path of an image the path of an earlier one with the same pixels.
    """

    findings: List[Finding]
    lists: Dict[str, Dict[str, Any]]
    twins: Dict[str, str]

    @property
    def has_errors(self) -> bool:
        """Whether anything that was meant to be learned is lost, or what is measured untrue."""
        return any(finding.level == ERROR for finding in self.findings)

    def as_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            "counts": count_levels(self.findings),
            "lists": self.lists,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check_dataset(
    dataset_format: Format,
    root: Path,
    parts: Mapping[str, Dataset],
    trained: Optional[str],
    net_size: Size,
    anchors: np.ndarray,
    *,
    pixels: bool = True,
    workers: int = 2,
    progress: Callable[[], object] = lambda: None,
) -> CheckResult:
    """Check a dataset.

    Parameters
    ----------
    dataset_format : Format
    root : Path
    parts : mapping of str to Dataset
        Its lists by name, all with the same classes.
    trained : str, optional
        The list that is trained on.
    net_size : (int, int)
        ``(width, height)`` of the network's input.
    anchors : numpy.ndarray
        ``(A, 4)`` cx, cy, w, h in pixels of the network's input.
    pixels : bool
        Decode every image, too.
    workers : int
        Threads for that.
    progress : callable
        Called after each image.
    """
    found = list(_check_annotations(dataset_format, parts, trained, net_size))
    lists: Dict[str, Dict[str, Any]] = {}
    for name, dataset in parts.items():
        lists[name] = describe(dataset)
        unmatched, share = check_anchors(name, dataset, anchors, net_size)
        found += unmatched
        lists[name]["boxes_without_anchor"] = share
    found += dataset_format.unreferenced(root, parts)
    twins: Dict[str, str] = {}
    if pixels:
        found += check_images(parts, workers, twins, progress)
    return CheckResult(_in_order(found), lists, twins)


def short(
    dataset_format: Format,
    parts: Mapping[str, Dataset],
    trained: str,
    net_size: Size,
    anchors: np.ndarray,
    match_iou: float,
) -> List[str]:
    """Lines for the user before training: what the boxes show, beyond what their reader has said."""
    known = {finding for dataset in parts.values() for finding in dataset.findings}
    every = _check_annotations(dataset_format, parts, trained, net_size)
    found = [f for f in every if f not in known and f.code != "class-unused"]  # the reader has said so
    for name, dataset in parts.items():
        found += check_anchors(name, dataset, anchors, net_size, match_iou)[0]
    return summary(f for f in _in_order(found) if KINDS[f.code].level != LEVELS[-1])


def _check_annotations(
    dataset_format: Format, parts: Mapping[str, Dataset], trained: Optional[str], net_size: Size
) -> Iterator[Finding]:
    for dataset in parts.values():
        # Whether a class is used is seen in all lists together.
        yield from (finding for finding in dataset.findings if finding.code != "class-unused")
        yield from dataset_format.check(dataset)
        yield from check_samples(dataset, net_size)
    yield from check_classes(parts, trained)
    yield from check_lists(parts)


def _in_order(found: List[Finding]) -> List[Finding]:
    """The graver first."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def describe(dataset: Dataset) -> Dict[str, Any]:
    """What is in a dataset, in numbers: sides are in pixels of the images, shares of the image's area."""
    boxes = [sample.boxes for sample in dataset if len(sample.boxes)]
    counts = count_objects(dataset)
    with_class = np.zeros(len(dataset.classes), int)
    for sample in dataset:
        with_class[np.unique(sample.labels)] += 1
    known: Dict[str, Any] = {
        "images": len(dataset),
        "images_without_objects": sum(not len(sample.labels) for sample in dataset),
        "objects": int(counts.sum()),
        "difficult": int(sum(sample.difficult.sum() for sample in dataset)),
        "objects_per_class": dict(zip(dataset.classes, counts.tolist())),
        "images_per_class": dict(zip(dataset.classes, with_class.tolist())),
    }
    if boxes:
        every = np.concatenate(boxes)
        sides = every[:, 2:] - every[:, :2] + 1
        known["median_box"] = [round(float(side), 1) for side in np.median(sides, axis=0)]
    if len(dataset):
        known["median_image"] = [float(side) for side in np.median([s.size for s in dataset], axis=0)]
    return known
