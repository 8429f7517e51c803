"""The data of a report: settings, training log, dataset statistics and an evaluation of the best weights."""

from __future__ import annotations

import csv
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from .. import __version__, zoo
from ..data.dataset import Dataset
from ..data.open import is_missing, open_dataset
from ..data.sample import Detections, Sample
from ..errors import DataError, MnssdError
from ..inference.predict import Skipped, evaluate
from ..metrics.coco import COCOMetric, COCOResult
from ..metrics.error_analysis import ErrorAnalysis, OperatingPoint, analyze_errors, best_f1_points
from ..metrics.voc import VOCMetric, VOCResult
from ..options import listed
from ..runtime import processor, settings
from ..train.options import DetectionOptions, DetectionTraining
from ..train.run_folder import RunFolder
from ..validation.boxes import check_anchors, scaled_box_sizes
from ..validation.check import statistics

_PACKAGES = ("mxnet", "gluoncv", "numpy", "opencv-python-headless", "opencv-python", "Pillow", "pycocotools")


@dataclass(frozen=True)
class ReportData:
    """Everything the report page shows.

    Attributes
    ----------
    log : list of dict
        Rows of ``log.csv`` as text; empty where an epoch has no value.
    train, val : dict
        `validation.check.statistics` of the training and validation images.
    boxes : numpy.ndarray
        ``(N, 2)`` widths and heights of the training boxes, in pixels of the network input.
    anchors : numpy.ndarray
        ``(A, 4)`` anchors as cx, cy, w, h, in pixels of the network input.
    notes : list of str
        Notes from reading the datasets.
    results : dict
        ``'voc07'`` and ``'voc12'`` to the result.
    points : dict
        Class name to its operating point with the best F1.
    versions : dict
        Package versions and facts about the machine.
    """

    name: str
    spec: zoo.DetectorSpec
    options: DetectionTraining
    log: List[Dict[str, str]]
    train: Dict[str, Any]
    val: Dict[str, Any]
    val_name: str
    boxes: np.ndarray
    anchors: np.ndarray
    notes: List[str]
    results: Dict[str, VOCResult]
    coco: COCOResult
    points: Dict[str, OperatingPoint]
    errors: ErrorAnalysis
    skipped: List[Skipped]
    versions: Dict[str, str]


def collect(run: Path, data_root: str = "", progress: Callable[[], object] = lambda: None) -> ReportData:
    """Read a run folder and evaluate its best weights.

    `data_root` is the folder of the dataset, if it has moved since training. `progress` is called after each
    evaluated image.

    Raises
    ------
    MnssdError
        If the folder is not a detector's run, has no weights yet, or its dataset is missing.
    """
    if RunFolder(run).read_task() != "detection":
        raise MnssdError(f"{run}: expected a run of a detector, got task {RunFolder(run).read_task()!r}")
    config = RunFolder(run).read_config()
    options = config.options.replace(data_root=data_root) if data_root else config.options
    assert isinstance(options, DetectionTraining)
    assert isinstance(config.spec, zoo.DetectorSpec)
    net = zoo.load_detector(str(run))
    train, val = _open_datasets(options.data, net.classes)
    unmatched = check_anchors("", train, net.anchors, net.size, options.data.match_iou)[1]
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
    results = {"voc07": voc07, "voc12": voc12.result()}
    points = best_f1_points(results["voc12"])
    return ReportData(
        name=run.resolve().name,
        spec=config.spec,
        options=options,
        log=_read_log(run / "log.csv"),
        train={**statistics(train), "boxes_without_anchor": unmatched},
        val=statistics(val),
        val_name=val.name,
        boxes=_box_sizes(train, net.size),
        anchors=net.anchors,
        notes=[*train.notes, *(note for note in val.notes if note not in train.notes)],
        results=results,
        coco=coco.result(),
        points=points,
        errors=analyze_errors(pairs, net.classes, points),
        skipped=skipped,
        versions=_versions(),
    )


def _open_datasets(options: DetectionOptions, classes: Tuple[str, ...]) -> Tuple[Dataset, Dataset]:
    kind, folder, names = options.dataset, options.folder, list(classes)
    if is_missing(kind, folder):  # opening it would render the built-in dataset anew, with other images
        raise DataError(f"{folder}: the dataset of this run is missing; name its folder with --data-root")
    train = open_dataset(kind, folder, options.train_splits, names, "train", allow_absent=True)
    if options.overfit:
        train = train.first(options.overfit)
        return train, train
    splits, share = options.validation_lists()
    val = open_dataset(kind, folder, splits, names, "val", allow_absent=True)
    if share:
        train, val = train.hold_out(share)
    if not any((~sample.difficult).any() for sample in val):
        raise DataError(f"{val.name}: no objects of the classes {listed(classes)} to evaluate on")
    return train, val


def _read_log(path: Path) -> List[Dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _box_sizes(dataset: Dataset, net_size: Tuple[int, int]) -> np.ndarray:
    """``(N, 2)`` widths and heights in pixels of the network input."""
    return np.concatenate([np.zeros((0, 2)), *(scaled_box_sizes(sample, net_size) for sample in dataset)])


def _versions() -> Dict[str, str]:
    versions = {"mnssd": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        **versions,
        "processor": f"{processor.model()}, {processor.instruction_set()}, {processor.usable_cores()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "report created": time.strftime("%Y-%m-%d %H:%M"),
    }
