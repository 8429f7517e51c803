"""Boxes that do not fit their images: corners, images before their EXIF rotation, and wrong image sizes.

Only what is known to be right is corrected. What else a list contains decides: a single box that contradicts
a correction shows that it is wrong for the whole list.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple

import numpy as np

from ..data.annotations.annotation import excess, orientation, unrotated
from ..data.dataset import Dataset
from ..data.findings import Finding
from ..data.formats import Format
from ..data.sample import Sample
from ..options import Size

_MANY = 0.2  # share of boxes that exceed their images, above which all boxes of a list are in doubt
_FEW = 4  # boxes that exceed their images are always possible
_CUT = 0.1  # share of a box outside of its image from which on it exceeds the image
_ABOUT_ALL = ("boxes-as-corners", "boxes-exceed")  # findings about all boxes of a list
_SIZE_CODES = ("size-differs", "size-swapped")


def check_frames(dataset_format: Format, dataset: Dataset) -> Iterator[Finding]:
    """Findings about boxes of a list that all may be wrong, and about images whose rotation is ignored."""
    findings = list(dataset_format.check(dataset))
    yield from findings
    if not any(finding.code == "boxes-as-corners" for finding in [*findings, *dataset.findings]):
        exceeding, total = _count_exceeding(dataset)
        text = f"{exceeding} of {total} boxes exceed their images by more than a tenth"
        as_corners = dataset_format.name in _CORNERS and total > _FEW and exceeding and not findings
        if as_corners and _from_corners(dataset, _CORNERS[dataset_format.name]) is not None:
            yield Finding("boxes-as-corners", dataset.name, "", text)
        elif exceeding >= _FEW and exceeding > _MANY * total:
            yield Finding("boxes-exceed", dataset.name, "", text)
    for sample in _unrotated_samples(dataset):
        if not _has_code(sample, "boxes-unrotated", "size-swapped"):
            text = "other images of the list show that boxes ignore the rotation"
            yield Finding("boxes-unrotated", sample.image_path, "", text)


def mark_in_doubt(dataset: Dataset, findings: List[Finding]) -> Dataset:
    """The dataset with findings of `check_frames`; if they are about all of its boxes, these are in doubt."""
    inherited = [f for f in findings if f.code in (*_ABOUT_ALL, "boxes-unrotated")]
    about_all = tuple(f for f in [*dataset.findings, *findings] if f.code in _ABOUT_ALL)
    if not inherited and not about_all:
        return dataset
    samples = [
        replace(sample, original=sample.original._replace(findings=sample.original.findings + about_all))
        if sample.original
        else sample
        for sample in dataset
    ]
    return replace(dataset, samples=samples, findings=[*dataset.findings, *inherited])


def correct_boxes(dataset_format: Format, dataset: Dataset) -> Tuple[Dataset, List[str]]:
    """Correct the boxes and sizes of a list where the right ones are known, and describe what was done.

    The findings about what was corrected are removed from the dataset.
    """
    found = list(check_frames(dataset_format, dataset))
    changes: List[str] = []
    if any(finding.code == "boxes-as-corners" for finding in [*found, *dataset.findings]):
        as_corners = _CORNERS.get(dataset_format.name)
        corrected = _from_corners(dataset, as_corners) if as_corners else None
        if corrected is not None:
            others = [f for f in dataset.findings if f.code != "boxes-as-corners"]
            dataset = replace(dataset, findings=others)
            return _without_findings(dataset, corrected), ["converted the boxes, which are corners"]
    turned = {sample.image_path: _turn(sample, dataset.classes) for sample in _unrotated_samples(dataset)}
    if turned:
        changes.append(f"rotated the boxes of {len(turned)} images according to EXIF")
        found = [finding for finding in found if finding.code != "boxes-unrotated"]
    sized = _with_own_size([sample for sample in dataset if sample.image_path not in turned])
    if sized:
        changes.append(f"took the image's own size for {len(sized)} annotations")
    corrected_samples = {**turned, **sized}
    samples = [corrected_samples.get(sample.image_path, sample) for sample in dataset]
    return mark_in_doubt(_without_findings(dataset, samples), found), changes


def _without_findings(dataset: Dataset, samples: List[Sample]) -> Dataset:
    """The dataset with corrected samples, without the findings about what is corrected."""
    solved: Set[Finding] = set()
    for old, new in zip(dataset, samples):
        if old.original and new.original is None:
            solved.update(old.original.findings)
    return replace(dataset, samples=samples, findings=[f for f in dataset.findings if f not in solved])


def _has_code(sample: Sample, *codes: str) -> bool:
    return sample.original is not None and any(f.code in codes for f in sample.original.findings)


def _annotated_boxes(sample: Sample) -> np.ndarray:
    """``(N, 4)`` float64, not clipped."""
    return sample.original.boxes if sample.original else sample.boxes.astype(np.float64)


def _fits(sample: Sample, size: Size) -> bool:
    return bool(excess(_annotated_boxes(sample), size).max(initial=0) <= 1)


def _with_boxes(sample: Sample, boxes: np.ndarray, classes: Tuple[str, ...]) -> Sample:
    """The sample with a corrected box in place of each annotated one."""
    limits = [sample.size[0] - 1, sample.size[1] - 1] * 2
    boxes = np.clip(boxes, 0, limits).astype(np.float32)
    if sample.original is None:
        return replace(sample, boxes=boxes)
    rows = [row for row, name in enumerate(sample.original.names) if name in classes]
    labels = np.array([classes.index(sample.original.names[row]) for row in rows], np.int32)
    difficult = np.array([sample.original.difficult[row] for row in rows], bool)
    return replace(sample, boxes=boxes[rows], labels=labels, difficult=difficult, original=None)


# ---- corners -----------------------------------------------------------------------------------------------


def _count_exceeding(dataset: Dataset) -> Tuple[int, int]:
    """Number of boxes of which more than `_CUT` is outside of their images, and number of all boxes."""
    exceeding = total = 0
    for sample in dataset:
        boxes = _annotated_boxes(sample)
        total += len(boxes)
        if sample.original is None or not len(boxes):
            continue
        inside = np.clip(boxes, 0, [sample.size[0] - 1, sample.size[1] - 1] * 2)
        area, visible = ((b[:, 2:] - b[:, :2] + 1).prod(axis=1) for b in (boxes, inside))
        outside = excess(boxes, sample.size) > 1
        exceeding += int((outside & (visible < (1 - _CUT) * area)).sum())
    return exceeding, total


def _coco_corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes whose corners were read as x, y, width and height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _yolo_corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes whose corners were read as center and size."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:] + 1) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


_CORNERS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {"coco": _coco_corners, "yolo": _yolo_corners}
"""By format: the boxes whose corners were read as something else."""


def _from_corners(dataset: Dataset, as_corners: Callable[[np.ndarray], np.ndarray]) -> Optional[List[Sample]]:
    """Samples with boxes whose corners were read as something else; None unless each box can be so."""
    samples = []
    for sample in dataset:
        boxes = as_corners(_annotated_boxes(sample))
        is_box = (boxes[:, 2:] > boxes[:, :2]).all()
        if not is_box or excess(boxes, sample.size).max(initial=0) > 1 or _has_code(sample, *_SIZE_CODES):
            return None
        samples.append(_with_boxes(sample, boxes, dataset.classes))
    return samples


# ---- rotated images and wrong sizes ------------------------------------------------------------------------


def _unrotated_samples(dataset: Dataset) -> List[Sample]:
    """Samples whose boxes are known to be those of the images before their EXIF rotation.

    Images by 90 degrees show it: all of their boxes fit before the rotation, and some do not after it. Those
    whose annotation has the size before the rotation are judged apart. If all images that can show it do so,
    the boxes of images that are flipped or upside down ignore the rotation, too.
    """
    if not any(_has_code(sample, "boxes-unrotated", "size-swapped") for sample in dataset):
        return []
    orientations = {sample.image_path: orientation(sample.image_path) for sample in dataset}
    result: List[Sample] = []
    sideways = [s for s in dataset if len(_annotated_boxes(s)) and orientations[s.image_path] >= 5]
    swapped = [sample for sample in sideways if _has_code(sample, "size-swapped")]
    others = [sample for sample in sideways if not _has_code(sample, "size-swapped")]
    for group in (swapped, others):
        fit_before = all(_fits(sample, unrotated(sample.size)) for sample in group)
        if group and fit_before and not all(_fits(sample, sample.size) for sample in group):
            result += group
    if result and len(result) == len(sideways):
        result += [s for s in dataset if len(_annotated_boxes(s)) and 2 <= orientations[s.image_path] <= 4]
    return result


def _turn(sample: Sample, classes: Tuple[str, ...]) -> Sample:
    """The sample with its boxes rotated as its image."""
    value = orientation(sample.image_path)
    left, top, right, bottom = _annotated_boxes(sample).T
    if value >= 5:  # as `image.read_image`: transposed first, then flipped
        left, top, right, bottom = top, left, bottom, right
    width, height = sample.size
    if value in (2, 3, 6, 7):
        left, right = width - 1 - right, width - 1 - left
    if value in (3, 4, 7, 8):
        top, bottom = height - 1 - bottom, height - 1 - top
    return _with_boxes(sample, np.column_stack([left, top, right, bottom]), classes)


def _with_own_size(samples: List[Sample]) -> Dict[str, Sample]:
    """Samples by path whose annotated size is wrong while all boxes are right; empty if some box is not."""
    wrong = [sample for sample in samples if _has_code(sample, *_SIZE_CODES)]
    if not all(_fits(sample, sample.size) for sample in wrong):
        return {}
    sideways = [s for s in wrong if _has_code(s, "size-swapped") and orientation(s.image_path) >= 5]
    if sideways and all(_fits(sample, unrotated(sample.size)) for sample in sideways):
        wrong = [
            sample for sample in wrong if all(sample is not other for other in sideways)
        ]  # before or after the rotation
    return {sample.image_path: replace(sample, original=None) for sample in wrong}
