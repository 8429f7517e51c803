"""What a report is made of: a run's settings and log, its data, and its best weights measured once more."""

from __future__ import annotations

import csv
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

from .. import __version__, zoo
from ..data.dataset import Dataset
from ..data.open import KINDS, measured_on, open_dataset
from ..data.sample import Detections, Sample
from ..errors import DataError, MnssdError
from ..inference.predict import Skipped, evaluate
from ..metrics.coco import COCOMetric, COCOResult
from ..metrics.error_analysis import Point, Verdict, analyze_errors, best_points
from ..metrics.voc import VOCMetric, VOCResult
from ..runtime import processor, settings
from ..train.run_folder import RunFolder
from ..validation.boxes import MATCH, check_anchors
from ..validation.check import describe

_PACKAGES = ("mxnet", "gluoncv", "numpy", "opencv-python-headless", "opencv-python", "Pillow", "pycocotools")


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    Attributes
    ----------
    name : str
    spec : zoo.DetectorSpec
    options : dict
        As the run was started.
    rows : list of dict
        Its log; texts, empty where an epoch has no such number.
    train, val : dict
        `validation.check.describe` of what was trained and measured on.
    val_name : str
    boxes : numpy.ndarray
        ``(N, 2)`` widths and heights of the training boxes in pixels of the network's input.
    anchors : numpy.ndarray
        ``(A, 4)`` cx, cy, w, h.
    notes : list of str
        What reading the data had to say.
    results : dict
        ``'voc07'`` and ``'voc12'`` to what they measured.
    coco : COCOResult
    points : dict
        Class to its `Point` of best F1.
    verdict : Verdict
    skipped : list of Skipped
    versions : dict
    """

    name: str
    spec: zoo.DetectorSpec
    options: Mapping[str, Any]
    rows: List[Dict[str, str]]
    train: Dict[str, Any]
    val: Dict[str, Any]
    val_name: str
    boxes: Any
    anchors: Any
    notes: List[str]
    results: Dict[str, VOCResult]
    coco: COCOResult
    points: Dict[str, Point]
    verdict: Verdict
    skipped: List[Skipped]
    versions: Dict[str, str]


def gather(run: Path, data_root: str = "", progress: Callable[[], object] = lambda: None) -> ReportData:
    """Read a run folder and measure its best weights.

    Parameters
    ----------
    run : Path
    data_root : str
        Where its data lies now, if it has moved.
    progress : callable
        Called after each image measured.

    Raises
    ------
    MnssdError
        When it is no run of a detector, has no weights yet, or its data is not there.
    """
    config = RunFolder(run).read_config()
    if config.get("task") != "detection":
        raise MnssdError(f"{run}: a run of {config.get('task')}; reports are made of detectors")
    # A run of before `match_iou` was an option has matched like this.
    options = {"match_iou": MATCH, **config["options"], **({"data_root": data_root} if data_root else {})}
    net = zoo.load_detector(str(run))
    train, val = _datasets(options, net.classes)
    unmatched = check_anchors("", train, net.anchors, net.size, options["match_iou"])[1]
    voc12, coco = VOCMetric(net.classes, "voc12"), COCOMetric(net.classes)
    pairs: List[Tuple[Sample, Detections]] = []

    def watch(sample: Sample, detections: Detections) -> None:
        pairs.append((sample, detections))
        coco.add(detections, sample)
        voc12.add(detections, sample)
        progress()

    skipped: List[Skipped] = []
    net.hybridize()
    voc07 = evaluate(
        net, val, "voc07", workers=settings.image_workers(), on_bad_image="skip", skipped=skipped, watch=watch
    )
    measured = {"voc07": voc07, "voc12": voc12.result()}
    points = best_points(measured["voc12"])
    return ReportData(
        name=run.resolve().name,
        spec=zoo.read_spec(str(run / zoo.CONFIG_FILE)),
        options=options,
        rows=_rows(run / "log.csv"),
        train={**describe(train), "boxes_without_anchor": unmatched},
        val=describe(val),
        val_name=val.name,
        boxes=_sides(train, net.size),
        anchors=net.anchors,
        notes=[*train.notes, *(note for note in val.notes if note not in train.notes)],
        results=measured,
        coco=coco.result(),
        points=points,
        verdict=analyze_errors(pairs, net.classes, points),
        skipped=skipped,
        versions=_versions(),
    )


def _datasets(options: Mapping[str, Any], classes: Tuple[str, ...]) -> Tuple[Dataset, Dataset]:
    """What was trained and measured on."""
    kind, root, names = options["dataset"], options.get("data_root"), list(classes)
    place = Path(root or KINDS[kind].root)
    if not place.is_dir():  # the built-in set would be made anew, perhaps another one
        raise DataError(f"{place}: the run's data is not there; say where it lies by --data-root")
    train = open_dataset(kind, root, options.get("train_splits"), names, "train", allow_absent=True)
    if options.get("overfit"):
        train = train.first(int(options["overfit"]))
        return train, train
    splits, share = measured_on(options)
    val = open_dataset(kind, root, splits, names, "val", allow_absent=True)
    if share:
        train, val = train.hold_out(share)
    if not any((~sample.difficult).any() for sample in val):
        raise DataError(f"{val.name} has no object of {', '.join(classes)}: there is nothing to report on")
    return train, val


def _rows(path: Path) -> List[Dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _sides(dataset: Dataset, net_size: Tuple[int, int]) -> Any:
    import numpy as np

    parts = [
        (sample.boxes[:, 2:] - sample.boxes[:, :2] + 1)
        * np.array([net_size[0] / sample.size[0], net_size[1] / sample.size[1]])
        for sample in dataset
    ]
    return np.concatenate([np.zeros((0, 2)), *parts])


def _versions() -> Dict[str, str]:
    found = {"mnssd": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["processor"] = (
        f"{processor.model()}, {processor.instruction_set()}, {processor.usable_cores()} cores"
    )
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["written"] = time.strftime("%Y-%m-%d %H:%M")
    return found
