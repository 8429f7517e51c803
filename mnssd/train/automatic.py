"""Training options chosen from the data: the rules, and the measurement behind each.

They apply to the options that neither the command line nor a recipe sets; see `tasks.run.resolve`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..nn.head_layouts import LAYOUTS
from .options import AUTO_ANCHORS, DEFAULT_ANCHORS, ClassificationTraining, DetectionTraining, Training

if TYPE_CHECKING:
    from ..data.dataset import Dataset

SMALL_SIDE = 32.0
"""Side in pixels of the network input below which an object is small: two cells of the finest feature map."""

TINY_SIDE = 24.0
"""Side in pixels of the network input below which the typical object of a class needs a larger input.

Platelets in BCCD have 21 pixels: .857 at 512x384 against .828 and .839 at 300x300 (ABLATIONS.md, "BCCD"). The
smallest class of VOC's six has 52."""

FEWEST_OBJECTS = 20
"""Objects of a class in the training set from which it counts for the input size. Not measured."""

LARGE_INPUT = 450 * 450
"""Pixels of the larger input, about: 2.25 times those of 300x300."""

VALIDATIONS = 10
"""Validations in a run, about."""

PATIENCE_SHARE = 0.3
"""Share of the epochs without a better score after which a run ends early. In the run on BCCD at 448x352 the
last 42 % of the epochs gained nothing (ABLATIONS.md, "BCCD"). Other values are not measured."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes
    ----------
    task : str
        ``'detection'`` or ``'classification'``.
    images, classes : int
        Of the training set.
    pretrained : bool
        Whether the training starts from weights.
    network : str
        Backbone.
    head : str
        ``'ssd'`` or ``'ssdlite'``; empty for a classifier.
    objects_per_image : float
        Mean over the training images that have objects.
    object_sizes : tuple of float
        Quantiles .1, .5 and .9 of the objects' sizes, the square root of their share of the image's area.
    small_objects : float
        Share of the objects whose size is below `SMALL_SIDE` at the input size.
    smallest_class : float
        Side in pixels of the network input of the median object of the class whose objects are smallest;
        infinite if no class has `FEWEST_OBJECTS`.
    aspect_ratio : float
        Median width / height of the training images.
    processes : int
        Among which the images of a step are divided.
    """

    task: str
    images: int
    classes: int
    pretrained: bool
    network: str = "mobilenet_v2"
    head: str = ""
    objects_per_image: float = 0.0
    object_sizes: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    small_objects: float = 0.0
    smallest_class: float = float("inf")
    aspect_ratio: float = 1.0
    processes: int = 1

    @property
    def is_tuned_detector(self) -> bool:
        """Whether a detector starts from weights."""
        return self.task == "detection" and self.pretrained

    @property
    def is_lite(self) -> bool:
        """Whether head and extra layers are depthwise separable."""
        return self.head in LAYOUTS and LAYOUTS[self.head].convolution == "separable"

    def describe(self) -> str:
        """The facts in a few words."""
        parts = [_counted(self.images, "image"), _counted(self.classes, "class")]
        if self.task == "detection":
            low, _, high = (100 * size for size in self.object_sizes)
            parts += [
                f"{self.objects_per_image:.1f} objects per image ({low:.0f} - {high:.0f} % of its side, "
                f"{100 * self.small_objects:.0f} % small)"
            ]
        network = f"{self.head} on {self.network}" if self.head else self.network
        return ", ".join([*parts, f"{network} with {'pretrained' if self.pretrained else 'random'} weights"])


@dataclass(frozen=True)
class Budget:
    """Length of a training in steps, from which the epochs follow.

    Small datasets are seen at most `most_epochs` times, large ones at least `fewest_epochs` times, unless
    this takes more than `most_steps`.
    """

    steps: int
    fewest_epochs: int
    most_epochs: int
    most_steps: int

    def epochs(self, steps_per_epoch: int, factor: float = 1.0) -> int:
        """Number of epochs, at least 1, for `factor` times the budget."""
        epochs = min(max(round(self.steps / steps_per_epoch), self.fewest_epochs), self.most_epochs)
        return max(1, round(factor * min(epochs, self.most_steps / steps_per_epoch)))


