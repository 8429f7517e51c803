"""Measure a detector as the Pascal VOC devkit does.

Give a trained detector, to be run over a dataset; or, with --detections, a folder of detection files in the
devkit's format (comp4_det_SPLIT_CLASS.txt), whoever wrote them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..data.open import KINDS, default_splits, measured_on, open_dataset
from ..errors import DataError, OptionError
from ..options import add_arguments as add_options
from ..options import from_mapping, given, names_list, option

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..metrics.coco import COCOMetric, COCOResult
    from ..metrics.voc import VOCResult


@dataclass(frozen=True)
class EvalOptions:
    """Measuring."""

    dataset: str = option(
        "voc", "what to measure on; a run's own dataset where one is given", choices=tuple(KINDS)
    )
    data_root: Optional[str] = option(
        None, "where it lies (default: data/VOCdevkit, data/shapes)", metavar="DIR"
    )
    splits: Optional[str] = option(None, "image lists (default: 2007_test for voc, val for shapes)")
    hold_out: float = option(0.0, "measure on the share of the lists that --hold-out keeps from training")
    download: bool = option(False, "fetch the dataset's official archives where they are missing")
    # The names of evaluate.voc.METRICS, said again so that --help need not load NumPy, and COCO's.
    metric: str = option(
        "voc07",
        "11 points; the area under the curve; or COCO's figures beside the latter",
        choices=("voc07", "voc12", "coco"),
    )
    iou: float = option(0.5, "overlap at which a detection matches an object")
    flip: bool = option(False, "answer with the mean over each image and its mirror image, in twice the time")
    batch_size: int = option(16, "images computed together; changes nothing in the result")
    workers: int = option(-1, "threads that read images; -1 for what suits this machine")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "write the result to this file too", metavar="FILE")
    save_detections: Optional[str] = option(
        None, "write the devkit's detection files into this folder", metavar="DIR"
    )
    detections: Optional[str] = option(
        None, "measure the detection files in this folder, no network", metavar="DIR"
    )
    classes: Optional[List[str]] = option(
        None, "with --detections: names, separated by commas (default: all of the dataset)", parse=names_list
    )

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou must be above 0 and at most 1, not {self.iou}")
        if not 0 <= self.hold_out < 1:
            raise ValueError(f"hold_out is at least 0 and below 1, not {self.hold_out}")
        for name, least in (("batch_size", 1), ("workers", -1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")


# What only a network needs; with --detections it would be given in vain.
_FOR_A_NETWORK = ("flip", "batch_size", "workers", "ctx", "save_detections")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the detector and the options of measuring."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="run folder, or a parameter file in one")
    add_options(parser, EvalOptions)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table; returns the exit status."""
    values = given(args, EvalOptions)
    if bool(args.run) == bool(values.get("detections")):
        raise OptionError("give either a RUN, the folder of a trained detector, or --detections DIR")
    if args.run:
        if "classes" in values:
            raise OptionError("--classes is for --detections; a trained detector brings its classes along")
        options = from_mapping(EvalOptions, {**_data_of_run(args.run, values), **values})
        dataset, result, coco = _measure_network(args.run, options)
    else:
        vain = [name for name in _FOR_A_NETWORK if name in values]
        if vain:
            raise OptionError(
                f"--{vain[0].replace('_', '-')} is for a network; leave it out with --detections"
            )
        options = from_mapping(EvalOptions, values)
        dataset, result, coco = _measure_files(options)

    from ..metrics.table import format_coco, format_table

    print(f"{dataset.name}, {args.run or options.detections}\n\n{format_table(result)}")
    if coco:
        print(f"\n{format_coco(coco)}")
    if options.json:
        report = {
            **result.as_dict(),
            "dataset": options.dataset,
            "data_root": options.data_root or KINDS[options.dataset].root,
            "splits": _splits(options),
            "hold_out": options.hold_out,
            "detector": args.run,
            "flip": options.flip,
            "detections_folder": options.detections,
            "notes": dataset.notes,
        }
        if coco:
            report["coco"] = coco.as_dict()
        _write_json(options.json, report)
    return 0


