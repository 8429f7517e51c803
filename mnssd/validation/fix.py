"""Fixed copies of datasets, as ``check-data --fix`` writes them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Set, Tuple

import numpy as np

from ..data.dataset import Dataset
from ..data.findings import SKIPPED_CODES
from ..data.formats import Format
from ..data.sample import Sample
from .boxes import count_objects, plain_name
from .check import CheckResult
from .frames import correct_boxes


def fix_dataset(
    dataset_format: Format, parts: Mapping[str, Dataset], result: CheckResult, train_list: Optional[str]
) -> Tuple[Dict[str, Dataset], List[str]]:
    """Fix the problems that have an unambiguous solution.

    Boxes and sizes are corrected as in `correct_boxes`; those in doubt are not changed, and neither are the
    findings about them. Unreadable images, duplicate images (the training list loses those in other lists)
    and duplicate boxes are removed, and the spellings of a class become the most frequent one. Also returns
    the changes, one line each.
    """
    unreadable = {finding.file for finding in result.findings if finding.code == "image-unreadable"}
    classes, labels = _merge_spellings(parts)
    spellings = {name: classes[label] for name, label in zip(next(iter(parts.values())).classes, labels)}
    boxes_of = {s.image_path: _key_of_boxes(s) for dataset in parts.values() for s in dataset}
    fixed: Dict[str, Dataset] = {}
    used: Set[str] = set()
    changes: List[str] = []
    for name in sorted(parts, key=lambda part: part == train_list):  # the other lists keep their images
        dataset, corrections = correct_boxes(dataset_format, parts[name])
        in_list = {sample.image_path for sample in parts[name]}
        kept, removed_boxes = [], 0
        for sample in dataset:
            first = result.duplicates.get(sample.image_path, sample.image_path)
            if first in in_list and boxes_of[first] != boxes_of[sample.image_path]:
                first = sample.image_path  # which of the two annotations is right is unknown
            key = os.path.realpath(first)
            if sample.image_path in unreadable or key in used:
                continue
            used.add(key)
            kept.append(_fix_sample(sample, labels, spellings))
            removed_boxes += len(sample.labels) - len(kept[-1].labels)
        fixed[name] = Dataset(dataset.name, classes, kept, findings=dataset.findings)
        changes += [f"{name}: {text}" for text in corrections]
        changes += _removals(name, dataset, kept, removed_boxes)
    if len(classes) < len(labels):
        changes.append(f"merged the spellings of classes: {len(labels)} classes became {len(classes)}")
    return {name: fixed[name] for name in parts}, changes


def _removals(name: str, dataset: Dataset, kept: List[Sample], removed_boxes: int) -> List[str]:
    """What was removed from a list, one line each."""
    lines = []
    skipped = sum(finding.code in SKIPPED_CODES for finding in dataset.findings)
    if skipped:
        lines.append(f"{name}: left out {skipped} images that cannot be used")
    if len(kept) < len(dataset):
        boxes = sum(len(sample.labels) for sample in dataset) - removed_boxes
        boxes -= sum(len(sample.labels) for sample in kept)
        images = len(dataset) - len(kept)
        lines.append(f"{name}: removed {images} unreadable or duplicate images with {boxes} boxes")
    if removed_boxes:
        lines.append(f"{name}: removed {removed_boxes} duplicate boxes")
    return lines


def _key_of_boxes(sample: Sample) -> bytes:
    """Equal for samples with the same boxes and labels, in any order."""
    rows = np.column_stack([sample.boxes.round(2), sample.labels])
    return np.unique(rows, axis=0).tobytes()


def _merge_spellings(parts: Mapping[str, Dataset]) -> Tuple[Tuple[str, ...], np.ndarray]:
    """Classes with one spelling each, and the new label of each old one."""
    classes = next(iter(parts.values())).classes
    total = np.sum([count_objects(dataset) for dataset in parts.values()], axis=0)
    best: Dict[str, int] = {}
    for label, name in enumerate(classes):
        plain = plain_name(name)
        if plain not in best or total[label] > total[best[plain]]:
            best[plain] = label
    kept = sorted(best.values())
    labels = np.array([kept.index(best[plain_name(name)]) for name in classes], np.int32)
    return tuple(classes[label] for label in kept), labels


def _fix_sample(sample: Sample, labels: np.ndarray, spellings: Mapping[str, str]) -> Sample:
    new_labels = labels[sample.labels].astype(np.int32)
    if sample.original and sample.original.in_doubt:
        names = [spellings.get(name, name) for name in sample.original.names]
        return replace(sample, labels=new_labels, original=sample.original._replace(names=names))
    _, first = np.unique(np.column_stack([sample.boxes.round(2), new_labels]), axis=0, return_index=True)
    rows = np.sort(first)
    difficult = sample.difficult[rows]
    return replace(
        sample, boxes=sample.boxes[rows], labels=new_labels[rows], difficult=difficult, original=None
    )