@dataclass(frozen=True)
class Rule:
    """Values of options for the datasets and networks it applies to."""

    applies: Callable[[Facts], bool]
    values: Mapping[str, Any] = field(default_factory=dict)
    budget: Optional[Budget] = None


_SGD = {"optimizer": "sgd", "lr": 0.01, "pretrained_lr": 1.0, "wd": 5e-4}
_ADAMW = {"optimizer": "adamw", "lr": 0.0005, "pretrained_lr": 0.2, "wd": 0.05}
_ADAMW_LITE = {"optimizer": "adamw", "lr": 0.004, "pretrained_lr": 0.025, "wd": 0.05}

# All rules that apply are used; of two values for an option the later one holds. "Not measured" means that
# no training showed the value to be better than others.
RULES: Tuple[Rule, ...] = (
    # Detection, random weights: SGD of GluonCV's train_ssd, 60 epochs. The limits are not measured.
    Rule(
        lambda facts: facts.task == "detection" and not facts.pretrained,
        {**_SGD, "batch_size": 16, "match_iou": 0.5, "expand_ratio": 4.0},
        Budget(steps=1300, fewest_epochs=60, most_epochs=300, most_steps=65_000),
    ),
    # Detection, pretrained: .407 against .247 with the best SGD (ABLATIONS.md, "Optimizers and learning
    # rates"). 1,284 steps are the 12 epochs of 1,697 images that reach .672, and 2,469 images had 12 epochs
    # ("Recipes on the whole of train", "All 20 classes"). The limits are not measured.
    Rule(
        lambda facts: facts.is_tuned_detector,
        {**_ADAMW, "batch_size": 16},
        Budget(steps=1300, fewest_epochs=12, most_epochs=300, most_steps=20_000),
    ),
    # .633 against .560 at the learning rates of the plain head ("Learning rates for SSDLite").
    Rule(lambda facts: facts.is_tuned_detector and facts.is_lite, _ADAMW_LITE),
    # Few images: 205 images were trained with 8 images per step ("BCCD"); 16 is not measured there.
    Rule(lambda facts: facts.is_tuned_detector and facts.images < 400, {"batch_size": 8}),
    # Few images: .863 against .832 with one learning rate for all layers ("BCCD"). With 1,697 images .668
    # against .672 ("Recipes on the whole of `train`"). SSDLite is not measured.
    Rule(
        lambda facts: facts.is_tuned_detector and facts.images < 400 and not facts.is_lite,
        {"pretrained_lr": 1.0},
    ),
    # .557 against .407 at 192 pixels, .637 against .570 at 300 ("Anchor matching and small objects").
    Rule(lambda facts: facts.is_tuned_detector, {"match_iou": 0.4, "expand_ratio": 2.0}),
    # Dense objects: .857 at .5 against .764 at .4 on BCCD, 13 objects per image ("BCCD"); VOC has 2.
    Rule(lambda facts: facts.is_tuned_detector and facts.objects_per_image > 8, {"match_iou": 0.5}),
    # Classification, random weights: as much as 20 epochs of 1,000 images. Not measured.
    Rule(
        lambda facts: facts.task == "classification" and not facts.pretrained,
        {**_SGD, "batch_size": 32, "pretrained_lr": 0.1},
        Budget(steps=640, fewest_epochs=20, most_epochs=100, most_steps=65_000),
    ),
    # Classification, pretrained: a linear probe reaches .904, 6 epochs (516 steps) .908 and .905
    # (CLASSIFICATION.md, "Linear probe on whole images"). The limits are not measured.
    Rule(
        lambda facts: facts.task == "classification" and facts.pretrained,
        {**_SGD, "batch_size": 32, "pretrained_lr": 0.1},
        Budget(steps=640, fewest_epochs=6, most_epochs=60, most_steps=20_000),
    ),
)

CHOSEN = tuple(
    sorted({name for rule in RULES for name in rule.values} | {"epochs", "val_interval", "patience", "size"})
)
"""Names of the options that may be chosen."""

_OF_ONE_SIZE = frozenset({"size", "early_size", "structure"})

