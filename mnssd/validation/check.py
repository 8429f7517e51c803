"""Validation of a dataset: complete for ``check-data``, and short before training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import numpy as np

from ..data.dataset import Dataset
from ..data.findings import ERROR, KINDS, LEVELS, NOTE, Finding, count_levels, summary
from ..data.formats import Format
from ..data.open import folder_contents
from ..options import Size
from .boxes import check_anchors, check_classes, check_lists, check_samples, count_objects
from .frames import check_frames
from .images import check_images, unsupported_images

_CLASS_COUNTS = ("class-unused", "class-rare", "class-similar")


@dataclass
class CheckResult:
    """Result of validation.

    Attributes
    ----------
    findings : list of Finding
        Severest first; within a level in the order of the dataset.
    lists : dict
        Statistics of each list, by name; see `statistics`.
    duplicates : dict of str to str
        Path of an image to the path of an earlier one with the same pixels.
    """

    findings: List[Finding]
    lists: Dict[str, Dict[str, Any]]
    duplicates: Dict[str, str]

    @property
    def has_errors(self) -> bool:
        """Whether objects would not be learned, or results would be wrong."""
        return any(finding.level == ERROR for finding in self.findings)

    def as_dict(self) -> Dict[str, Any]:
        """The result as JSON data."""
        return {
            "counts": count_levels(self.findings),
            "lists": self.lists,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check_dataset(
    dataset_format: Format,
    root: Path,
    parts: Mapping[str, Dataset],
    train_list: Optional[str],
    net_size: Size,
    anchors: np.ndarray,
    *,
    pixels: bool = True,
    workers: int = 2,
    progress: Callable[[], object] = lambda: None,
) -> CheckResult:
    """Validate a dataset.

    Parameters
    ----------
    dataset_format : Format
    root : Path
    parts : mapping of str to Dataset
        Lists by name, all with the same classes.
    train_list : str, optional
        Name of the training list.
    net_size : (int, int)
        ``(width, height)`` of the network input.
    anchors : numpy.ndarray
        ``(A, 4)`` center x, center y, width, height in pixels of the network input.
    pixels : bool
        Decode every image, with `workers` threads; `progress` is called after each.
    """
    findings = list(_check_annotations(dataset_format, parts, train_list, net_size))
    findings += _check_contents(dataset_format, root, parts)
    lists: Dict[str, Dict[str, Any]] = {}
    for name, dataset in parts.items():
        unmatched, share = check_anchors(name, dataset, anchors, net_size)
        findings += unmatched
        lists[name] = {**statistics(dataset), "boxes_without_anchor": share}
    findings += dataset_format.unreferenced(root, parts)
    if dataset_format.has_folder:
        findings += unsupported_images(root, parts)
    duplicates: Dict[str, str] = {}
    if pixels:
        findings += check_images(parts, workers, duplicates, progress)
    return CheckResult(_severest_first(findings), lists, duplicates)


def training_warnings(
    dataset_format: Format,
    parts: Mapping[str, Dataset],
    train_list: str,
    net_size: Size,
    anchors: np.ndarray,
    iou_threshold: float,
) -> List[str]:
    """Warnings and errors about boxes and classes, as lines for the user, beyond the notes of the dataset."""
    reported = {finding for dataset in parts.values() for finding in dataset.findings}
    checked = _check_annotations(dataset_format, parts, train_list, net_size)
    findings = [f for f in checked if f not in reported and f.code != "class-unused"]  # already in the notes
    for name, dataset in parts.items():
        findings += check_anchors(name, dataset, anchors, net_size, iou_threshold)[0]
    return summary(finding for finding in _severest_first(findings) if KINDS[finding.code].level != NOTE)


def _check_annotations(
    dataset_format: Format, parts: Mapping[str, Dataset], train_list: Optional[str], net_size: Size
) -> Iterator[Finding]:
    for dataset in parts.values():
        # check_classes reports unused classes after a look at all lists.
        yield from (finding for finding in dataset.findings if finding.code != "class-unused")
        yield from check_frames(dataset_format, dataset)
        yield from check_samples(dataset, net_size)
    yield from check_classes(parts, train_list)
    yield from check_lists(parts)


def _check_contents(dataset_format: Format, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Findings about lists without objects: what was looked for, and what was found."""
    for name, dataset in parts.items():
        if not any(len(sample.labels) for sample in dataset):
            found = "; ".join(
                [*dataset.notes, *([folder_contents(root)] if dataset_format.has_folder else [])]
            )
            text = f"{len(dataset)} images. Looked for {dataset_format.layout}. It contains: {found}"
            yield Finding("objects-missing", name, "", text)


def _severest_first(findings: List[Finding]) -> List[Finding]:
    """Sorted by level; within a level the numbers of objects per class are last."""
    return sorted(findings, key=lambda finding: (LEVELS.index(finding.level), finding.code in _CLASS_COUNTS))


def statistics(dataset: Dataset) -> Dict[str, Any]:
    """Numbers of images and objects, in total and per class; median sizes in pixels of the images."""
    counts = count_objects(dataset)
    images_per_class = np.zeros(len(dataset.classes), int)
    for sample in dataset:
        images_per_class[np.unique(sample.labels)] += 1
    result: Dict[str, Any] = {
        "images": len(dataset),
        "images_without_objects": sum(not len(sample.labels) for sample in dataset),
        "objects": int(counts.sum()),
        "difficult": int(sum(sample.difficult.sum() for sample in dataset)),
        "objects_per_class": dict(zip(dataset.classes, counts.tolist())),
        "images_per_class": dict(zip(dataset.classes, images_per_class.tolist())),
    }
    if result["objects"]:
        corners = np.concatenate([sample.boxes for sample in dataset])
        sides = np.median(corners[:, 2:] - corners[:, :2] + 1, axis=0)
        result["median_box"] = [round(float(side), 1) for side in sides]
    if len(dataset):
        result["median_image"] = [float(side) for side in np.median([s.size for s in dataset], axis=0)]
    return result
