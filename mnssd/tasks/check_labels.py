"""Labels that look wrong to a trained detector: `metrics.label_suspects` on the images of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..data.dataset import Dataset
from ..data.open import find_format, is_missing, lists_to_read, open_dataset
from ..errors import DataError, MnssdError
from ..files import encodable
from ..metrics.label_suspects import LabelFault, Suspect, find_suspects
from ..options import from_mapping
from ..train.options import DetectionOptions
from ..train.run_folder import RunFolder
from .given_datasets import check_named
from .labelling_options import CheckLabelsOptions

LEAST_SUSPICION = 0.01
"""Suspicion below which a label is not listed: it would be printed as 0."""


@dataclass(frozen=True)
class LabelCheck:
    """Suspects, the most suspicious first, of the labels in `images` images.

    Attributes
    ----------
    classes : tuple of str
    images, labels : int
        Number of images and labels that were checked.
    suspects : list of Suspect
    skipped : list of str
        Images that could not be read, and why.
    """

    classes: Tuple[str, ...]
    images: int
    labels: int
    suspects: List[Suspect]
    skipped: List[str]

    def __str__(self) -> str:
        lines = [f"{suspect.suspicion:.2f}  {self.describe(suspect)}" for suspect in self.suspects]
        return "\n".join([*lines, f"{self.labels} labels in {self.images} images"])

    def describe(self, suspect: Suspect) -> str:
        """A line about a suspect: image, what may be wrong, and where."""
        found = f"{self.classes[suspect.label]} {_corners(suspect.box)}"
        if suspect.row < 0:
            text = f"no label, but detected: {found}"
        else:
            name = self.classes[int(suspect.sample.labels[suspect.row])]
            label = f"{name} {_corners(suspect.sample.boxes[suspect.row])}"
            text = {
                LabelFault.SPURIOUS: f"label {label}, but nothing detected there",
                LabelFault.CLASS: f"label {label}, but detected: {found}",
                LabelFault.LOOSE: f"label {label}, but the box detected is {_corners(suspect.box)}",
            }[suspect.fault]
        return f"{suspect.fault.value:8}  {suspect.sample.image_path}: {text}"

    def as_dict(self) -> Dict[str, Any]:
        """The result as plain values, for JSON."""
        return {
            "images": self.images,
            "labels": self.labels,
            "skipped": self.skipped,
            "suspects": [self._as_dict(suspect) for suspect in self.suspects],
        }

    def _as_dict(self, suspect: Suspect) -> Dict[str, Any]:
        values: Dict[str, Any] = {
            "image": suspect.sample.image_path, "fault": suspect.fault.value,
            "suspicion": round(suspect.suspicion, 4),
        }  # fmt: skip
        if suspect.row >= 0:
            label = int(suspect.sample.labels[suspect.row])
            box = [round(float(edge), 3) for edge in suspect.sample.boxes[suspect.row]]
            values["label"] = {"class": self.classes[label], "box": box}
        if suspect.fault is not LabelFault.SPURIOUS:
            box = [round(float(edge), 3) for edge in suspect.box]
            values["detection"] = {"class": self.classes[suspect.label], "box": box}
        return values


def _corners(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{edge:.0f}" for edge in box) + "]"


def check_labels(run: str, given: Mapping[str, Any]) -> LabelCheck:
    """Find labels that look wrong to a trained detector.

    Parameters
    ----------
    run : str
        Run folder of a detector, or a parameter file in it.
    given : mapping
        Options by name, see `CheckLabelsOptions`.

    Raises
    ------
    MnssdError
        If the run or the dataset cannot be read, or the dataset has no object of the detector's classes.
    """
    from tqdm import tqdm

    from .. import zoo
    from ..inference.predict import Skipped, predict
    from ..runtime import settings

    options = from_mapping(CheckLabelsOptions, given)
    check_named(run, options.dataset)
    ctx = settings.pick_context(options.ctx)
    net = zoo.load_detector(run, ctx)
    dataset = open_labels(run, net.classes, options.data_root, options.splits)
    net.hybridize()
    skipped: List[Skipped] = []
    found = predict(
        net, dataset, workers=settings.image_workers(), ctx=ctx, on_bad_image="skip", skipped=skipped
    )
    pairs = list(tqdm(found, total=len(dataset), unit="image", disable=None, leave=False))
    if not pairs:
        raise DataError(f"{dataset.name}: no image can be read; the first: {skipped[0].reason}")
    suspects = [one for one in find_suspects(pairs, net.classes) if one.suspicion >= LEAST_SUSPICION]
    labels = sum(len(sample.labels) for sample, _ in pairs)
    return LabelCheck(
        tuple(net.classes), len(pairs), labels, suspects[: options.number or None],
        [one.reason for one in skipped],
    )  # fmt: skip


def open_labels(
    run: str, classes: Sequence[str], data_root: Optional[str] = None, splits: Optional[str] = None
) -> Dataset:
    """The labeled images of a run, by default all of its dataset; `data_root` names another one.

    Prints the notes of the dataset to stderr. Raises DataError if it has no object of `classes`.
    """
    stored = RunFolder.containing(run).read_config().options.data
    if not isinstance(stored, DetectionOptions):
        raise MnssdError(f"{run}: expected a run of a detector, got one of a classifier")
    kind, root = stored.dataset, Path(data_root) if data_root else stored.folder
    if data_root and Path(data_root).resolve() != stored.folder.resolve():
        kind = "auto"
    if is_missing(kind, root):
        raise DataError(f"{root}: the dataset of {run} is missing; name its folder with --data-root")
    names = splits or "+".join(lists_to_read(find_format(kind, root), root))
    dataset = open_dataset(kind, root, names, list(classes), "eval", allow_absent=True)
    for line in dataset.notes:
        print(encodable(f"note: {line}"), file=sys.stderr)
    if not any(len(sample.labels) for sample in dataset):
        raise DataError(f"{dataset.name}: no object of the detector's classes, so no label to check")
    return dataset