ADAMW_LIMIT = 0.005
"""A given learning rate above it is one for SGD: AdamW was best at .0005 (ssdlite: .004) and lost nine
points at eight times as much (ABLATIONS.md, "Learning rates for SSDLite")."""


@dataclass(frozen=True)
class Automatic:
    """What a run leaves to the data: `CHOSEN` without the options `given`, for `budget` times the steps."""

    given: Mapping[str, Any]
    budget: float = 1.0


@dataclass(frozen=True)
class Choice:
    """Options chosen from the data.

    Attributes
    ----------
    values : mapping
        By name; none that was given.
    text : str
        One line for the user: the facts, and the settings that they led to.
    """

    values: Mapping[str, Any]
    text: str


def choose(facts: Facts, given: Optional[Mapping[str, Any]] = None, budget: float = 1.0) -> Choice:
    """Choose the options that are not given.

    Parameters
    ----------
    facts : Facts
    given : mapping, optional
        Options of the command line and the recipe, by name. They are not changed, but the others fit them:
        learning rates follow the optimizer, epochs the images per step, validations the epochs.
    budget : float
        Factor of the number of steps.

    Examples
    --------
    >>> facts = Facts("detection", 1697, 6, True, head="ssd", objects_per_image=2.5)
    >>> choose(facts).values["epochs"], choose(facts, {"batch_size": 8}).values["epochs"]
    (12, 12)
    >>> choose(facts, {"optimizer": "sgd"}).values["lr"]
    0.01
    """
    given = given or {}
    values: Dict[str, Any] = _input_size(facts, given)
    length = Budget(1, 1, 1, 1)
    for rule in RULES:
        if rule.applies(facts):
            values.update(rule.values)
            length = rule.budget or length
    values.update(_optimizer(facts, values, given))
    values["batch_size"] = ceil(values["batch_size"] / facts.processes) * facts.processes
    values.update(given)
    values["epochs"] = given.get("epochs") or length.epochs(
        steps_per_epoch(facts.images, values["batch_size"]), budget
    )
    values["val_interval"] = given.get("val_interval", max(1, round(values["epochs"] / VALIDATIONS)))
    values["patience"] = given.get("patience", _patience(values))
    chosen = {name: values[name] for name in CHOSEN if name in values and name not in given}
    return Choice(chosen, f"chosen for {facts.describe()}: {_describe(facts, values, chosen)}")


def _input_size(facts: Facts, given: Mapping[str, Any]) -> Dict[str, Any]:
    """A larger input with the aspect ratio of the images, if a class of tiny objects needs it.

    Not for random weights, which were not measured, and not with options that depend on the size.
    """
    has_shapes = given.get("anchors", DEFAULT_ANCHORS) not in (DEFAULT_ANCHORS, AUTO_ANCHORS)
    fixed = has_shapes or given.keys() & _OF_ONE_SIZE
    if not facts.is_tuned_detector or facts.smallest_class >= TINY_SIDE or fixed:
        return {}
    ratio = min(max(facts.aspect_ratio, 0.5), 2.0)
    width, height = sqrt(LARGE_INPUT * ratio), sqrt(LARGE_INPUT / ratio)
    return {"size": (32 * round(width / 32), 32 * round(height / 32))}


def _optimizer(facts: Facts, values: Mapping[str, Any], given: Mapping[str, Any]) -> Dict[str, Any]:
    """Other learning rates, if the user's optimizer or learning rate is not for the one of the rules."""
    is_high = values["optimizer"] == "adamw" and given.get("lr", 0) > ADAMW_LIMIT
    optimizer = given.get("optimizer", "sgd" if is_high else values["optimizer"])
    if optimizer == values["optimizer"]:
        return {}
    if optimizer == "sgd":
        return _SGD
    return _ADAMW_LITE if facts.is_lite else _ADAMW


