"""A dataset without what was found: the copy that ``--fix`` writes."""

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
    parts: Mapping[str, Dataset], examined: CheckResult, trained: Optional[str]
) -> Tuple[Dict[str, Dataset], List[str]]:
    """What can be mended without asking.

    Reading has clipped and dropped boxes already, and skipped images. Here go images that cannot be
    decoded, images that are there twice (of two lists the one that is not trained on keeps them), boxes
    that stand there twice; and spellings of one class become the one with the most objects.

    Parameters
    ----------
    parts : mapping of str to Dataset
        The lists by name.
    examined : CheckResult
        Of these lists.
    trained : str, optional
        The list that is trained on.

    Returns
    -------
    dict of str to Dataset
    list of str
        What was done, a line each.
    """
    unreadable = {finding.file for finding in examined.findings if finding.code == "image-unreadable"}
    classes, labels = _one_spelling(parts)
    found: Dict[str, Dataset] = {}
    taken: Set[str] = set()
    done: List[str] = []
    # What is measured keeps its images: the trained list comes last.
    for name in sorted(parts, key=lambda part: part == trained):
        dataset, kept, boxes = parts[name], [], 0
        for sample in dataset:
            key = os.path.realpath(examined.twins.get(sample.image_path, sample.image_path))
            if sample.image_path in unreadable or key in taken:
                continue
            taken.add(key)
            mended = _mend(sample, labels)
            boxes += len(sample.labels) - len(mended.labels)
            kept.append(mended)
        found[name] = Dataset(dataset.name, classes, kept)
        if len(kept) < len(dataset):
            done.append(f"{name}: {len(dataset) - len(kept)} images left out, unreadable or there twice")
        if boxes:
            done.append(f"{name}: {boxes} boxes left out that stand there twice")
    if len(classes) < len(labels):
        done.append(f"spellings of one class joined: {len(labels)} classes are {len(classes)}")
    return {name: found[name] for name in parts}, done


def _one_spelling(parts: Mapping[str, Dataset]) -> Tuple[Tuple[str, ...], np.ndarray]:
    """The classes, spellings joined, and the new label of each old one."""
    classes = next(iter(parts.values())).classes
    total = np.sum([count_objects(dataset) for dataset in parts.values()], axis=0)
    best: Dict[str, int] = {}
    for label, name in enumerate(classes):
        plain = plain_name(name)
        if plain not in best or total[label] > total[best[plain]]:
            best[plain] = label
    kept = sorted(best.values())
    new = np.array([kept.index(best[plain_name(name)]) for name in classes], np.int32)
    return tuple(classes[label] for label in kept), new


def _mend(sample: Sample, labels: np.ndarray) -> Sample:
    renamed = labels[sample.labels]
    rows = np.column_stack([sample.boxes.round(2), renamed])
    _, first = np.unique(rows, axis=0, return_index=True)
    rows_kept = np.sort(first)
    return replace(
        sample,
        boxes=sample.boxes[rows_kept],
        labels=renamed[rows_kept].astype(np.int32),
        difficult=sample.difficult[rows_kept],
    )
