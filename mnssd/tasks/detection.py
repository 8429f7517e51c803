"""The detection task: data, network, targets and loss of an SSD."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.dataset import Dataset
from ..data.image import read_image
from ..data.image_cache import ImageCache
from ..data.loader import Arrays, Batch
from ..data.open import default_root, default_splits, find_format, open_dataset, usable_for_training
from ..data.pseudo_labels import with_pseudo_labels
from ..data.sample import Detections, Sample
from ..errors import DataError, OptionError, TransformError
from ..inference.draw import draw
from ..inference.predict import Read as ReadPrepared
from ..inference.predict import Skipped, evaluate
from ..metrics.voc import VOCResult
from ..nn.choices import backbone_options
from ..train.automatic import Automatic
from ..train.options import DetectionOptions, DetectionTraining
from ..train.run_start import RunStart
from ..train.task import ValidationResult
from ..validation.check import training_warnings
from .base import BaseTask
from .chosen_anchors import with_anchors
from .detection_loss import Loss, MultiBoxLoss, count_positives, set_prior
from .detection_samples import Read, TrainingSamples
from .given_transforms import NO_TRANSFORMS, Transforms
from .transformed_samples import TransformedImages, TransformedSamples, gluon_item

ZERO_AFTER, ZERO_BELOW = 3, 0.001
"""Number of validations in a row with an mAP below this value after which a warning is printed."""

ZERO_WARNING = (
    f"mAP is 0 in {ZERO_AFTER} validations. Likely causes: boxes or classes in another format than expected "
    "(run `mnssd check-data`); a learning rate that is too high (--lr); too few epochs without --weights. "
    "--overfit 4 trains on four images only: if that fails, it is the data"
)

SHOWN_IMAGES, SHOWN_SCORE = 4, 0.3
"""Number of validation images in TensorBoard, and the minimum score of the detections drawn on them."""


REPORT_SECONDS, REPORT_SECONDS_PER_IMAGE = 6.0, 0.03
"""Time of the report beside a validation: COCO's metrics take the most (one core of a Zen 5, 200 images)."""

Watch = Callable[[Sample, Detections], None]

LoadSample = Callable[[Sample, np.random.Generator], Arrays]
LossOfBatch = Callable[[Any, Any, np.ndarray, np.ndarray], Loss]
"""`TrainingSamples` and `MultiBoxLoss`, or what is called like them."""


def detector_spec(data: DetectionOptions, classes: Tuple[str, ...]) -> zoo.DetectorSpec:
    """The structure of the detector that the options describe."""
    kind, options = zoo.DetectorSpec, backbone_options(data)
    variant = zoo.find_variant(data.network, data.width, None, kind, data.structure, data.weights, options)
    return kind(
        classes, data.network, data.width, data.size, channels=zoo.read_channels(data.structure, kind),
        variant=variant, head=data.head, layout=zoo.read_layout(data.structure), **options,
    )  # fmt: skip


def _open_datasets(data: DetectionOptions, validate: bool) -> Tuple[Dataset, Optional[Dataset]]:
    splits = _without_held_out(data) if validate and data.train_splits else data.train_splits
    train_set = open_dataset(
        data.dataset, data.data_root, splits, data.classes, "train", download=data.download
    )  # fmt: skip
    train_set = usable_for_training(train_set)
    val_set: Optional[Dataset] = None
    if data.overfit:
        val_set = train_set = train_set.first(data.overfit)
    elif data.hold_out:
        train_set, val_set = train_set.hold_out(data.hold_out)
    elif validate:
        val_set = open_dataset(
            data.dataset, data.data_root, data.val_splits, list(train_set.classes), "val",
            download=data.download, allow_absent=True,  # a misspelled class was reported for the training set
        )  # fmt: skip
    if data.unlabelled:
        train_set = with_pseudo_labels(train_set, data.unlabelled, [val_set] if val_set else [])
    return train_set, val_set if validate else None


def _without_held_out(data: DetectionOptions) -> str:
    """The given training lists; of one whose held-out part is validated on by default, only the rest."""
    given = (data.train_splits or "").split("+")
    is_default = not (data.val_splits or data.hold_out or data.overfit)
    validated = default_splits(data.dataset, "val", data.data_root).split("+") if is_default else []
    return "+".join(f"{name}:train" if f"{name}:val" in validated else name for name in given)


