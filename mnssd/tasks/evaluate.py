"""Evaluation of trained detectors and classifiers, and of detection files, on a dataset."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ..data.classification import CLASSIFICATION_ROOTS
from ..data.formats import dataset_names
from ..data.open import default_splits, open_dataset
from ..data.tiles import NONE, parse_tiles
from ..errors import DataError, MnssdError, OptionError
from ..files import encodable
from ..metrics import METRICS
from ..options import NAMES, ValueType, listed, option, require, unknown_name
from ..train.options import DetectionOptions

if TYPE_CHECKING:
    from ..data.classification.labeled_image import ClassificationDataset
    from ..data.dataset import Dataset
    from ..metrics.classification import ClassificationResult
    from ..metrics.coco import COCOMetric, COCOResult
    from ..metrics.voc import VOCResult


@dataclass(frozen=True)
class EvalOptions:
    """Evaluation."""

    dataset: str = option(
        "voc", "dataset to evaluate on; defaults to the run's own dataset if a run is given",
        choices=dataset_names,
    )  # fmt: skip
    data_root: Optional[str] = option(
        None, "folder of the dataset (default: data/VOCdevkit, data/shapes)", metavar="DIR"
    )
    splits: Optional[str] = option(None, "image lists (default: 2007_test for voc, val for shapes)")
    hold_out: float = option(0.0, "evaluate on the share of the lists that training held out with --hold-out")
    download: bool = option(False, "download the official archives of the dataset if they are missing")
    metric: str = option(
        "voc07",
        "average precision from 11 points (voc07) or the whole curve (voc12); coco adds COCO's metrics",
        choices=METRICS,
    )
    iou: float = option(0.5, "IoU at which a detection matches an object")
    tiles: str = option(
        NONE, "also detect in ROWSxCOLUMNS tiles of each image, in which small objects are larger; or auto",
        type=ValueType(parse_tiles), metavar="GRID",
    )  # fmt: skip
    flip: bool = option(False, "average the predictions for each image and its mirror image; twice the time")
    batch_size: int = option(16, "images per batch; does not change the result")
    workers: int = option(-1, "threads that read images; -1 chooses for this machine")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "also write the result to this file", metavar="FILE")
    save_detections: Optional[str] = option(
        None, "write the devkit's detection files into this folder", metavar="DIR"
    )
    detections: Optional[str] = option(
        None, "evaluate the detection files in this folder instead of a network", metavar="DIR"
    )
    classes: Optional[List[str]] = option(
        None, "class names, separated by commas (default: all of the detector or dataset)", type=NAMES
    )

    def __post_init__(self) -> None:
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "iou")
        require(self, "at least 0 and below 1", lambda value: 0 <= value < 1, "hold_out")
        require(self, "at least 1", lambda value: value >= 1, "batch_size")
        require(self, "at least -1", lambda value: value >= -1, "workers")

    @property
    def split_names(self) -> str:
        """The image lists that are evaluated on."""
        return self.splits or default_splits(self.dataset, "eval", self.data_root)


@dataclass(frozen=True)
class EvalClassOptions:
    """Evaluation."""

    dataset: Optional[str] = option(
        None, "dataset to evaluate on (default: the run's own dataset)", choices=tuple(CLASSIFICATION_ROOTS)
    )
    data_root: Optional[str] = option(
        None, "folder of the dataset, all of which is evaluated on if it has no folder val", metavar="DIR"
    )
    hold_out: bool = option(
        False, "with --data-root: of a folder without val, only the images that training holds out"
    )
    batch_size: int = option(32, "images per batch; does not change the result")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(
        None, "also write the result, with the confusion matrix, to this file", metavar="FILE"
    )

    def __post_init__(self) -> None:
        require(self, "at least 1", lambda value: value >= 1, "batch_size")


@dataclass(frozen=True)
class DetectionEvaluation:
    """Average precision as the Pascal VOC devkit computes it, and COCO's metrics if they were asked for."""

    dataset: Dataset
    voc: VOCResult
    coco: Optional[COCOResult] = None

    @property
    def mean_ap(self) -> float:
        """Mean average precision, 0 to 1."""
        return self.voc.mean_ap

    def __str__(self) -> str:
        """The tables that `mnssd eval` prints."""
        from ..metrics.table import format_coco, format_sizes, format_voc

        tables = [
            format_voc(self.voc),
            format_sizes(self.voc),
            *([format_coco(self.coco)] if self.coco else []),
        ]
        return "\n\n".join(tables)

    def as_dict(self) -> Dict[str, Any]:
        """The result as plain values, for JSON."""
        coco = {"coco": self.coco.as_dict()} if self.coco else {}
        return {**self.voc.as_dict(), "notes": self.dataset.notes, **coco}


