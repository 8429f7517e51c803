"""What can be said about a training run, each with its line of help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from ..data.classification.options import ClassAugmentOptions
from ..data.transform_options import AugmentOptions
from ..errors import OptionError
from ..options import from_mapping, names_list, option, unknown_name

T = TypeVar("T")

DATASETS = (
    "auto",
    "shapes",
    "voc",
    "coco",
    "yolo",
    "csv",
    "recordio",
)  # as data.registry.KINDS; a test compares
CLASS_DATASETS = ("shapes", "folder", "recordio", "cifar10")  # as data.labelled_sets.OPENERS; a test compares


def parse_size(text: str) -> Tuple[int, int]:
    """Parse ``300`` or ``480x320`` (width x height) into ``(width, height)``."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"a size is a number or WIDTHxHEIGHT, not {text!r}")
    return int(match[1]), int(match[2] or match[1])


@dataclass(frozen=True)
class LoopOptions:
    """Training."""

    epochs: int = option(60, "passes over the training images")
    batch_size: int = option(16, "images a step, over all workers")
    lr: float = option(0.01, "highest learning rate, for the batch size given")
    predictor_lr: float = option(
        1.0, "learning rate of the last layers, which say classes and boxes, as a multiple of --lr"
    )
    pretrained_lr: float = option(
        1.0, "learning rate of what --weights gave, as a multiple of --lr (and of --predictor-lr)"
    )
    optimizer: str = option(
        "sgd", "gradient descent with momentum, or AdamW, which wants a lower --lr", choices=("sgd", "adamw")
    )
    schedule: str = option("cosine", "how the learning rate falls", choices=("cosine", "step"))
    warmup: float = option(1.0, "epochs in which the learning rate rises from 0")
    momentum: float = option(0.9, "momentum of the gradient descent; AdamW's first beta")
    wd: float = option(5e-4, "weight decay; BatchNorm parameters and biases are not decayed")
    clip_gradient: float = option(0.0, "longest gradient, L2 norm over all weights; 0 for no limit")
    max_skipped_steps: int = option(
        10, "steps in a row that are left out because their loss is not finite; one more ends the run"
    )
    ema: float = option(
        0.0, "decay a step of a moving average of the weights, which is measured and kept as best; 0 for none"
    )
    recalibrate_batchnorm: bool = option(
        True, "with --weights: start from BatchNorm statistics of these images; the answers stay the same"
    )
    freeze: str = option(
        "", "regular expression: parameters whose name it finds stay as they are, statistics too"
    )
    seed: int = option(0, "of everything random")
    workers: int = option(-1, "threads that prepare images beside the computation; -1 for what suits here")
    val_interval: int = option(1, "epochs between validations; 0 for never")
    save_minutes: float = option(
        5.0, "minutes between checkpoints within an epoch, beside the one at its end; 0 for none"
    )
    keep_every: int = option(0, "epochs between checkpoints that are kept, as epoch-N.ckpt; 0 for none")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    kvstore: str = option(
        "local",
        "how gradients are summed: within this process, or over the workers that `mnssd launch` starts",
        choices=("local", "device", "dist_sync"),
    )
    gradient_compression: float = option(
        0.0, "with dist_sync, threshold of MXNet's 2-bit compression of the gradients sent; 0 for none"
    )
    fast_graph: bool = option(
        True, "train through the rewritten graph (same network, several times faster; needs AVX2)"
    )
    tensorboard: bool = option(False, "write RUN/tensorboard, too; needs the extra of that name")
    recipe: str = option(
        "", "named set of options, or a YAML file of them; other arguments go before it", metavar="NAME"
    )
    output: str = option("", "run folder (default: runs/NETWORK-DATASET, numbered)")
    resume: str = option(
        "", "run folder to go on with, or 'auto' for the one given by --output", metavar="RUN"
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        rates = ("lr", "predictor_lr", "pretrained_lr", "momentum", "wd", "clip_gradient", "warmup")
        for name in (
            *rates,
            "gradient_compression",
            "max_skipped_steps",
            "val_interval",
            "save_minutes",
            "keep_every",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must not be negative, nor infinite, not {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, such as 0.999, not {self.ema}")
        if self.workers < -1:
            raise ValueError(f"workers must be -1 or more, not {self.workers}")
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise ValueError(f"freeze: {self.freeze!r} is no regular expression ({error})") from error


@dataclass(frozen=True)
class DetectionOptions:
    """Data and network."""

    dataset: str = option(
        "shapes", "what to train on; auto, whatever it is, where --data-root alone is given", choices=DATASETS
    )
    data_root: Optional[str] = option(None, "where it lies (default: data/VOCdevkit, data/shapes)")
    train_splits: Optional[str] = option(None, "image lists to train on, as 2007_trainval+2012_trainval")
    val_splits: Optional[str] = option(None, "image lists to measure on, as 2007_test")
    hold_out: float = option(
        0.0, "share of the training images that is measured on instead of them, and not trained on"
    )
    classes: Optional[List[str]] = option(
        None, "names, separated by commas (default: all of them)", parse=names_list
    )
    download: bool = option(False, "fetch the dataset's official archives where they are missing")
    cache_images: Optional[str] = option(
        None, "keep decoded images in this folder and read them from there; for large files", metavar="DIR"
    )
    network: str = option("mobilenet_v2", "backbone", choices=("mobilenet_v1", "mobilenet_v2"))
    width: float = option(1.0, "width multiplier of the backbone")
    shortcut: str = option("identity", "shortcuts of mobilenet_v2", choices=("identity", "projection"))
    activation: str = option("relu", "activation of mobilenet_v1", choices=("relu", "relu6"))
    size: Tuple[int, int] = option(
        (300, 300), "network input: 300 or a multiple of 32, or WIDTHxHEIGHT", parse=parse_size
    )
    early_size: Optional[Tuple[int, int]] = option(
        None, "network input during the first --early-epochs: smaller is quicker", parse=parse_size
    )
    early_epochs: int = option(0, "of the --epochs, those with images of --early-size")
    head: str = option(
        "ssd", "plain or depthwise-separable heads and extra layers", choices=("ssd", "ssdlite")
    )
    weights: Optional[str] = option(
        None,
        "file to start from: .params, also of a detector, or .pth or .safetensors of torchvision or timm",
        metavar="FILE",
    )
    structure: Optional[str] = option(
        None, "run folder whose channel counts are taken, as `mnssd prune` leaves them", metavar="RUN"
    )
    match_iou: float = option(0.5, "overlap with an object from which an anchor is to find it")
    cls_loss: str = option(
        "ohem", "cross entropy with hard negatives, or focal loss of all", choices=("ohem", "focal")
    )
    box_loss: str = option(
        "smooth_l1", "of the offsets, or of the boxes' overlap", choices=("smooth_l1", "giou")
    )
    label_smoothing: float = option(0.0, "share of an object's label that is spread over all classes")
    metric: str = option("voc07", "average precision", choices=("voc07", "voc12"))
    overfit: int = option(
        0, "train and measure on the first N images, not augmented: a check that learning works"
    )

    def __post_init__(self) -> None:
        if self.overfit < 0:
            raise ValueError(f"overfit must not be negative, not {self.overfit}")
        if not 0 < self.match_iou <= 1:
            raise ValueError(f"match_iou is above 0 and at most 1, not {self.match_iou}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is at least 0 and below 1, not {self.label_smoothing}")
        if not 0 <= self.hold_out < 1:
            raise ValueError(f"hold_out is at least 0 and below 1, not {self.hold_out}")
        if self.early_epochs < 0 or (self.early_size is None) != (self.early_epochs == 0):
            raise ValueError("early_size and early_epochs go together, such as 192 and 30")
        if self.hold_out and self.overfit:
            raise ValueError("overfit measures on the images it trains on; leave out hold_out")


@dataclass(frozen=True)
class ClassificationOptions:
    """Data and network."""

    dataset: str = option("shapes", "what to train on", choices=CLASS_DATASETS)
    data_root: Optional[str] = option(
        None, "where it lies (default: data/shapes, data/images, data/recordio, data/cifar10)", metavar="DIR"
    )
    download: bool = option(False, "fetch the official archive of cifar10 where it is missing")
    network: str = option("mobilenet_v2", "network", choices=("mobilenet_v1", "mobilenet_v2"))
    width: float = option(1.0, "width multiplier")
    size: Tuple[int, int] = option(
        (224, 224), "network input; the papers' resolutions are 224, 192, 160, 128 and 96", parse=parse_size
    )
    shortcut: str = option("identity", "shortcuts of mobilenet_v2", choices=("identity", "projection"))
    activation: str = option("relu", "activation of mobilenet_v1", choices=("relu", "relu6"))
    weights: Optional[str] = option(
        None,
        "file to start from: .params, or .pth or .safetensors of torchvision or timm",
        metavar="FILE",
    )
    structure: Optional[str] = option(
        None, "run folder whose channel counts are taken, as `mnssd prune` leaves them", metavar="RUN"
    )
    class_weights: bool = option(False, "let classes with few images count more")
    linear_probe: bool = option(
        True,
        "with --weights of other classes: fit the last layer to the training images before anything else",
    )

    def __post_init__(self) -> None:
        if min(self.size) < 32:
            raise ValueError(f"size is at least 32, not {self.size[0]}x{self.size[1]}")


DETECTION_KINDS = (DetectionOptions, AugmentOptions, LoopOptions)
CLASSIFICATION_KINDS = (ClassificationOptions, ClassAugmentOptions, LoopOptions)

# Where a dataset wants other defaults than the rest: `python train_ssd.py` alone trains in minutes.
DATASET_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # From nothing in minutes: how each was found stands in benchmarks/SHAPES.md.
    "shapes": {
        "size": (128, 128),
        "width": 0.5,
        "epochs": 40,
        "lr": 0.4,
        "predictor_lr": 0.015,
        "warmup": 2.0,
        "val_interval": 10,
        "color_probability": 0.7,
        "hue": 90.0,
        "expand_probability": 0.3,
        "expand_ratio": 1.4,
        "crop_overlaps": (),
        "crop_scale": 0.6,
        "crop_aspect": 1.33,
        "crop_trials": 10,
    },
    **{kind: {"epochs": 60, "val_interval": 5} for kind in DATASETS if kind != "shapes"},
}

# People's own images, from ImageNet weights or from nothing (benchmarks/CLASSIFICATION.md).
PHOTOGRAPHS: Mapping[str, Any] = {
    "epochs": 20,
    "batch_size": 32,
    "predictor_lr": 0.1,
    "pretrained_lr": 0.1,
    "val_interval": 2,
    "label_smoothing": 0.1,
    "operations": 2,
}

# The same for classification. `shapes`: one run, one seed, reached top-1 .978 in three minutes on two
# cores; cifar10 has not been tuned.
CLASS_DATASET_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "shapes": {
        "size": (64, 64),
        "width": 0.35,
        "batch_size": 64,
        "epochs": 12,
        "lr": 0.2,
        "predictor_lr": 0.03,
        "warmup": 1.0,
        "operations": 1,
        "crop_area": 0.6,
    },
    "folder": PHOTOGRAPHS,
    "recordio": PHOTOGRAPHS,
    "cifar10": {"size": (64, 64), "epochs": 40, "batch_size": 64, "lr": 0.1, "predictor_lr": 0.1},
}


@dataclass(frozen=True)
class DetectionTraining:
    """All options of one detection training run."""

    data: DetectionOptions
    augment: AugmentOptions
    loop: LoopOptions


@dataclass(frozen=True)
class ClassificationTraining:
    """All options of one classification training run."""

    data: ClassificationOptions
    augment: ClassAugmentOptions
    loop: LoopOptions


def resolve_detection(given: Mapping[str, Any], source: str) -> DetectionTraining:
    """Detection options: the given values, then the dataset's defaults, then the general defaults.

    Parameters
    ----------
    given : mapping
        Option values by name.
    source : str
        Where the values come from, for error messages.

    Raises
    ------
    OptionError
        For an unknown name or an invalid value.
    """
    dataset = given.get("dataset", "auto" if given.get("data_root") else DetectionOptions.dataset)
    values: Dict[str, Any] = {**DATASET_DEFAULTS.get(dataset, {}), "dataset": dataset, **given}
    _refuse_unknown(values, DETECTION_KINDS, source)
    data = _of(DetectionOptions, values, source)
    if data.dataset not in DATASETS:
        raise OptionError(f"{source}: dataset is one of {', '.join(DATASETS)}, not {dataset!r}")
    return DetectionTraining(data, _of(AugmentOptions, values, source), _of(LoopOptions, values, source))


def resolve_classification(given: Mapping[str, Any], source: str) -> ClassificationTraining:
    """Classification options, resolved like those of `resolve_detection`."""
    dataset = given.get("dataset", ClassificationOptions.dataset)
    values: Dict[str, Any] = {**CLASS_DATASET_DEFAULTS.get(dataset, {}), **given}
    _refuse_unknown(values, CLASSIFICATION_KINDS, source)
    data = _of(ClassificationOptions, values, source)
    if data.dataset not in CLASS_DATASETS:
        raise OptionError(f"{source}: dataset is one of {', '.join(CLASS_DATASETS)}, not {dataset!r}")
    return ClassificationTraining(
        data, _of(ClassAugmentOptions, values, source), _of(LoopOptions, values, source)
    )


def _refuse_unknown(values: Mapping[str, Any], kinds: Sequence[Type[Any]], source: str) -> None:
    known = [name for kind in kinds for name in kind.__dataclass_fields__]
    for key in values:
        if key not in known:
            raise OptionError(f"{source}: {unknown_name('option', key, known)}")


def _of(kind: Type[T], values: Mapping[str, Any], source: str) -> T:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return from_mapping(kind, {key: value for key, value in values.items() if key in fields}, source)
