"""Comparison of two networks on the same images: is the second one better beyond chance?"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..data.classification import CLASSIFICATION_ROOTS
from ..data.formats import AUTO, dataset_names
from ..data.open import default_root
from ..errors import MnssdError, OptionError, WeightsError
from ..metrics import VOC_METRICS
from ..options import NAMES, from_mapping, listed, option, require
from .evaluate import (
    DetectionEvaluation,
    EvalClassOptions,
    EvalOptions,
    data_of_classifier,
    evaluate_classifier_run,
    evaluate_detection_files,
    evaluate_detector,
    open_for_evaluation,
    options_of_run,
    with_classes_of,
)

if TYPE_CHECKING:
    from ..data.sample import Detections, Sample
    from ..metrics.classification import ClassificationResult
    from ..metrics.comparison import Comparison


def _datasets() -> Tuple[str, ...]:
    return dataset_names(*CLASSIFICATION_ROOTS)


@dataclass(frozen=True)
class CompareRunsOptions:
    """Comparison."""

    dataset: Optional[str] = option(
        None, "dataset to evaluate on (default: that of the runs, or recognized in --data-root)",
        choices=_datasets,
    )  # fmt: skip
    data_root: Optional[str] = option(None, "folder of the dataset", metavar="DIR")
    splits: Optional[str] = option(None, "image lists (default: those that the runs were validated on)")
    hold_out: float = option(
        0.0, "evaluate on the share of the images that training held out with --hold-out"
    )
    classes: Optional[List[str]] = option(
        None, "compare only these classes of two detectors, separated by commas", type=NAMES
    )
    metric: str = option(
        "voc07", "average precision from 11 points (voc07) or the whole curve (voc12)", choices=VOC_METRICS
    )
    iou: float = option(0.5, "IoU at which a detection matches an object")
    batch_size: int = option(16, "images per batch; does not change the result")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "also write the result to this file", metavar="FILE")

    def __post_init__(self) -> None:
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "iou")
        require(self, "at least 0 and below 1", lambda value: 0 <= value < 1, "hold_out")
        require(self, "at least 1", lambda value: value >= 1, "batch_size")


_DETECTORS_ONLY = ("splits", "classes", "metric", "iou")
_DATA = ("dataset", "data_root", "splits", "hold_out")


class _Contender(NamedTuple):
    """One of the two; `classes` is empty for detection files, which do not tell them."""

    path: str
    kind: str  # "run", "export" or "files"
    task: str
    classes: Tuple[str, ...]


def compare_runs(a: str, b: str, values: Mapping[str, Any]) -> Comparison:
    """Compare two networks, or the detection files of two detectors, by mAP or top-1 on the same images.

    Parameters
    ----------
    a, b : str
        Each a run folder, a parameter file in one, an export, or a folder of detection files.
    values : mapping
        Given values of `CompareRunsOptions`, by name.

    Raises
    ------
    OptionError
        If one detects and the other classifies, their classes differ, or they have no dataset in common and
        none is given.
    MnssdError
        If one of them, or the dataset, cannot be read.
    """
    options = from_mapping(CompareRunsOptions, values)
    given = {name: getattr(options, name) for name, value in values.items() if value is not None}
    pair = (_identify(a), _identify(b))
    if pair[0].task != pair[1].task:
        raise OptionError(
            f"{a} is for {pair[0].task} and {b} for {pair[1].task}; expected two networks for the same task"
        )
    if all(contender.kind != "run" for contender in pair) and not {"dataset", "data_root"} & set(given):
        raise OptionError(f"{a} and {b} do not tell their dataset; name its folder with --data-root")
    if pair[0].task == "detection":
        return _compare_detectors(pair, options, given)
    return _compare_classifiers(pair, options, given)


def task_of(path: str) -> str:
    """``'detection'`` or ``'classification'``; raises MnssdError as `compare_runs`."""
    return _identify(path).task


def _identify(path: str) -> _Contender:
    from ..export.sidecar import find_sidecars, read_export
    from ..train.run_folder import RunFolder

    place = Path(path)
    if place.is_dir() and not RunFolder(place).config.exists():
        if find_sidecars(place):
            sidecar = read_export(place)[1]
            return _Contender(path, "export", sidecar["task"], tuple(sidecar["classes"]))
        if any(place.glob("comp*_det_*.txt")):
            return _Contender(path, "files", "detection", ())
        raise MnssdError(f"{path}: expected a run folder, an export or a folder of detection files")
    run = RunFolder.containing(path)
    if place.is_dir() and not run.best.exists():
        raise WeightsError(f"{run.best}: missing; it is written after the first validation of a run")
    return _Contender(path, "run", run.read_task(), tuple(run.read_config().spec.classes))


# ---- detectors


def _compare_detectors(
    pair: Tuple[_Contender, _Contender], options: CompareRunsOptions, given: Dict[str, Any]
) -> Comparison:
    from ..metrics.comparison import compare_detections

    _check_classes(pair, options.classes)
    data = _shared_data([_detection_data(run.path, given) for run in pair if run.kind == "run"], pair)
    if data is None:
        data = {"dataset": AUTO, **{name: given[name] for name in _DATA if name in given}}
    shared = {name: getattr(options, name) for name in ("metric", "iou", "batch_size", "ctx")}
    evaluation = from_mapping(EvalOptions, {**data, **shared})
    # Of detection files, those of the other's classes are read.
    classes = options.classes or next((list(run.classes) for run in pair if run.classes), None)
    a, b = (_evaluate_detector(run, replace(evaluation, classes=classes)) for run in pair)
    names = {"dataset": a.dataset.name, "name_a": pair[0].path, "name_b": pair[1].path}
    return compare_detections(a.voc, b.voc, classes, **names)


def _check_classes(pair: Sequence[_Contender], chosen: Optional[List[str]]) -> None:
    """Raise OptionError unless both have the classes `chosen`, or without these the same classes."""
    known = [run for run in pair if run.classes]
    for run in known:
        missing = [name for name in chosen or () if name not in run.classes]
        if missing:
            raise OptionError(f"classes: {run.path} has no {listed(missing)}; it has {listed(run.classes)}")
    if chosen or len(known) < 2 or set(known[0].classes) == set(known[1].classes):
        return
    a, b = known
    shared = [name for name in a.classes if name in b.classes]
    cure = f"compare those of both with --classes {','.join(shared)}" if shared else "they share none"
    if a.task == "classification":
        cure = "top-1 of classifiers is comparable only for the same classes"
    raise OptionError(
        f"{a.path} has the classes {listed(a.classes)} and {b.path} {listed(b.classes)}; {cure}"
    )


def _detection_data(run: str, given: Mapping[str, Any]) -> Dict[str, Any]:
    """The images that `mnssd eval` uses for a run, as values of `EvalOptions`."""
    values = options_of_run(run, {name: given[name] for name in _DATA if name in given})
    options = from_mapping(EvalOptions, values)
    return {
        "dataset": options.dataset,
        "data_root": options.data_root or default_root(options.dataset),
        "splits": options.split_names,
        "hold_out": options.hold_out,
    }


def _shared_data(data: Sequence[Dict[str, Any]], pair: Sequence[_Contender]) -> Optional[Dict[str, Any]]:
    """The data of both runs, or of the one that is a run; None if none is.

    Raises OptionError if they differ.
    """
    if len(data) < 2:
        return data[0] if data else None
    a, b = ({**values, "data_root": os.path.realpath(values["data_root"])} for values in data)
    differing = [name for name in a if a[name] != b[name]]
    if differing:
        options = [f"--{name.replace('_', '-')}" for name in differing if name in _DATA] or ["--data-root"]
        found = "; ".join(
            f"{name.replace('_', ' ')} {data[0][name]} and {data[1][name]}" for name in differing
        )
        raise OptionError(
            f"{pair[0].path} and {pair[1].path} were validated on different images: {found}. Choose the same "
            f"for both with {' and '.join(options)}"
        )
    return data[0]


def _evaluate_detector(contender: _Contender, options: EvalOptions) -> DetectionEvaluation:
    if contender.kind == "run":
        return evaluate_detector(contender.path, options)
    if contender.kind == "files":
        return evaluate_detection_files(replace(options, detections=contender.path), allow_absent=True)
    from ..metrics.voc import VOCMetric

    dataset = open_for_evaluation(options, list(contender.classes), allow_absent=True)
    metric = VOCMetric(dataset.classes, options.metric, options.iou)
    for sample, detections in _detections_of_export(contender.path, dataset, options):
        metric.add(detections, sample)
    return DetectionEvaluation(dataset, metric.result())


def _detections_of_export(
    path: str, samples: Sequence[Sample], options: EvalOptions
) -> Iterator[Tuple[Sample, Detections]]:
    """As `inference.predict.predict`, for an export."""
    from tqdm import tqdm

    from ..data.preprocess import read_for_network, to_detections
    from ..export.load import load_export
    from ..runtime import settings

    export = load_export(Path(path), "detection", settings.pick_context(options.ctx))
    assert export
    waiting = iter(tqdm(samples, unit="image", disable=None, leave=False))
    for batch in iter(lambda: list(islice(waiting, options.batch_size)), []):
        images = [read_for_network(sample.image_path, export.size) for sample in batch]
        outputs = export.engine([pixels for pixels, _ in images])
        for sample, (_, size), ids, scores, boxes in zip(batch, images, *outputs):
            yield sample, to_detections(ids, scores, boxes, export.size, size)


# ---- classifiers


def _compare_classifiers(
    pair: Tuple[_Contender, _Contender], options: CompareRunsOptions, given: Dict[str, Any]
) -> Comparison:
    from ..data.classification.datasets import VAL_FRACTION
    from ..metrics.comparison import compare_classifications

    for name in _DETECTORS_ONLY:
        if name in given:
            raise OptionError(f"--{name} is for detectors; {pair[0].path} is a classifier")
    if options.hold_out not in (0, VAL_FRACTION):
        raise OptionError(f"hold_out: the training of classifiers holds out {VAL_FRACTION:g} of the images")
    _check_classes(pair, None)
    values: Dict[str, Any] = {"hold_out": bool(options.hold_out), "batch_size": options.batch_size}
    values.update(dataset=options.dataset, data_root=options.data_root, ctx=options.ctx)
    evaluation = from_mapping(EvalClassOptions, values)
    data = [_classification_data(run.path, evaluation) for run in pair if run.kind == "run"]
    shared = _shared_data(data, pair) or {
        "dataset": evaluation.dataset or "folder",
        "data_root": evaluation.data_root,
        "role": "val" if evaluation.hold_out else "eval",
    }
    a, b = (_evaluate_classifier(run, evaluation, shared) for run in pair)
    return compare_classifications(a, b, dataset=a.dataset, name_a=pair[0].path, name_b=pair[1].path)


def _classification_data(run: str, options: EvalClassOptions) -> Dict[str, Any]:
    kind, root, role = data_of_classifier(run, options)
    return {"dataset": kind, "data_root": root or CLASSIFICATION_ROOTS[kind], "role": role}


def _evaluate_classifier(
    contender: _Contender, options: EvalClassOptions, data: Mapping[str, Any]
) -> ClassificationResult:
    if contender.kind == "run":
        return evaluate_classifier_run(contender.path, options)
    from ..data.classification.datasets import open_classification_dataset
    from ..export.load import load_export
    from ..metrics.classification import evaluate_scores
    from ..runtime import settings

    export = load_export(Path(contender.path), "classification", settings.pick_context(options.ctx))
    assert export
    dataset = open_classification_dataset(data["dataset"], data["data_root"], data["role"])
    dataset = with_classes_of(contender.path, dataset, contender.classes)
    part = export.sidecar["input"]["central_part"]
    return evaluate_scores(
        lambda images: export.engine(images)[0], dataset, export.size, part, options.batch_size
    )