def options_of_run(run: str, values: Mapping[str, Any]) -> Dict[str, Any]:
    """Complete the values of `EvalOptions` so that a run is evaluated on the dataset it was validated on.

    `values`, which the user chose, have precedence: of another folder, all images are used unless they tell
    otherwise. `run` is a run folder, or a parameter file in one.
    """
    from ..train.run_folder import RunFolder

    try:
        stored = RunFolder.containing(run).read_config().options.data
    except MnssdError:  # not a run folder: loading the detector reports it
        return dict(values)
    if not isinstance(stored, DetectionOptions) or values.get("dataset", stored.dataset) != stored.dataset:
        return dict(values)
    own: Dict[str, Any] = {"dataset": stored.dataset, "data_root": stored.data_root}
    if "splits" in values:
        return {**own, **values}
    root = values.get("data_root")
    if root is not None:
        stored = replace(stored, data_root=root, hold_out=values.get("hold_out", 0.0))
    own["splits"], own["hold_out"] = stored.validation_lists()
    if root is not None and not stored.hold_out:
        own["splits"] = stored.val_splits or default_splits(stored.dataset, "eval", root)
    return {**own, **values}


def evaluate_detector(run: str, options: EvalOptions) -> DetectionEvaluation:
    """Evaluate a trained detector, given as its run folder or a parameter file in one.

    Prints to stderr what was skipped or clipped, and warnings.

    Raises
    ------
    WeightsError
        If the run or its weights cannot be read.
    DataError
        If the dataset cannot be read, or holds no object of the detector's classes.
    """
    from tqdm import tqdm

    from .. import zoo
    from ..inference.predict import evaluate
    from ..metrics.detection_files import DetectionWriter
    from ..runtime import settings

    ctx = settings.pick_context(options.ctx)
    net = zoo.load_detector(run, ctx)
    net.set_test_flip(options.flip)
    dataset = open_for_evaluation(options, list(net.classes), allow_absent=True)
    _note_training_images(run, dataset)
    net.hybridize()
    workers = options.workers if options.workers >= 0 else settings.image_workers()
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(dataset), unit="image", disable=None, leave=False))
        coco = _coco_metric(options, dataset)
        writer = None
        if options.save_detections:
            writer = stack.enter_context(
                DetectionWriter(options.save_detections, options.split_names, dataset.classes)
            )

        def watch(sample: Any, detections: Any) -> None:
            bar.update()
            if coco:
                coco.add(detections, sample)
            if writer:
                writer.add(sample.image_id, detections)

        voc = evaluate(
            net, dataset, _voc_metric(options), options.iou, options.batch_size, workers, ctx, watch=watch,
            tiles=options.tiles,
        )  # fmt: skip
    if not any(voc.detections.values()):
        _print_note(f"warning: {run} detected nothing in {voc.images} images; are its weights trained?")
    return DetectionEvaluation(dataset, voc, coco.result() if coco else None)


def evaluate_detection_files(options: EvalOptions, allow_absent: bool = False) -> DetectionEvaluation:
    """Evaluate the detection files in the folder ``options.detections``, as `evaluate_detector`.

    `allow_absent` accepts classes that no annotation has.
    """
    from ..metrics.detection_files import read_detections
    from ..metrics.voc import VOCMetric

    if not options.detections:
        raise OptionError("detections: missing; name a folder of detection files")
    dataset = open_for_evaluation(options, options.classes, allow_absent)
    image_ids = {sample.image_id for sample in dataset}
    table = read_detections(options.detections, options.split_names, dataset.classes, image_ids)
    for line in table.notes:
        _print_note(f"note: {line}")
    metric = VOCMetric(dataset.classes, _voc_metric(options), options.iou)
    for sample in dataset:
        metric.add_ground_truth(sample)
    metric.add_detections(table.image_ids, table.detections)
    coco = _coco_metric(options, dataset)
    if coco:
        rows: Dict[str, List[int]] = {}
        for row, image_id in enumerate(table.image_ids):
            rows.setdefault(image_id, []).append(row)
        for sample in dataset:
            coco.add(table.detections.take(rows.get(sample.image_id, [])), sample)
    return DetectionEvaluation(dataset, metric.result(), coco.result() if coco else None)


def evaluate_classifier_run(run: str, options: EvalClassOptions) -> ClassificationResult:
    """Evaluate a trained classifier, given as for `evaluate_detector`.

    The dataset is that of the run, of which its validation images are used, or the one in the options, which
    is used whole if it is not divided. Classes are matched by name.

    Raises
    ------
    WeightsError
        If the run or its weights cannot be read.
    DataError
        If the dataset cannot be read, or has no image of the classifier's classes.
    """
    from tqdm import tqdm

    from .. import zoo
    from ..data.classification.datasets import open_classification_dataset
    from ..metrics.classification import evaluate_classifier
    from ..runtime import settings

    ctx = settings.pick_context(options.ctx)
    net, spec = zoo.load_classifier(run, ctx)
    dataset = with_classes_of(
        run, open_classification_dataset(*data_of_classifier(run, options)), spec.classes
    )
    _note_training_images(run, dataset)
    with tqdm(total=len(dataset), unit="image", disable=None, leave=False) as bar:
        return evaluate_classifier(
            net, dataset, spec.size, spec.val_crop, options.batch_size, ctx=ctx, watch=lambda *_: bar.update()
        )


