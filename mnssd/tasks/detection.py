"""The detection task: data, network, targets and loss of an SSD, for the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.dataset import Dataset
from ..data.image import read_image
from ..data.image_cache import ImageCache
from ..data.loader import Arrays, Batch, Loader
from ..data.open import default_root, find_format, open_dataset
from ..data.sample import Detections, Sample
from ..data.transform_options import AugmentOptions
from ..errors import OptionError
from ..graph.fast import fast_block
from ..inference.draw import draw
from ..inference.predict import Skipped, evaluate
from ..runtime import settings
from ..train.batchnorm import recalibrate_batchnorm
from ..train.freezing import all_among, freeze
from ..train.loop import ValidationResult
from ..train.options import DetectionOptions, LoopOptions
from ..validation.check import short
from ..weights import load_backbone
from .detection_loss import MultiBoxLoss, count_positives, set_prior
from .detection_samples import Read, TrainingSamples

ZERO_AFTER, NOTHING = 3, 0.001
"""So many validations in a row with less than this mAP, and the user is told."""

HOPELESS = (
    f"mAP is 0 in {ZERO_AFTER} validations. Likely causes: boxes or classes of another format than they are "
    "read as (`mnssd check-data` tells); a rate that is too high (--lr) or, from nothing, too few epochs; no "
    "--weights. --overfit 4 learns four images by heart: if that fails, it is the data"
)

PICTURES, SHOWN_SCORE = 4, 0.3
"""For TensorBoard: so many validation images, with the detections from this score on."""


class DetectionTask:
    """See `train.loop.Task`.

    Attributes
    ----------
    net : mnssd.nn.SSD
    train_set, val_set : Dataset
        `val_set` is None when nothing is to be measured.
    notes : list of str
        What the user should know before training starts.
    """

    def __init__(self, options: DetectionOptions, augment: AugmentOptions, loop: LoopOptions) -> None:
        settings.seed_everything(loop.seed)
        self._at_zero, self._pictures = 0, loop.tensorboard
        self.options, self.ctx = options, settings.pick_context(loop.ctx)
        self.train_set, self.val_set = _datasets(options, measure=bool(loop.val_interval))
        self.name = f"{options.head}-{options.network}-{options.dataset}"  # of its run folders
        self.spec = detector_spec(options, self.train_set.classes)
        self.net = zoo.build_detector(self.spec)
        zoo.initialize(self.net, self.ctx)
        self.notes = [*self.train_set.notes]
        if self.val_set is not None:
            self.notes += [note for note in self.val_set.notes if note not in self.train_set.notes]
        self._read: Read = read_image
        if options.cache_images:
            cache = ImageCache(options.cache_images)
            self.notes.append(cache.refuse_if_too_large(self.train_set, options.size))
            self._read = cache.read
        loaded: List[Any] = []
        if options.weights:
            report = load_backbone(self.net.heads, options.weights)
            self.notes, loaded = [*self.notes, *report.lines()], report.parameters
        width, height = self.spec.size
        self.net(
            mx.nd.zeros((1, 3, height, width), ctx=self.ctx)
        )  # settles the shapes that Gluon leaves open
        self.notes += self._examined()
        if loop.freeze:
            self.notes.append(freeze(self.net.heads, loop.freeze))
        self.block, self.last_layers = self.net.heads, self.net.heads.last_convolutions()
        self.pretrained: Sequence[Any] = loaded
        self.is_pretrained = all_among(self.last_layers, loaded)
        self.workers = loop.workers if loop.workers >= 0 else settings.image_workers()
        self.batches = Loader(self.train_set, self._load, loop.batch_size, loop.seed, self.workers)
        self._full = self._early = self._at(self.net, augment)
        if options.early_size:
            self._early = self._at(zoo.build_detector(replace(self.spec, size=options.early_size)), augment)
        if options.early_epochs >= loop.epochs:
            raise OptionError(
                f"--early-epochs {options.early_epochs} leaves none of --epochs {loop.epochs} for --size"
            )
        self.start_epoch(0)
        if options.cls_loss == "focal" and not self.is_pretrained:
            set_prior(self.net.heads.class_convolutions(), len(self.spec.classes))
        if loaded and loop.recalibrate_batchnorm:
            self.notes.append(recalibrate_batchnorm(self.block, loaded, self.batches, self.ctx))
        self._forward = fast_block(self.block) if loop.fast_graph else self.block
        self._forward.hybridize(static_alloc=True, static_shape=True)

    def _examined(self) -> List[str]:
        """What the doctor says of the boxes; the built-in images and a handful of images need none."""
        if self.options.dataset == "shapes" or self.options.overfit:
            return []
        parts = {"train": self.train_set, **({"val": self.val_set} if self.val_set else {})}
        name = self.options.dataset
        root = self.options.data_root or default_root(name)
        return short(
            find_format(name, root), parts, "train",
            self.spec.size, self.net.anchors, self.options.match_iou,
        )  # fmt: skip

    def _load(self, sample: Sample, rng: np.random.Generator) -> Arrays:
        return self._samples(sample, rng)

    def start_epoch(self, epoch: int) -> None:
        """Choose the size of its images: see `DetectionOptions.early_size`."""
        early = epoch < self.options.early_epochs
        self._samples, self._loss = self._early if early else self._full

    def _at(self, net: Any, augment: AugmentOptions) -> Tuple[TrainingSamples, MultiBoxLoss]:
        """What training at the input size of `net` needs."""
        options = self.options
        samples = TrainingSamples(
            self.train_set, net.size, net.anchors, None if options.overfit else augment, options.match_iou,
            self._read,
        )  # fmt: skip
        loss = MultiBoxLoss(options.cls_loss, options.box_loss, options.label_smoothing, net.anchors)
        return samples, loss

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        """As `MultiBoxLoss` says."""
        images, cls_target, box_target = batch.arrays
        cls_preds, box_preds = self._forward(mx.nd.array(images, ctx=self.ctx))
        loss = self._loss(cls_preds, box_preds, cls_target, box_target)
        return loss.total, {"loss": loss.total, "cls_loss": loss.classes, "box_loss": loss.boxes}

    def weight(self, batch: Batch) -> float:
        """Positive anchors."""
        return float(count_positives(batch.arrays[1]))

    def validate(self) -> Optional[ValidationResult]:
        """Average precision on the validation set, of the weights as they are now."""
        if self.val_set is None:
            return None
        skipped: List[Skipped] = []
        shown: List[Tuple[Sample, Detections]] = []

        def watch(sample: Sample, detections: Detections) -> None:
            if self._pictures and len(shown) < PICTURES:
                shown.append((sample, detections))

        result = evaluate(
            self.net,
            self.val_set,
            self.options.metric,
            workers=self.workers,
            on_bad_image="skip",
            skipped=skipped,
            watch=watch,
        )
        score = None if np.isnan(result.mean_ap) else round(result.mean_ap, 5)
        row: Dict[str, Any] = {"metric": self.options.metric, "mAP": score}
        if skipped:
            row["val_skipped"] = len(skipped)
        row.update(
            {f"AP {name}": round(ap, 4) for name, ap in result.ap_per_class.items() if not np.isnan(ap)}
        )
        self._at_zero = self._at_zero + 1 if score is not None and score < NOTHING else 0
        warning = HOPELESS if self._at_zero == ZERO_AFTER else ""
        return ValidationResult(self.score_name, score, row, warning, [self._drawn(*pair) for pair in shown])

    def _drawn(self, sample: Sample, detections: Detections) -> np.ndarray:
        rows = np.flatnonzero(detections.scores >= SHOWN_SCORE)
        return draw(read_image(sample.image_path), detections.take(rows.tolist()), self.net.classes)

    def config(self) -> Mapping[str, Any]:
        """What evaluation and export need to know of the run."""
        return {"task": "detection", "detector": self.spec.as_dict()}

    @property
    def score_name(self) -> str:
        """Of the score that `validate` gives."""
        return f"{self.options.metric} mAP"

    def introduction(self) -> List[str]:
        """Lines for the user."""
        spec, val = self.spec, ""
        if self.val_set is not None:
            val = f", measuring on {self.val_set.name}: {len(self.val_set)}"
        return [
            f"{spec.head} on {spec.network} x{spec.width:g} at {spec.size[0]}x{spec.size[1]}",
            f"{len(spec.classes)} classes: {', '.join(spec.classes)}",
            f"training on {self.train_set.name}: {len(self.train_set)} images{val}",
        ]


def detector_spec(options: DetectionOptions, classes: Tuple[str, ...]) -> zoo.DetectorSpec:
    """The network that the options describe."""
    channels = zoo.read_channels(options.structure, "detector")
    return zoo.DetectorSpec(
        classes,
        options.network,
        options.width,
        options.size,
        options.head,
        options.shortcut,
        options.activation,
        channels,
    )


def _datasets(options: DetectionOptions, measure: bool) -> Tuple[Dataset, Optional[Dataset]]:
    train_set = open_dataset(
        options.dataset, options.data_root, options.train_splits, options.classes, "train",
        download=options.download,
    )  # fmt: skip
    if options.overfit:
        train_set = train_set.first(options.overfit)
        return train_set, train_set if measure else None
    if options.hold_out:
        train_set, held_out = train_set.hold_out(options.hold_out)
        return train_set, held_out if measure else None
    if not measure:
        return train_set, None
    val_set = open_dataset(
        options.dataset, options.data_root, options.val_splits, list(train_set.classes), "val",
        download=options.download, allow_absent=True,  # a misspelt class has been found by now
    )  # fmt: skip
    return train_set, val_set