class DetectionTask(BaseTask[DetectionTraining, zoo.DetectorSpec, Dataset]):
    """Detection, for the training loop; see `train.task.Task`. `transforms` are those of the user."""

    def __init__(
        self,
        options: DetectionTraining,
        start: Optional[RunStart] = None,
        automatic: Optional[Automatic] = None,
        transforms: Transforms = NO_TRANSFORMS,
    ) -> None:
        self._transforms = transforms
        self.transform_names = transforms.names()
        super().__init__(options, start, automatic)

    def _open_datasets(self) -> Tuple[Dataset, Optional[Dataset]]:
        data = self.options.data
        if data.early_epochs and self.options.loop.minutes:
            raise OptionError("--minutes cannot be fitted to --early-size, whose steps are shorter; omit one")
        return _open_datasets(data, validate=bool(self.options.loop.val_interval))

    def _new_spec(self) -> zoo.DetectorSpec:
        data = self.options.data
        spec, note = with_anchors(detector_spec(data, self.train_set.classes), data.anchors, self.train_set)
        self.notes += [note] if note else []
        return spec

    def _build(self) -> None:
        data = self.options.data
        self.net = zoo.build_detector(self.spec)
        zoo.initialize(self.net, self.ctx)
        self.block, self.last_layers = self.net.heads, self.net.heads.last_convolutions()
        self.name, self.score_name = f"{data.head}-{data.network}-{data.dataset}", f"{data.metric} mAP"
        val_notes = self.val_set.notes if self.val_set is not None else []
        self.notes += dict.fromkeys([*self.train_set.notes, *val_notes])
        self._zero_validations = 0

    def _set_up(self) -> None:
        data, epochs = self.options.data, self.options.loop.epochs
        self.early_epochs = data.early_epochs
        if data.early_epochs >= epochs:
            raise OptionError(
                f"--early-epochs {data.early_epochs}: expected fewer than --epochs {epochs}, so that some "
                "remain at --size"
            )
        read: Read = read_image
        if data.cache_images:
            cache = ImageCache(data.cache_images)
            self.notes.append(cache.check_space(self.train_set, data.size))
            read = cache.read
        self.notes += self._check_boxes()
        self._prepare = self._validation_reader()
        self._full = self._early = self._at_size_of(self.net, read)
        if data.early_size:
            small = zoo.build_detector(replace(self.spec, size=data.early_size))
            self._early = self._at_size_of(small, read)
        self.start_epoch(0)

    def _check_boxes(self) -> List[str]:
        """Findings of `mnssd check-data`, except for the built-in images and a few images to overfit."""
        data = self.options.data
        if data.dataset == "shapes" or data.overfit:
            return []
        datasets = {"train": self.train_set, **({"val": self.val_set} if self.val_set else {})}
        dataset_format = find_format(data.dataset, data.data_root or default_root(data.dataset))
        return training_warnings(
            dataset_format, datasets, "train", self.spec.size, self.net.anchors, data.match_iou
        )

    def _at_size_of(self, net: Any, read: Read) -> Tuple[LoadSample, LossOfBatch]:
        """Samples and loss for the input size of `net`."""
        data, augment = self.options.data, None if self.options.data.overfit else self.options.augment
        if data.pipeline == "gluoncv":
            from .gluoncv_pipeline import GluoncvLoss, GluoncvSamples, training_items

            item, note = training_items(self.train_set, data)
            self.notes.append(note)
            return GluoncvSamples(item, net), GluoncvLoss()
        loss = MultiBoxLoss(
            data.cls_loss, data.box_loss, data.label_smoothing, net.anchors, net.heads.layout.scores
        )  # fmt: skip
        if self._transforms.train is None:
            return TrainingSamples(
                self.train_set, net.size, net.anchors, augment, data.match_iou, read
            ), loss  # fmt: skip
        item = partial(gluon_item, read=read)
        return TransformedSamples(
            self._transforms.train, net.size, net.anchors, net.classes, data.match_iou, item
        ), loss  # fmt: skip

    def _validation_reader(self) -> Optional[ReadPrepared]:
        """Reads validation images with the transform of the user, which is called once to check it."""
        if self._transforms.val is None or self.val_set is None:
            return None
        prepare = TransformedImages(self._transforms.val, self.net.size, self.net.anchors, self.net.classes)
        try:
            prepare(self.val_set[0])
        except TransformError:
            raise
        except DataError:  # the image is damaged, which the validation reports
            pass
        return prepare

    def _labels(self) -> List[List[int]]:
        return [sample.labels.tolist() for sample in self.train_set]

    def _initialize_last_layers(self) -> None:
        if self.options.data.cls_loss == "focal" and not self.is_pretrained:
            set_prior(self.block.class_convolutions(), len(self.spec.classes), self.block.layout.scores)

    def _load(self, sample: Sample, rng: np.random.Generator) -> Arrays:
        return self._samples(sample, rng)

    def _batchify(self, samples: List[Arrays]) -> Arrays:
        if self.options.data.pipeline == "gluoncv":
            from .gluoncv_pipeline import batchify

            return batchify(samples)
        return super()._batchify(samples)

    def start_epoch(self, epoch: int) -> None:
        """Select the input size of the epoch; see `DetectionOptions.early_size`."""
        early = epoch < self.options.data.early_epochs
        self._samples, self._loss = self._early if early else self._full

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        """See `MultiBoxLoss`."""
        images, cls_target, box_target = batch.arrays
        cls_preds, box_preds = self._forward(mx.nd.array(images, ctx=self.ctx))
        loss = self._loss(cls_preds, box_preds, cls_target, box_target)
        return loss.total, {"loss": loss.total, "cls_loss": loss.classes, "box_loss": loss.boxes}

    def normalizer(self, batch: Batch) -> float:
        """Number of positive anchors."""
        return float(count_positives(batch.arrays[1]))

    def validate(self) -> ValidationResult:
        """Average precision of the current weights on the validation set."""
        if self.val_set is None:
            return ValidationResult()
        metric = self.options.data.metric
        shown: List[Tuple[Sample, Detections]] = []

        def keep_first(sample: Sample, detections: Detections) -> None:
            if self.options.loop.tensorboard and len(shown) < SHOWN_IMAGES:
                shown.append((sample, detections))

        result, skipped = self._evaluate(self.val_set, keep_first)
        score = None if np.isnan(result.mean_ap) else round(result.mean_ap, 5)
        columns: Dict[str, Any] = {"metric": metric, "mAP": score}
        if skipped:
            columns["val_skipped"] = len(skipped)
        columns.update(
            {f"AP {name}": round(ap, 4) for name, ap in result.ap_per_class.items() if not np.isnan(ap)}
        )
        is_zero = score is not None and score < ZERO_BELOW
        self._zero_validations = self._zero_validations + 1 if is_zero else 0
        warning = ZERO_WARNING if self._zero_validations == ZERO_AFTER else ""
        images = [self._draw(sample, detections) for sample, detections in shown]
        return ValidationResult(self.score_name, score, columns, warning, images)

    def _evaluate(self, dataset: Dataset, watch: Optional[Watch] = None) -> Tuple[VOCResult, List[Skipped]]:
        skipped: List[Skipped] = []
        result = evaluate(
            self.net, dataset, self.options.data.metric, workers=self.workers, on_bad_image="skip",
            skipped=skipped, watch=watch, read=self._prepare,
        )  # fmt: skip
        return result, skipped

    def seconds_after_training(self, validation: float) -> float:
        """Time of the report, which evaluates the best weights once more, or 0 if there is none."""
        if self.val_set is None:
            return 0.0
        return validation + REPORT_SECONDS + REPORT_SECONDS_PER_IMAGE * len(self.val_set)

    def _draw(self, sample: Sample, detections: Detections) -> np.ndarray:
        rows = np.flatnonzero(detections.scores >= SHOWN_SCORE)
        return draw(read_image(sample.image_path), detections.take(rows.tolist()), self.net.classes)

    def _network_summary(self) -> str:
        return f"{self.spec.head} on {self.spec.describe()}"
