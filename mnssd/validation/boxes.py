"""What the boxes and classes of a dataset show by themselves: no image is opened."""

from __future__ import annotations

import difflib
import os
import re
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..data.dataset import Dataset
from ..data.findings import Finding
from ..data.sample import Sample
from ..data.targets import TargetAssigner

TINY = 4.0
"""Pixels of the network's input: a quarter of the step of the finest map, which is 16."""

RARE = 10
"""Objects of a class in the training list: below that there is nothing to generalise from."""

MATCH = 0.5
"""Overlap from which an anchor learns a box (Liu et al. 2016, section 2.2)."""

MANY_UNMATCHED = 0.1
"""Share of the boxes without a matching anchor from which it is a finding."""

ANCHORS_FOR = 20_000
"""At most so many boxes, evenly chosen, are compared with the anchors."""

_SIMILAR = 0.85  # of difflib's ratio
_RARE_SHARE = 0.05

Size = Tuple[int, int]


def check_samples(dataset: Dataset, net_size: Size) -> Iterator[Finding]:
    """Findings about single images and boxes, as they would be learned."""
    for sample in dataset:
        if not len(sample.labels):
            yield Finding("image-empty", sample.image_path, "", "")
            continue
        if sample.size[0] < net_size[0] and sample.size[1] < net_size[1]:
            yield Finding(
                "image-small", sample.image_path, "",
                f"{sample.size[0]}x{sample.size[1]} for {net_size[0]}x{net_size[1]}",
            )  # fmt: skip
        yield from _check_boxes(sample, dataset.classes, net_size)


def _check_boxes(sample: Sample, classes: Sequence[str], net_size: Size) -> Iterator[Finding]:
    width, height = sample.size
    sides = (sample.boxes[:, 2:] - sample.boxes[:, :2] + 1) * np.array(
        [net_size[0] / width, net_size[1] / height]
    )
    for row in np.flatnonzero(sides.min(axis=1) < TINY):
        yield Finding(
            "box-tiny", sample.image_path, "",
            f"{_named(sample, classes, row)}: {sides[row][0]:.1f} x {sides[row][1]:.1f} px of the input",
        )  # fmt: skip
    edges = np.array([0, 0, width - 1, height - 1])
    for row in np.flatnonzero((np.abs(sample.boxes - edges) < 1).all(axis=1)):
        yield Finding("box-whole-image", sample.image_path, "", classes[int(sample.labels[row])])
    seen: Dict[Tuple[float, ...], int] = {}
    for row, box in enumerate(sample.boxes.round(2).tolist()):
        first = seen.setdefault(tuple(box), row)
        if first != row:
            same = sample.labels[first] == sample.labels[row]
            what = _named(sample, classes, row)
            if not same:
                what = f"{classes[int(sample.labels[first])]} and {what}"
            yield Finding("box-repeated" if same else "box-two-classes", sample.image_path, "", what)


def _named(sample: Sample, classes: Sequence[str], row: int) -> str:
    corners = ", ".join(f"{value:g}" for value in sample.boxes[row])
    return f"{classes[int(sample.labels[row])]} at ({corners})"


def check_anchors(
    name: str, dataset: Dataset, anchors: np.ndarray, net_size: Size, match_iou: float = MATCH
) -> Tuple[List[Finding], Optional[float]]:
    """Whether boxes overlap an anchor by `match_iou`, and the share that does not; None without boxes."""
    boxes = [s.boxes * _scale(s, net_size) for s in dataset if len(s.boxes)]
    if not boxes:
        return [], None
    every = np.concatenate(boxes)
    chosen = every[np.linspace(0, len(every) - 1, min(len(every), ANCHORS_FOR)).astype(int)]
    assigner = TargetAssigner(anchors)
    best = np.concatenate(
        [assigner.iou(part).max(axis=1) for part in np.array_split(chosen, -(-len(chosen) // 64))]
    )
    unmatched = best < match_iou
    share = float(unmatched.mean())
    found = []
    if share > MANY_UNMATCHED:
        sides = chosen[unmatched][:, 2:] - chosen[unmatched][:, :2]
        typical = np.median(sides, axis=0)
        text = (
            f"{share:.0%} of them overlap none by {match_iou:g}, "
            f"typically {typical[0]:.0f} x {typical[1]:.0f} px of the input"
        )
        found.append(Finding("boxes-unmatched", name, "", text))
    return found, share


def _scale(sample: Sample, net_size: Size) -> np.ndarray:
    return np.array([net_size[0] / sample.size[0], net_size[1] / sample.size[1]] * 2, np.float32)


def count_objects(dataset: Dataset) -> np.ndarray:
    """``(C,)`` objects of each class."""
    labels = [sample.labels for sample in dataset]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(dataset.classes))


def check_classes(parts: Mapping[str, Dataset], trained: Optional[str]) -> Iterator[Finding]:
    """Findings about the classes.

    Parameters
    ----------
    parts : mapping of str to Dataset
        The lists by name; all have the same classes.
    trained : str, optional
        The list that is trained on, if there is one.
    """
    counts = {name: count_objects(dataset) for name, dataset in parts.items()}
    classes = next(iter(parts.values())).classes
    total = np.sum(list(counts.values()), axis=0)
    spelt: Dict[str, int] = {}
    for label, name in enumerate(classes):
        other = spelt.setdefault(plain_name(name), label)
        if other != label:
            yield Finding(
                "class-misspelt", next(iter(parts)), "",
                f"{classes[other]!r} ({total[other]} objects) and {name!r} ({total[label]})",
            )  # fmt: skip
    for label, name in enumerate(classes):
        for twin in _similar(name, classes):
            if 0 < total[label] <= _RARE_SHARE * total[classes.index(twin)]:
                yield Finding(
                    "class-similar", next(iter(parts)), "",
                    f"{name!r} ({total[label]} objects) beside {twin!r} ({total[classes.index(twin)]})",
                )  # fmt: skip
    for part, count in counts.items():
        for label in np.flatnonzero(count == 0):
            yield Finding("class-unused", part, "", classes[label])
    of_training = counts.get(trained or "", total)
    for label, name in enumerate(classes):
        if 0 < of_training[label] < RARE:
            yield Finding("class-rare", trained or "", "", f"{name}, {of_training[label]} objects")


def plain_name(name: str) -> str:
    """What two spellings of one class have in common: no case, no spaces, hyphens or underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def _similar(name: str, classes: Sequence[str]) -> List[str]:
    others = [other for other in classes if plain_name(other) != plain_name(name)]
    return difflib.get_close_matches(name, others, n=3, cutoff=_SIMILAR)


def check_lists(parts: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Images that stand in two lists, by their files."""
    where: Dict[str, str] = {}
    for name, dataset in parts.items():
        for sample in dataset:
            other = where.setdefault(os.path.realpath(sample.image_path), name)
            if other != name:
                yield Finding("image-in-two-lists", sample.image_path, "", f"in {other} and {name}")
