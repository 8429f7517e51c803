"""The classification task: data, network and loss of a MobileNet classifier."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.classification.datasets import open_classification_dataset
from ..data.classification.labeled_image import ClassificationDataset, LabeledImage
from ..data.classification.transforms import ClassificationTransform, val_transform
from ..data.image import to_network_input
from ..data.loader import Arrays, Batch
from ..errors import DataError
from ..metrics.classification import ClassificationResult, evaluate_classifier
from ..nn.choices import backbone_options
from ..train.options import ClassificationTraining
from ..train.task import ValidationResult
from .base import BaseTask
from .linear_probe import fit_linear_probe, last_layers

RARE = 5
"""Ratio of images between the most and the least frequent class from which --class-weights is suggested."""


class ClassificationTask(BaseTask[ClassificationTraining, zoo.ClassifierSpec, ClassificationDataset]):
    """Classification, for the training loop; see `train.task.Task`."""

    score_name = "top-1"

    def _open_datasets(self) -> Tuple[ClassificationDataset, Optional[ClassificationDataset]]:
        data = self.options.data
        train_set = open_classification_dataset(data.dataset, data.data_root, "train", data.download)
        if not self.options.loop.val_interval:
            return train_set, None
        val_set = open_classification_dataset(data.dataset, data.data_root, "val")
        if val_set.classes != train_set.classes:
            raise DataError(f"{val_set.name}: its classes differ from those of {train_set.name}")
        return train_set, val_set

    def _new_spec(self) -> zoo.ClassifierSpec:
        data, classes, kind = self.options.data, self.train_set.classes, zoo.ClassifierSpec
        options = backbone_options(data)
        variant = zoo.find_variant(
            data.network, data.width, len(classes), kind, data.structure, data.weights, options
        )
        return kind(
            classes, data.network, data.width, data.size, channels=zoo.read_channels(data.structure, kind),
            variant=variant, val_crop=self.options.augment.val_crop, **options,
        )  # fmt: skip

    def _build(self) -> None:
        data = self.options.data
        self.net = self.block = zoo.build_classifier(self.spec)
        zoo.initialize(self.net, self.ctx)
        self._infer_shapes()  # draws all weights, so that they do not depend on which --weights replaces
        self.last_layers = [self.net.output]
        self.name = f"{data.network}-{data.dataset}"
        weighted = data.class_weights or self.options.loop.balanced
        self.notes += [*self.train_set.notes, *_imbalance(self.train_set, weighted)]

    def _set_up(self) -> None:
        self._transform = ClassificationTransform(self.spec.size, self.options.augment)
        weighted = self.options.data.class_weights
        self._class_weights = class_weights(self.train_set.counts()) if weighted else None

    def _labels(self) -> List[List[int]]:
        return [[image.label] for image in self.train_set]

    def _initialize_last_layers(self) -> None:
        parameters = list(self.net.output.collect_params().values())
        loaded = {id(parameter) for parameter in self.pretrained}
        is_new = all(id(p) not in loaded and p.grad_req != "null" for p in parameters)
        if not (loaded and is_new and self.options.data.linear_probe):
            return
        if len(last_layers(self.net)) == 1:
            batches, flip = self._loader(self._load_plain), self.options.augment.flip_probability > 0
            self.notes.append(fit_linear_probe(self.net, batches, self._targets, self.ctx, flip))
            self.is_pretrained = True
        else:
            self.notes.append("no linear probe: the last layers are not a single one; they start random")

    def _load(self, sample: LabeledImage, rng: np.random.Generator) -> Arrays:
        pixels = self._transform(self.train_set.read(sample, self.spec.size), rng)
        return to_network_input([pixels])[0], np.array(sample.label), np.array(rng.integers(2**62))

    def _load_plain(self, sample: LabeledImage, rng: np.random.Generator) -> Arrays:
        """Read a training image without augmentation."""
        size = self.spec.size
        pixels = val_transform(self.train_set.read(sample, size), size, self.spec.val_crop)
        return to_network_input([pixels])[0], np.array(sample.label)

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        targets = soften(labels, len(self.spec.classes), self.options.augment.label_smoothing)
        return targets if self._class_weights is None else targets * self._class_weights[labels][:, None]

    def start_epoch(self, epoch: int) -> None:
        """Do nothing: all epochs are alike."""

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        """Cross entropy with label smoothing and mixup, averaged over the batch."""
        images, labels, seeds = batch.arrays
        targets, mixup = self._targets(labels), self.options.augment.mixup
        if mixup:
            images, targets = mix(images, targets, mixup, np.random.default_rng(seeds))
        logits = self._forward(mx.nd.array(images, ctx=self.ctx))
        log_p = mx.nd.log_softmax(logits)
        loss = -(log_p * mx.nd.array(targets, ctx=self.ctx)).sum() / len(labels)
        return loss, {"loss": loss}

    def normalizer(self, batch: Batch) -> float:
        """Number of images."""
        return float(len(batch.indices))

    def validate(self) -> ValidationResult:
        """Top-1 and top-5 accuracy of the current weights on the validation set."""
        if self.val_set is None:
            return ValidationResult()
        result = self._evaluate(self.val_set)
        columns: Dict[str, Any] = {"top1": round(result.top1, 5), "top5": round(result.top5, 5)}
        if result.skipped:
            columns["val_skipped"] = len(result.skipped)
        return ValidationResult(self.score_name, columns["top1"], columns)

    def _evaluate(self, dataset: ClassificationDataset) -> ClassificationResult:
        return evaluate_classifier(self.net, dataset, self.spec.size, self.spec.val_crop, ctx=self.ctx)

    def seconds_after_training(self, validation: float) -> float:
        """0: a classifier has no report."""
        return 0.0

    def _network_summary(self) -> str:
        return self.spec.describe()


def soften(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """One-hot targets with label smoothing (Szegedy et al. 2016): ``(B,)`` to ``(B, C)`` float32."""
    targets = np.full((len(labels), classes), smoothing / classes, np.float32)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return targets


def mix(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> Tuple[np.ndarray, np.ndarray]:
    """Mix each image and its target with another one of the batch (mixup, Zhang et al. 2018)."""
    share = np.float32(rng.beta(alpha, alpha))
    partner = rng.permutation(len(images))
    mixed = images[partner]
    mixed *= 1 - share
    mixed += share * images
    return mixed, share * targets + (1 - share) * targets[partner]


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Loss weights ``(C,)`` float32 that favor rare classes; their mean over the images is 1.

    They are inverse to the square root of the class frequency. Inverse to the frequency itself, one of ten
    images would outweigh a thousand.
    """
    present = counts > 0
    weights = np.zeros(len(counts), np.float32)
    weights[present] = 1 / np.sqrt(counts[present])
    return weights * (counts.sum() / (weights * counts).sum())


def _imbalance(dataset: ClassificationDataset, weighted: bool) -> List[str]:
    counts = dataset.counts()
    fewest, most = int(counts.argmin()), int(counts.argmax())
    if weighted or counts[fewest] * RARE > counts[most]:
        return []
    return [
        f"{dataset.classes[fewest]} has {counts[fewest]} images, {dataset.classes[most]} {counts[most]}; "
        "--class-weights and --balanced give rare classes more weight"
    ]
