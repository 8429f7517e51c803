"""Options of training runs, and their defaults by dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Type, TypeVar, Union

from .. import options as o
from ..data.classification import CLASSIFICATION_ROOTS
from ..data.formats import dataset_names
from ..data.transform_options import AugmentOptions, ClassAugmentOptions
from ..metrics import VOC_METRICS
from ..nn.backbones import backbones
from ..nn.choices import HEADS, BackboneOptions, ClassifierOptions
from ..options import Size, option, require

T = TypeVar("T", bound="_Training")

_START = (
    "initial weights: imagenet, none, a name listed by `mnssd weights`, a run folder, or a file of weights"
)
_WEIGHTS = o.ValueType(lambda text: None if text == "none" else text)
_FROM_DATA = "chosen from the data"

DEFAULT_ANCHORS, AUTO_ANCHORS = "default", "auto"
"""Values of `DetectionOptions.anchors` that are not files."""

_STRUCTURE = "run folder whose channel counts are used, such as one written by `mnssd prune`"


@dataclass(frozen=True)
class LoopOptions:
    """Training."""

    epochs: int = option(60, "passes over the training images", shown=_FROM_DATA)
    minutes: float = option(
        0.0, "minutes to train for, with validations and report, in place of --epochs; 0 for none"
    )
    patience: int = option(
        0, "epochs without a better validation score after which the learning rate decays and the run ends; "
        "0 for none"
    )  # fmt: skip
    batch_size: int = option(16, "images per step, over all processes", shown=_FROM_DATA)
    lr: float = option(0.01, "peak learning rate for the given batch size", shown=_FROM_DATA)
    predictor_lr: float = option(1.0, "factor of --lr for the layers that predict classes and boxes")
    pretrained_lr: float = option(
        1.0, "factor of --lr (and of --predictor-lr) for weights from --weights", shown=_FROM_DATA
    )
    optimizer: str = option(
        "sgd", "optimizer; adamw needs a lower --lr", choices=("sgd", "adamw"), shown=_FROM_DATA
    )
    schedule: str = option("cosine", "learning rate decay; step is 1/10, twice", choices=("cosine", "step"))
    warmup: float = option(1.0, "epochs of linear warm-up of the learning rate")
    momentum: float = option(0.9, "momentum of SGD; beta1 of AdamW")
    wd: float = option(
        5e-4, "weight decay; BatchNorm parameters and biases are not decayed", shown=_FROM_DATA
    )
    clip_gradient: float = option(0.0, "maximum L2 norm of the gradient of all parameters; 0 for no limit")
    max_skipped_steps: int = option(10, "most consecutive steps skipped because their loss is not finite")
    ema: float = option(0.0, "decay per step of a moving average of the weights, which is saved; 0 for none")
    recalibrate_batchnorm: bool = option(
        True, "with --weights: re-estimate BatchNorm statistics on the training images; outputs do not change"
    )
    freeze: str = option("", "freeze parameters whose names match this regex, including BatchNorm statistics")
    balanced: bool = option(False, "use training images with rare classes more often")
    seed: int = option(0, "random seed")
    workers: int = option(-1, "threads that load images; -1 chooses for this machine")
    val_interval: int = option(1, "epochs between validations; 0 for none", shown=_FROM_DATA)
    save_minutes: float = option(5.0, "minutes between checkpoints within an epoch; 0 for none")
    keep_every: int = option(0, "epochs between checkpoints that are kept as epoch-N.ckpt; 0 for none")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    kvstore: str = option(
        "local", "where gradients are summed; dist_sync: over the processes of `mnssd launch`",
        choices=("local", "device", "dist_sync"),
    )  # fmt: skip
    gradient_compression: float = option(0.0, "with dist_sync: 2-bit compression threshold; 0 for none")
    fast_graph: bool = option(True, "train on an equivalent graph that is several times faster; needs AVX2")
    tensorboard: bool = option(False, "also log to RUN/tensorboard; needs the extra `tensorboard`")
    recipe: str = option("", "recipe or YAML file of options; other options override it", metavar="NAME")
    output: str = option("", "run folder", metavar="RUN", shown="runs/NETWORK-DATASET, numbered if taken")
    resume: str = option("", "run folder to resume, or 'auto' for the one of --output", metavar="RUN")

    def __post_init__(self) -> None:
        require(self, "at least 1", lambda value: value >= 1, "epochs", "batch_size")
        require(
            self, "a finite number of at least 0", lambda value: 0 <= value < float("inf"),
            "lr", "predictor_lr", "pretrained_lr", "momentum", "wd", "clip_gradient", "warmup",
            "gradient_compression", "max_skipped_steps", "val_interval", "save_minutes", "keep_every",
            "minutes", "patience",
        )  # fmt: skip
        require(self, "at least 0 and below 1, such as 0.999", lambda value: 0 <= value < 1, "ema")
        require(self, "at least -1", lambda value: value >= -1, "workers")
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise ValueError(f"freeze: {self.freeze!r} is not a regular expression ({error})") from error


@dataclass(frozen=True)
class _DetectionData:
    """First fields of `DetectionOptions`."""

    dataset: str = option(
        "shapes", "dataset format, or gluoncv:MODULE:NAME; auto recognizes it", choices=dataset_names,
        shown="shapes, or auto with --data-root",
    )  # fmt: skip
    data_root: Optional[str] = option(
        None, "folder of the dataset", metavar="DIR", shown="that of the format, such as data/shapes"
    )
    train_splits: Optional[str] = option(
        None, "image lists to train on", metavar="LIST+LIST", shown="train; voc 2007_trainval+2012_trainval"
    )
    val_splits: Optional[str] = option(
        None, "image lists to validate on", metavar="LIST+LIST",
        shown="val, else test, else a tenth of the training list; voc 2007_test",
    )  # fmt: skip
    hold_out: float = option(0.0, "fraction of the training images that is validated on, not trained on")
    unlabelled: Optional[str] = option(
        None, "detections in images without labels, written by mnssd detect --json: also train on these "
        "images, with the sure detections as labels", metavar="FILE",
    )  # fmt: skip
    classes: Optional[List[str]] = option(
        None, "class names, separated by commas", type=o.NAMES, metavar="NAME,...", shown="all of the dataset"
    )
    download: bool = option(False, "download the official archives of the dataset if they are missing")
    cache_images: Optional[str] = option(
        None, "cache decoded images in this folder; helps with large image files", metavar="DIR"
    )
    network: str = option("mobilenet_v2", "backbone", choices=backbones.names)
    width: float = option(1.0, "width multiplier of the backbone")


@dataclass(frozen=True)
class DetectionOptions(BackboneOptions, _DetectionData):
    """Data and network."""

    size: Size = option(
        (300, 300), "network input: 300, a multiple of 32, or WIDTHxHEIGHT", type=o.SIZE,
        shown="300x300; larger for tiny objects",
    )  # fmt: skip
    early_size: Optional[Size] = option(
        None, "smaller network input for the first --early-epochs, which train faster", type=o.SIZE
    )
    early_epochs: int = option(0, "epochs at --early-size")
    head: str = option(
        "ssd", "heads and extra layers: plain, depthwise separable, factorized into 3x1 and 1x3, or "
        "separable behind a feature pyramid", choices=HEADS,
    )  # fmt: skip
    anchors: str = option(
        DEFAULT_ANCHORS, "anchor shapes: those of the head, auto for clusters of the training boxes, "
        "or a YAML file", metavar="{default,auto}|FILE",
    )  # fmt: skip
    weights: Optional[str] = option(None, _START, type=_WEIGHTS, metavar="WEIGHTS")
    structure: Optional[str] = option(None, _STRUCTURE, metavar="RUN")
    match_iou: float = option(0.5, "IoU threshold for a positive anchor", shown=_FROM_DATA)
    cls_loss: str = option(
        "ohem", "cross entropy with hard negative mining, or focal loss", choices=("ohem", "focal")
    )
    box_loss: str = option(
        "smooth_l1", "smooth L1 of the offsets, or GIoU of the boxes", choices=("smooth_l1", "giou")
    )
    label_smoothing: float = option(0.0, "label smoothing of object classes")
    metric: str = option(
        "voc07", "average precision from 11 points, or from the whole curve", choices=VOC_METRICS
    )
    pipeline: str = option(
        "mnssd", "samples, targets and loss of mnssd, or GluonCV's own", choices=("mnssd", "gluoncv")
    )
    overfit: int = option(0, "train and validate on the first N images, without augmentation; 0 for all")

    def __post_init__(self) -> None:
        require(self, "at least 0", lambda value: value >= 0, "overfit", "early_epochs")
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "match_iou")
        require(self, "at least 0 and below 1", lambda value: 0 <= value < 1, "label_smoothing", "hold_out")
        if (self.early_size is None) != (self.early_epochs == 0):
            raise ValueError("early_size and early_epochs need each other, such as 192 and 30")
        if self.unlabelled and self.overfit:
            raise ValueError("unlabelled and overfit exclude each other; omit one of them")
        if self.hold_out and self.overfit:
            raise ValueError("hold_out and overfit exclude each other; omit one of them")

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""
        from ..data.open import default_root

        return Path(self.data_root or default_root(self.dataset))

    def validation_lists(self) -> Tuple[str, float]:
        """Lists that the run is validated on, and the fraction of them that is held out.

        The fraction is 0 if the lists are used whole; otherwise they are the training lists.
        """
        from ..data.open import default_splits

        role, splits = ("train", self.train_splits) if self.hold_out else ("val", self.val_splits)
        return splits or default_splits(self.dataset, role, self.data_root), self.hold_out


@dataclass(frozen=True)
class _ClassificationData:
    """First fields of `ClassificationOptions`."""

    dataset: str = option("shapes", "dataset format", choices=tuple(CLASSIFICATION_ROOTS))
    data_root: Optional[str] = option(
        None, "folder of the dataset", metavar="DIR", shown=", ".join(CLASSIFICATION_ROOTS.values())
    )
    download: bool = option(False, "download the official archive of cifar10 if it is missing")
    network: str = option("mobilenet_v2", "network", choices=backbones.names)
    width: float = option(1.0, "width multiplier of the network")
    size: Size = option((224, 224), "network input; usual are 224, 192, 160, 128 and 96", type=o.SIZE)


@dataclass(frozen=True)
class ClassificationOptions(ClassifierOptions, _ClassificationData):
    """Data and network."""

    weights: Optional[str] = option(None, _START, type=_WEIGHTS, metavar="WEIGHTS")
    structure: Optional[str] = option(None, _STRUCTURE, metavar="RUN")
    class_weights: bool = option(False, "give more weight to classes with few images")
    linear_probe: bool = option(True, "with --weights of other classes: fit the last layer first")

    def __post_init__(self) -> None:
        require(self, "at least 32 pixels", lambda value: min(value) >= 32, "size")

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""
        return Path(self.data_root or CLASSIFICATION_ROOTS[self.dataset])


class _Training:
    """All options of a training run, in groups; the fields of a subclass are the groups."""

    task: ClassVar[str]
    groups: ClassVar[Tuple[Type[Any], ...]]
    defaults: ClassVar[o.Overrides]

    @classmethod
    def convert(cls, given: Mapping[str, Any], source: str = "options") -> Dict[str, Any]:
        """Check names and convert values; see `mnssd.options.convert_values`."""
        return o.convert_values(given, cls.groups, source)

    @classmethod
    def resolve(cls: Type[T], given: Mapping[str, Any], source: str = "options") -> T:
        """Resolve options: given values, then defaults of the dataset, then general defaults.

        For other datasets, `train.automatic` replaces some of the general defaults.

        Parameters
        ----------
        given : mapping
            Values by name, from the command line, a recipe, a run's configuration or Python.
        source : str
            Where the values come from, for error messages.

        Raises
        ------
        OptionError
            For an unknown name (near names are listed) or an invalid value.
        """
        values = cls.convert(given, source)
        dataset = values.get("dataset") or cls._default_dataset(values)
        values = {**cls.defaults.get("", {}), **cls.defaults.get(dataset, {}), "dataset": dataset, **values}
        groups = []
        for group in cls.groups:
            part = {name: values[name] for name in group.__dataclass_fields__ if name in values}
            groups.append(o.from_mapping(group, part, source))
        return cls(*groups)

    @classmethod
    def _default_dataset(cls, given: Mapping[str, Any]) -> str:
        return "shapes"

    def values(self) -> Dict[str, Any]:
        """All values by name."""
        return {name: value for group in vars(self).values() for name, value in vars(group).items()}

    def format(self, name: str) -> str:
        """The value of an option as it is written on the command line."""
        return o.format_value(next(group for group in vars(self).values() if hasattr(group, name)), name)

    def replace(self: T, **changes: Any) -> T:
        """A copy with some values changed, which are checked as by `resolve`."""
        return self.resolve({**self.values(), **changes})


@dataclass(frozen=True)
class DetectionTraining(_Training):
    """All options of a detection training run."""

    data: DetectionOptions
    augment: AugmentOptions
    loop: LoopOptions

    task = "detection"
    groups = (DetectionOptions, AugmentOptions, LoopOptions)
    defaults: ClassVar[o.Overrides] = {
        "": {"val_interval": 5, "weights": "imagenet"},
        # Trains in minutes without pretrained weights: benchmarks/SHAPES.md.
        "shapes": {
            "weights": None, "size": (128, 128), "width": 0.5, "epochs": 40, "batch_size": 16,
            "optimizer": "sgd", "lr": 0.4, "pretrained_lr": 1.0, "predictor_lr": 0.015, "wd": 5e-4,
            "match_iou": 0.5, "warmup": 2.0, "val_interval": 10, "color_probability": 0.7, "hue": 90.0,
            "expand_probability": 0.3, "expand_ratio": 1.4, "crop_overlaps": (), "crop_scale": 0.6,
            "crop_aspect": 1.33, "crop_trials": 10,
        },
    }  # fmt: skip

    @classmethod
    def _default_dataset(cls, given: Mapping[str, Any]) -> str:
        return "auto" if given.get("data_root") else "shapes"


@dataclass(frozen=True)
class ClassificationTraining(_Training):
    """All options of a classification training run."""

    data: ClassificationOptions
    augment: ClassAugmentOptions
    loop: LoopOptions

    task = "classification"
    groups = (ClassificationOptions, ClassAugmentOptions, LoopOptions)
    defaults: ClassVar[o.Overrides] = {
        # For the user's own images, with or without ImageNet weights: benchmarks/CLASSIFICATION.md.
        "": {
            "epochs": 20, "batch_size": 32, "predictor_lr": 0.1, "pretrained_lr": 0.1, "val_interval": 2,
            "label_smoothing": 0.1, "operations": 2, "weights": "imagenet",
        },
        # Top-1 .978 in three minutes on two cores (one run, one seed).
        "shapes": {
            "weights": None, "size": (64, 64), "width": 0.35, "batch_size": 64, "epochs": 12,
            "optimizer": "sgd", "lr": 0.2, "predictor_lr": 0.03, "pretrained_lr": 1.0, "wd": 5e-4,
            "val_interval": 1, "label_smoothing": 0.0, "operations": 1, "crop_area": 0.6,
        },
        # Not tuned.
        "cifar10": {
            "weights": None, "size": (64, 64), "epochs": 40, "batch_size": 64, "optimizer": "sgd", "lr": 0.1,
            "pretrained_lr": 1.0, "wd": 5e-4,
            "val_interval": 1, "label_smoothing": 0.0, "operations": 1,
        },
    }  # fmt: skip


Training = Union[DetectionTraining, ClassificationTraining]

TRAININGS: Dict[str, Type[Any]] = {kind.task: kind for kind in (DetectionTraining, ClassificationTraining)}
"""Options of a run by its task."""
