"""Checks of boxes and classes that need no image."""

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
from ..options import Size

_TINY = 4.0  # pixels of the network input: a quarter of 16, the stride of the finest feature map
_RARE = 10  # objects of a class in the training list, below which it can hardly generalize
_IOU_THRESHOLD = 0.5  # for a positive anchor (SSD paper, Liu et al. 2016, section 2.2)
_MANY_UNMATCHED = 0.1  # share of boxes without a positive anchor, above which it is a finding
_MAX_BOXES = 20_000  # evenly spaced boxes of a list that are compared with the anchors
_SIMILAR = 0.85  # ratio of difflib
_RARE_SHARE = 0.05  # of the objects of the similar class


def check_samples(dataset: Dataset, net_size: Size) -> Iterator[Finding]:
    """Findings about single images and boxes at the input size of the network."""
    for sample in dataset:
        if not len(sample.labels):
            yield Finding("image-without-objects", sample.image_path, "", "")
            continue
        if sample.size[0] < net_size[0] and sample.size[1] < net_size[1]:
            text = f"{sample.size[0]}x{sample.size[1]}, network input {net_size[0]}x{net_size[1]}"
            yield Finding("image-small", sample.image_path, "", text)
        yield from _check_boxes(sample, dataset.classes, net_size)


def _check_boxes(sample: Sample, classes: Sequence[str], net_size: Size) -> Iterator[Finding]:
    sides = scaled_box_sizes(sample, net_size)
    for row in np.flatnonzero(sides.min(axis=1) < _TINY):
        size = f"{sides[row][0]:.1f} x {sides[row][1]:.1f} px of the network input"
        yield Finding("box-tiny", sample.image_path, "", f"{_shown(sample, classes, row)}: {size}")
    edges = np.array([0, 0, sample.size[0] - 1, sample.size[1] - 1])
    for row in np.flatnonzero((np.abs(sample.boxes - edges) < 1).all(axis=1)):
        yield Finding("box-whole-image", sample.image_path, "", classes[int(sample.labels[row])])
    rows: Dict[Tuple[float, ...], int] = {}
    for row, box in enumerate(sample.boxes.round(2).tolist()):
        first = rows.setdefault(tuple(box), row)
        if first == row:
            continue
        shown = _shown(sample, classes, row)
        if sample.labels[first] == sample.labels[row]:
            yield Finding("box-duplicate", sample.image_path, "", shown)
        else:
            text = f"{classes[int(sample.labels[first])]} and {shown}"
            yield Finding("box-two-classes", sample.image_path, "", text)


def scaled_box_sizes(sample: Sample, net_size: Size) -> np.ndarray:
    """``(N, 2)`` widths and heights of the boxes, in pixels of the network input."""
    return (sample.boxes[:, 2:] - sample.boxes[:, :2] + 1) * np.divide(net_size, sample.size)


def _shown(sample: Sample, classes: Sequence[str], row: int) -> str:
    corners = ", ".join(f"{value:g}" for value in sample.boxes[row])
    return f"{classes[int(sample.labels[row])]} at ({corners})"


def check_anchors(
    name: str, dataset: Dataset, anchors: np.ndarray, net_size: Size, iou_threshold: float = _IOU_THRESHOLD
) -> Tuple[List[Finding], Optional[float]]:
    """Findings about boxes without a positive anchor, and the share of such boxes (None without boxes).

    `name` is that of the list. Anchors ``(A, 4)`` are center x, center y, width, height in pixels of the
    network input.
    """
    scaled = (s.boxes * np.tile(np.divide(net_size, s.size), 2).astype(np.float32) for s in dataset)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *scaled])
    if not len(boxes):
        return [], None
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _MAX_BOXES)).astype(int)]
    assigner = TargetAssigner(anchors)
    batches = np.array_split(boxes, -(-len(boxes) // 64))
    unmatched = np.concatenate([assigner.iou(batch).max(axis=1) for batch in batches]) < iou_threshold
    share = float(unmatched.mean())
    if share <= _MANY_UNMATCHED:
        return [], share
    width, height = np.median(boxes[unmatched][:, 2:] - boxes[unmatched][:, :2], axis=0)
    text = (
        f"{share:.0%} of boxes have an IoU below {iou_threshold:g} with every anchor; their median size is "
        f"{width:.0f} x {height:.0f} px of the network input"
    )
    return [Finding("boxes-unmatched", name, "", text)], share


def count_objects(dataset: Dataset) -> np.ndarray:
    """``(C,)`` number of objects per class."""
    labels = [sample.labels for sample in dataset]
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(dataset.classes))


def check_classes(parts: Mapping[str, Dataset], train_list: Optional[str]) -> Iterator[Finding]:
    """Findings about the classes, which are the same in all lists."""
    counts = {name: count_objects(dataset) for name, dataset in parts.items()}
    first_list, classes = next(iter(parts)), next(iter(parts.values())).classes
    total = dict(zip(classes, np.sum(list(counts.values()), axis=0)))
    spellings: Dict[str, str] = {}
    for name in classes:
        other = spellings.setdefault(plain_name(name), name)
        if other != name:
            text = f"{other!r} ({total[other]} objects) and {name!r} ({total[name]} objects)"
            yield Finding("class-misspelled", first_list, "", text)
    for name in classes:
        for other in _similar(name, classes):
            if 0 < total[name] <= _RARE_SHARE * total[other]:
                text = f"{name!r} ({total[name]} objects) and {other!r} ({total[other]} objects)"
                yield Finding("class-similar", first_list, "", text)
    for part, count in counts.items():
        for label in np.flatnonzero(count == 0):
            yield Finding("class-unused", part, "", classes[label])
    train_counts = counts.get(train_list or "", list(total.values()))
    for name, number in zip(classes, train_counts):
        if 0 < number < _RARE:
            yield Finding("class-rare", train_list or "", "", f"{name}, {number} objects")


def plain_name(name: str) -> str:
    """A class name without case, spaces, hyphens and underscores, to compare spellings."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def _similar(name: str, classes: Sequence[str]) -> List[str]:
    others = [other for other in classes if plain_name(other) != plain_name(name)]
    return difflib.get_close_matches(name, others, n=3, cutoff=_SIMILAR)


def check_lists(parts: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Findings about image files that are in two lists."""
    list_of_file: Dict[str, str] = {}
    for name, dataset in parts.items():
        for sample in dataset:
            first = list_of_file.setdefault(os.path.realpath(sample.image_path), name)
            if first != name:
                yield Finding("image-in-two-lists", sample.image_path, "", f"in {first} and {name}")