def data_of_classifier(run: str, options: EvalClassOptions) -> Tuple[str, Optional[str], str]:
    """Name, folder and role, for `open_classification_dataset`, of the images a run is evaluated on."""
    from ..train.run_folder import RunFolder

    stored = RunFolder.containing(run).read_config().options.data
    kind = options.dataset or stored.dataset
    is_own = options.data_root is None and kind == stored.dataset
    root = stored.data_root if is_own else options.data_root
    return kind, root, "val" if is_own or options.hold_out else "eval"


def with_classes_of(
    run: str, dataset: ClassificationDataset, classes: Tuple[str, ...]
) -> ClassificationDataset:
    """The images of a run's `classes`, matched by name; prints which classes one of them lacks."""
    counts = {name: count for name, count in zip(dataset.classes, dataset.counts()) if count}
    others = [f"{name} {count}" for name, count in counts.items() if name not in classes]
    missing = [name for name in classes if name not in counts]
    if len(missing) == len(classes):
        raise DataError(
            f"{dataset.name} has the classes {listed(counts)}, but {run} was trained on {listed(classes)}"
        )
    notes = [*dataset.notes]
    if others:
        notes.append(f"images of classes that {run} does not have, not used: {listed(others)}")
    if missing:
        notes.append(f"classes without images in {dataset.name}: {listed(missing)}")
    for line in notes:
        _print_note(f"note: {line}")
    return dataset.with_classes(classes)


def _note_training_images(run: str, dataset: Union[Dataset, ClassificationDataset]) -> None:
    """Print how many of the images the run was trained on."""
    from ..train.run_folder import RunFolder
    from ..train.run_start import RunStart

    with contextlib.suppress(MnssdError):  # of a damaged file, which resuming reports
        count = RunStart.read(RunFolder.containing(run)).count_training_images(dataset)
        if count:
            _print_note(
                f"note: {run} was trained on {count} of these {len(dataset)} images; without --data-root and "
                "--splits, its validation images are used"
            )


def _voc_metric(options: EvalOptions) -> str:
    return "voc12" if options.metric == "coco" else options.metric


def _coco_metric(options: EvalOptions, dataset: Dataset) -> Optional[COCOMetric]:
    if options.metric != "coco":
        return None
    from ..metrics.coco import COCOMetric

    return COCOMetric(dataset.classes)


def open_for_evaluation(
    options: EvalOptions, classes: Optional[List[str]], allow_absent: bool = False
) -> Dataset:
    """The dataset to evaluate on, with its notes printed; raises DataError if it has no object to find.

    With `allow_absent`, classes without objects may have another name there, see `weights.class_names`.
    """
    dataset = _open(options, classes, allow_absent)
    if classes and allow_absent:
        dataset = _with_other_names(options, dataset)
    if options.classes and options.classes != classes:
        dataset = _only(dataset, options.classes)
    if options.hold_out:
        dataset = dataset.hold_out(options.hold_out)[1]
    for line in dataset.notes:
        _print_note(f"note: {line}")
    if not any((~sample.difficult).any() for sample in dataset):
        raise DataError(
            f"{dataset.name} has no object of {listed(dataset.classes)}, so there is nothing to evaluate; "
            "check --dataset, --data-root and --splits"
        )
    return dataset


def _open(options: EvalOptions, classes: Optional[Sequence[str]], allow_absent: bool) -> Dataset:
    return open_dataset(
        options.dataset, options.data_root, options.splits, classes and list(classes), "eval",
        download=options.download, allow_absent=allow_absent, progress=True,
    )  # fmt: skip


def _with_other_names(options: EvalOptions, dataset: Dataset) -> Dataset:
    """The dataset with the objects of classes that have another name in it, under the name of their class."""
    from ..weights.class_names import OTHER_NAMES

    own, present = dataset.classes, _present(dataset)
    others = {n: OTHER_NAMES[n] for n in own if n not in present and OTHER_NAMES.get(n, own[0]) not in own}
    if not others:
        return dataset
    renamed = _open(options, [others.get(name, name) for name in own], True)
    found = {name: other for name, other in others.items() if other in _present(renamed)}
    if not found:
        return dataset
    names = listed(f"{name} = {other}" for name, other in found.items())
    return replace(renamed, classes=own, notes=[*renamed.notes, f"Other names in the dataset: {names}"])


def _only(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The dataset without the objects of other classes. `names` may be the other names of classes."""
    from ..weights.class_names import name_among

    chosen = []
    for name in names:
        own = name_among(name, dataset.classes)
        if own is None:
            raise OptionError(f"--classes: {unknown_name('class', name, dataset.classes)}")
        chosen.append(own)
    return dataset.with_classes(tuple(chosen)).with_classes(dataset.classes)


def _present(dataset: Dataset) -> Set[str]:
    """Names of the classes that a dataset has objects of."""
    return {dataset.classes[label] for sample in dataset for label in set(sample.labels.tolist())}


def _print_note(line: str) -> None:
    print(encodable(line), file=sys.stderr)
