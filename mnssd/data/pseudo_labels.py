"""Training samples from detections in images without labels: self-training.

Read from the JSON that `mnssd detect --json` writes. Detections that the detector is sure of become objects;
the others are neither objects nor background in training (`Sample.ignored`).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple

import numpy as np

from ..boxes import clip
from ..errors import DataError
from ..options import Size, listed
from .annotations.text_files import open_text
from .dataset import Dataset
from .sample import Sample

SURE_SCORE = 0.6
"""Lowest score of a detection that becomes an object."""


def with_pseudo_labels(dataset: Dataset, path: str, others: Sequence[Dataset] = ()) -> Dataset:
    """A training set with the images of a file of detections appended.

    Parameters
    ----------
    dataset : Dataset
        Images with labels. They keep their labels if the file has them, too.
    path : str
        File by ``mnssd detect --json``.
    others : sequence of Dataset
        Datasets whose images must not be trained on, such as the validation set.

    Raises
    ------
    DataError
        If the file is of another kind, has a class that the dataset lacks, or no image to learn from.
    """
    samples, note = _read(Path(path), dataset.classes, [dataset, *others])
    return replace(
        dataset, name=f"{dataset.name} and {len(samples)} images of {path}",
        samples=[*dataset.samples, *samples], notes=[*dataset.notes, note],
    )  # fmt: skip


def _read(path: Path, classes: Sequence[str], known: Sequence[Dataset]) -> Tuple[List[Sample], str]:
    """The images of a file that have a sure detection and are not `known`, and a note for the user."""
    entries = _load(path)
    known_files = {os.path.realpath(sample.image_path) for one in known for sample in one}
    ids = {sample.image_id for one in known for sample in one}
    samples: List[Sample] = []
    left_out = {"that cannot be found": 0, "with labels": 0, "without a sure detection": 0}
    for number, entry in enumerate(entries):
        try:
            image, size = str(entry["image"]), (int(entry["width"]), int(entry["height"]))
            boxes, labels, scores = _detections(entry["detections"], classes, size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: image {number + 1}: {_reason(error)}; write the file with mnssd detect --json"
            ) from error
        sure = scores >= SURE_SCORE
        file = _find(image, path)
        if not file:
            left_out["that cannot be found"] += 1
        elif os.path.realpath(file) in known_files:
            left_out["with labels"] += 1
        elif not sure.any():
            left_out["without a sure detection"] += 1
        else:
            known_files.add(os.path.realpath(file))
            samples.append(
                Sample(
                    _new_id(file, ids), file, boxes[sure], labels[sure], np.zeros(sure.sum(), bool), size,
                    ignored=boxes[~sure],
                )
            )  # fmt: skip
    return samples, _note(path, samples, left_out)


def _load(path: Path) -> List[Dict[str, Any]]:
    """The entries of the file."""
    try:
        with open_text(path, "JSON") as file:
            content = json.load(file)
        entries = content["images"]
        if not isinstance(entries, list) or "classes" not in content:
            raise KeyError("images")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not a file by mnssd detect --json") from error
    return entries


def _detections(
    entries: Any, classes: Sequence[str], size: Size
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes clipped to the image, labels and scores."""
    if min(size) < 1:
        raise ValueError(f"an image of {size[0]}x{size[1]} pixels")
    index = {name: label for label, name in enumerate(classes)}
    boxes, labels, scores = [], [], []
    for entry in entries:
        name, score, box = entry["class"], float(entry["score"]), [float(edge) for edge in entry["box"]]
        if name not in index:
            raise ValueError(f"class {name!r} is not among those trained on, {listed(classes)}")
        if len(box) != 4 or not all(map(math.isfinite, [score, *box])):
            raise ValueError(f"a detection with box {box} and score {score}")
        boxes.append(box)
        labels.append(index[name])
        scores.append(score)
    corners = clip(np.array(boxes, np.float32).reshape(-1, 4), size).astype(np.float32)
    kept = (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    return corners[kept], np.array(labels, np.int32)[kept], np.array(scores, np.float32)[kept]


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _find(image: str, path: Path) -> str:
    """Path of an image, which is relative to the working folder or to that of the file; "" if absent."""
    for candidate in (image, str(path.parent / image)):
        if os.path.isfile(candidate):
            return candidate
    return ""


def _new_id(file: str, ids: Set[str]) -> str:
    """An image id that no other image has; it is added to `ids`."""
    stem, number = os.path.splitext(os.path.basename(file))[0], 1
    result = stem
    while result in ids:
        number += 1
        result = f"{stem}-{number}"
    ids.add(result)
    return result


def _note(path: Path, samples: Sequence[Sample], left_out: Dict[str, int]) -> str:
    """What was used; raises DataError if that is nothing."""
    absent = ", ".join(f"{count} {why}" for why, count in left_out.items() if count) or "none"
    if not samples:
        raise DataError(
            f"{path}: no image to learn from (left out: {absent}); detect in other images, or with a lower "
            f"--score than {SURE_SCORE}"
        )
    objects = sum(len(sample.boxes) for sample in samples)
    ignored = sum(len(sample.ignored) for sample in samples if sample.ignored is not None)
    return (
        f"{path}: {objects} detections of a score from {SURE_SCORE} in {len(samples)} images are used as "
        f"labels, {ignored} of a lower score are ignored; images left out: {absent}"
    )