def _patience(values: Mapping[str, Any]) -> int:
    """About `PATIENCE_SHARE` of the epochs, in whole validation intervals; 0 with ``minutes``."""
    interval = values["val_interval"]
    if not interval or values.get("minutes"):
        return 0
    return int(interval * ceil(PATIENCE_SHARE * values["epochs"] / interval))


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Steps of an epoch: images left over are not used, and a dataset smaller than a batch is repeated."""
    return max(1, images // batch_size)


def _describe(facts: Facts, values: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """The chosen settings in a few words."""
    parts: List[str] = []
    if "size" in chosen:
        parts.append(f"input {values['size'][0]}x{values['size'][1]}")
    if {"optimizer", "lr"} & set(chosen):
        name = {"adamw": "AdamW", "sgd": "SGD"}[values["optimizer"]]
        parts.append(f"{name} {values['lr']:g}")
    if facts.pretrained and "pretrained_lr" in chosen:
        parts.append(f"{values['lr'] * values['pretrained_lr']:g} for pretrained layers")
    if "wd" in chosen:
        parts.append(f"weight decay {values['wd']:g}")
    if "batch_size" in chosen:
        parts.append(f"{values['batch_size']} images per step")
    if "match_iou" in chosen:
        parts.append(f"match IoU {values['match_iou']:g}")
    if "expand_ratio" in chosen:
        parts.append(f"expansion up to {values['expand_ratio']:g}")
    if values.get("minutes"):
        parts.append(f"{values['minutes']:g} minutes")
    elif "epochs" in chosen:
        steps = values["epochs"] * steps_per_epoch(facts.images, values["batch_size"])
        parts.append(f"{_counted(values['epochs'], 'epoch')} ({_counted(steps, 'step')})")
    if "val_interval" in chosen:
        interval = values["val_interval"]
        parts.append(f"validation every {interval} epochs" if interval > 1 else "validation every epoch")
    if chosen.get("patience"):
        parts.append(f"earlier end after {values['patience']} epochs without a better score")
    return ", ".join(parts) or "nothing, all options are given"


def _counted(count: int, noun: str) -> str:
    plural = "classes" if noun == "class" else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def facts_of(options: Training, train_set: Any) -> Facts:
    """The facts of a run; `train_set` is a `Dataset` or a `ClassificationDataset`."""
    data = options.data
    images, classes, pretrained = len(train_set), len(train_set.classes), data.weights is not None
    is_distributed = options.loop.kvstore == "dist_sync"
    processes = int(os.environ.get("DMLC_NUM_WORKER", "1")) if is_distributed else 1
    if isinstance(options, ClassificationTraining):
        return Facts(options.task, images, classes, pretrained, data.network, processes=processes)
    assert isinstance(options, DetectionTraining)
    sizes, labels = (
        _object_sizes(train_set),
        np.concatenate([np.empty(0, int), *(s.labels for s in train_set)]),
    )
    low, middle, high = map(float, np.quantile(sizes, (0.1, 0.5, 0.9))) if len(sizes) else (0.0,) * 3
    pixels = sqrt(data.size[0] * data.size[1]) * sizes
    return Facts(
        options.task, images, classes, pretrained, data.network, options.data.head,
        len(sizes) / max(1, sum(len(sample.boxes) > 0 for sample in train_set)), (low, middle, high),
        float(np.mean(pixels < SMALL_SIDE)) if len(sizes) else 0.0, _smallest_class(pixels, labels),
        float(np.median([sample.size[0] / max(1, sample.size[1]) for sample in train_set])), processes,
    )  # fmt: skip


def _object_sizes(dataset: Dataset) -> np.ndarray:
    """``(N,)`` sizes of all objects, the square roots of their shares of the images' areas."""
    shares = [np.empty(0)]
    for sample in dataset:
        sides = np.maximum(sample.boxes[:, 2:] - sample.boxes[:, :2] + 1, 0).astype(np.float64)
        shares.append(np.minimum(sides.prod(axis=1) / max(1, sample.size[0] * sample.size[1]), 1.0))
    sizes: np.ndarray = np.sqrt(np.concatenate(shares))
    return sizes


def _smallest_class(sizes: np.ndarray, labels: np.ndarray) -> float:
    """Median size of the objects of the class with the smallest one, among classes with enough objects."""
    of_class = (sizes[labels == label] for label in np.unique(labels))
    return min(
        (float(np.median(few)) for few in of_class if len(few) >= FEWEST_OBJECTS), default=float("inf")
    )
