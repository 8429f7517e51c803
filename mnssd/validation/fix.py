"""Fixed copies of datasets, as ``check-data --fix`` writes them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Set, Tuple

import numpy as np

from ..data.dataset import Dataset
from ..data.sample import Sample
from .boxes import count_objects, plain_name
from .check import CheckResult


def fix_dataset(
    parts: Mapping[str, Dataset], result: CheckResult, train_list: Optional[str]
) -> Tuple[Dict[str, Dataset], List[str]]:
    """Fix the problems that have an unambiguous solution.

    Reading has already clipped and dropped boxes, and skipped images. This removes unreadable images,
    duplicate images (the training list loses those in other lists) and duplicate boxes, and merges the
    spellings of a class into the most frequent one. Also returns the changes, one line each.
    """
    unreadable = {finding.file for finding in result.findings if finding.code == "image-unreadable"}
    classes, labels = _merge_spellings(parts)
    fixed: Dict[str, Dataset] = {}
    used: Set[str] = set()
    changes: List[str] = []
    for name in sorted(parts, key=lambda part: part == train_list):  # the other lists keep their images
        dataset, kept, removed_boxes = parts[name], [], 0
        for sample in dataset:
            key = os.path.realpath(result.duplicates.get(sample.image_path, sample.image_path))
            if sample.image_path in unreadable or key in used:
                continue
            used.add(key)
            kept.append(_fix_sample(sample, labels))
            removed_boxes += len(sample.labels) - len(kept[-1].labels)
        fixed[name] = Dataset(dataset.name, classes, kept)
        if len(kept) < len(dataset):
            changes.append(f"{name}: removed {len(dataset) - len(kept)} unreadable or duplicate images")
        if removed_boxes:
            changes.append(f"{name}: removed {removed_boxes} duplicate boxes")
    if len(classes) < len(labels):
        changes.append(f"merged the spellings of classes: {len(labels)} classes became {len(classes)}")
    return {name: fixed[name] for name in parts}, changes


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


def _fix_sample(sample: Sample, labels: np.ndarray) -> Sample:
    new_labels = labels[sample.labels]
    _, first = np.unique(np.column_stack([sample.boxes.round(2), new_labels]), axis=0, return_index=True)
    rows = np.sort(first)
    return replace(
        sample,
        boxes=sample.boxes[rows],
        labels=new_labels[rows].astype(np.int32),
        difficult=sample.difficult[rows],
    )