def _data_of_run(run_or_weights: str, values: Dict[str, Any]) -> Dict[str, Any]:
    """The dataset that a run measured itself on, unless the user names one."""
    from pathlib import Path

    from ..errors import MnssdError
    from ..train.run_folder import RunFolder

    path = Path(run_or_weights)
    try:
        stored = RunFolder(path if path.is_dir() else path.parent).read_config()["options"]
    except MnssdError:  # no run folder: what is wrong with it is said by whoever loads the detector
        return {}
    if stored.get("dataset") not in KINDS or values.get("dataset", stored["dataset"]) != stored["dataset"]:
        return {}
    own = {"dataset": stored["dataset"], "data_root": values.get("data_root", stored.get("data_root"))}
    if "splits" not in values:
        own["splits"], own["hold_out"] = measured_on({**stored, **own})
    return {key: value for key, value in own.items() if value is not None}


def _measure_network(path: str, options: EvalOptions) -> Tuple[Dataset, VOCResult, Optional[COCOResult]]:
    from .. import zoo
    from ..runtime import settings

    ctx = settings.pick_context(options.ctx)
    net = zoo.load_detector(path, ctx)
    net.set_test_flip(options.flip)
    dataset = _open(options, list(net.classes), allow_absent=True)

    from tqdm import tqdm

    from ..inference.predict import evaluate
    from ..metrics.detection_files import DetectionWriter

    net.hybridize()
    workers = options.workers if options.workers >= 0 else settings.image_workers()
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(dataset), unit="image", disable=None, leave=False))
        coco = _coco_metric(options, dataset)
        writer = None
        if options.save_detections:
            writer = stack.enter_context(
                DetectionWriter(options.save_detections, _splits(options), dataset.classes)
            )

        def watch(sample: Any, detections: Any) -> None:
            bar.update()
            if coco:
                coco.add(detections, sample)
            if writer:
                writer.add(sample.image_id, detections)

        result = evaluate(
            net, dataset, _voc_metric(options), options.iou, options.batch_size, workers, ctx, watch=watch
        )
    if not any(result.detections.values()):
        _say(f"warning: {path} found nothing in {result.images} images; are its weights trained?")
    return dataset, result, coco.result() if coco else None


def _measure_files(options: EvalOptions) -> Tuple[Dataset, VOCResult, Optional[COCOResult]]:
    from ..metrics.detection_files import read_detections
    from ..metrics.voc import VOCMetric

    assert options.detections
    dataset = _open(options, options.classes)
    table = read_detections(
        options.detections, _splits(options), dataset.classes, {sample.image_id for sample in dataset}
    )
    for note in table.notes:
        _say(f"note: {note}")
    measuring = VOCMetric(dataset.classes, _voc_metric(options), options.iou)
    for sample in dataset:
        measuring.add_ground_truth(sample)
    measuring.add_detections(table.image_ids, table.detections)
    coco = _coco_metric(options, dataset)
    if coco:
        rows: Dict[str, List[int]] = {}
        for row, image_id in enumerate(table.image_ids):
            rows.setdefault(image_id, []).append(row)
        for sample in dataset:
            coco.add(table.detections.take(rows.get(sample.image_id, [])), sample)
    return dataset, measuring.result(), coco.result() if coco else None


def _voc_metric(options: EvalOptions) -> str:
    return "voc12" if options.metric == "coco" else options.metric


def _coco_metric(options: EvalOptions, dataset: Dataset) -> Optional[COCOMetric]:
    if options.metric != "coco":
        return None
    from ..metrics.coco import COCOMetric

    return COCOMetric(dataset.classes)


def _open(options: EvalOptions, classes: Optional[List[str]], allow_absent: bool = False) -> Dataset:
    dataset = open_dataset(
        options.dataset,
        options.data_root,
        options.splits,
        classes,
        "val",
        download=options.download,
        allow_absent=allow_absent,
        progress=True,
    )
    if options.hold_out:
        dataset = dataset.hold_out(options.hold_out)[1]
    for note in dataset.notes:
        _say(f"note: {note}")
    if not any((~sample.difficult).any() for sample in dataset):
        raise DataError(
            f"{dataset.name} has no object to find of {', '.join(dataset.classes)}: "
            "there is nothing to measure; check --dataset, --data-root and --splits"
        )
    return dataset


def _splits(options: EvalOptions) -> str:
    return options.splits or default_splits(options.dataset, "val", options.data_root)


def _write_json(path: str, report: Dict[str, Any]) -> None:
    from ..files import replacing

    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with replacing(path) as file:
        json.dump(report, file, indent=2, allow_nan=False)
        file.write("\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
