"""The classification task: data, network and loss of a MobileNet, for the loop."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.classification.datasets import open_classification_dataset
from ..data.classification.image_label import ClassificationDataset, LabeledImage
from ..data.classification.options import ClassAugmentOptions
from ..data.classification.transforms import ClassTransform, val_transform
from ..data.image import to_network_input
from ..data.loader import Arrays, Batch, Loader
from ..errors import DataError
from ..graph.fast import fast_block
from ..metrics.classification import ClassResult, evaluate_classifier
from ..runtime import settings
from ..train.batchnorm import recalibrate_batchnorm
from ..train.freezing import all_among, freeze
from ..train.loop import ValidationResult
from ..train.options import ClassificationOptions, LoopOptions
from ..weights import load_backbone
from .linear_probe import fit_linear_probe


class ClassificationTask:
    """See `train.loop.Task`.

    Attributes
    ----------
    net : mnssd.nn.MobileNetV1 or mnssd.nn.MobileNetV2
    train_set, val_set : ClassificationDataset
        `val_set` is None when nothing is to be measured.
    notes : list of str
        What the user should know before training starts.
    """

    def __init__(
        self, options: ClassificationOptions, augment: ClassAugmentOptions, loop: LoopOptions
    ) -> None:
        settings.seed_everything(loop.seed)
        self.options, self.augment, self.ctx = options, augment, settings.pick_context(loop.ctx)
        self.train_set = open_classification_dataset(
            options.dataset, options.data_root, "train", options.download
        )
        self.val_set: Optional[ClassificationDataset] = None
        if loop.val_interval:
            self.val_set = open_classification_dataset(options.dataset, options.data_root, "val")
            if self.val_set.classes != self.train_set.classes:
                raise DataError(
                    f"{self.val_set.name} has other classes than {self.train_set.name}; they must be equal"
                )
        self.name = f"{options.network}-{options.dataset}"  # of its run folders
        self.spec = zoo.ClassifierSpec(
            self.train_set.classes, options.network, options.width, options.size, options.shortcut,
            options.activation, augment.val_crop, zoo.read_channels(options.structure, "classifier"),
        )  # fmt: skip
        self.net = zoo.build_classifier(self.spec)
        zoo.initialize(self.net, self.ctx)
        self.notes = [*self.train_set.notes, *(_imbalance(self.train_set, options.class_weights))]
        width, height = options.size
        self.net(mx.nd.zeros((1, 3, height, width), ctx=self.ctx))
        loaded: List[Any] = []
        if options.weights:
            report = load_backbone(self.net, options.weights)
            self.notes, loaded = [*self.notes, *report.lines()], report.parameters
        if loop.freeze:
            self.notes.append(freeze(self.net, loop.freeze))
        self.block: Any = self.net
        self.pretrained: Sequence[Any] = loaded
        self.last_layers: Sequence[Any] = [self.net.output]
        self.workers = loop.workers if loop.workers >= 0 else settings.image_workers()
        self.batches: Loader = Loader(self.train_set, self._load, loop.batch_size, loop.seed, self.workers)
        self._transform = ClassTransform(options.size, augment)
        if loaded and loop.recalibrate_batchnorm:
            self.notes.append(recalibrate_batchnorm(self.net, loaded, self.batches, self.ctx))
        self._weights = class_weights(self.train_set.counts()) if options.class_weights else None
        self.is_pretrained = all_among(self.last_layers, loaded)
        if loaded and options.linear_probe and self._output_is_new(loaded):
            plain = Loader(self.train_set, self._load_plain, loop.batch_size, loop.seed, self.workers)
            mirror = augment.flip_probability > 0
            self.notes.append(fit_linear_probe(self.net, plain, self._targets, self.ctx, mirror))
            self.is_pretrained = True
        self._forward = fast_block(self.net) if loop.fast_graph else self.net
        self._forward.hybridize(static_alloc=True, static_shape=True)

    def _load(self, image: LabeledImage, rng: np.random.Generator) -> Arrays:
        pixels = self._transform(self.train_set.read(image, self.options.size), rng)
        return to_network_input([pixels])[0], np.array(image.label), np.array(rng.integers(2**62))

    def _load_plain(self, image: LabeledImage, rng: np.random.Generator) -> Arrays:
        size = self.options.size
        pixels = val_transform(self.train_set.read(image, size), size, self.augment.val_crop)
        return to_network_input([pixels])[0], np.array(image.label)

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        targets = soften(labels, len(self.train_set.classes), self.augment.label_smoothing)
        return targets if self._weights is None else targets * self._weights[labels][:, None]

    def _output_is_new(self, loaded: Sequence[Any]) -> bool:
        parameters = list(self.net.output.collect_params().values())
        known = {id(parameter) for parameter in loaded}
        return all(id(p) not in known and p.grad_req != "null" for p in parameters)

    def start_epoch(self, epoch: int) -> None:
        """All epochs are alike."""

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        """Cross entropy with softened and mixed labels, the mean over the batch."""
        images, labels, draws = batch.arrays
        targets = self._targets(labels)
        if self.augment.mixup:
            images, targets = mix(images, targets, self.augment.mixup, np.random.default_rng(draws))
        logits = self._forward(mx.nd.array(images, ctx=self.ctx))
        log_p = mx.nd.log_softmax(logits)
        loss = -(log_p * mx.nd.array(targets, ctx=self.ctx)).sum() / len(labels)
        return loss, {"loss": loss}

    def weight(self, batch: Batch) -> float:
        """Images."""
        return float(len(batch.indices))

    def validate(self) -> Optional[ValidationResult]:
        """Top-1 and top-5 on the validation set, of the weights as they are now."""
        if self.val_set is None:
            return None
        result = self.measure(self.val_set)
        columns: Dict[str, Any] = {"top1": round(result.top1, 5), "top5": round(result.top5, 5)}
        if result.skipped:
            columns["val_skipped"] = len(result.skipped)
        return ValidationResult(self.score_name, round(result.top1, 5), columns)

    def measure(self, dataset: ClassificationDataset) -> ClassResult:
        """As `mnssd eval-cls` does."""
        return evaluate_classifier(self.net, dataset, self.options.size, self.augment.val_crop, ctx=self.ctx)

    score_name = "top-1"

    def config(self) -> Mapping[str, Any]:
        """What evaluation and export need to know of the run."""
        return {"task": "classification", "classifier": self.spec.as_dict()}

    def introduction(self) -> List[str]:
        """Lines for the user."""
        width, height = self.options.size
        val = f", measuring on {self.val_set.name}: {len(self.val_set)}" if self.val_set is not None else ""
        classes = self.train_set.classes
        shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        return [
            f"{self.options.network} x{self.options.width:g} at {width}x{height}",
            f"{len(classes)} classes: {shown}",
            f"training on {self.train_set.name}: {len(self.train_set)} images{val}",
        ]


def soften(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """``(B, C)`` float32: `smoothing` spread over all classes, the rest for the one (Szegedy et al. 2016)."""
    targets = np.full((len(labels), classes), smoothing / classes, np.float32)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return targets


def mix(
    images: np.ndarray, targets: np.ndarray, alpha: float, rng: np.random.Generator
) -> Tuple[np.ndarray, np.ndarray]:
    """Each image and its target mixed with those of another one of the batch (mixup, Zhang et al. 2018)."""
    share = np.float32(rng.beta(alpha, alpha))
    other = rng.permutation(len(images))
    mixed = images[other]
    mixed *= 1 - share
    mixed += share * images
    return mixed, share * targets + (1 - share) * targets[other]


def class_weights(counts: np.ndarray) -> np.ndarray:
    """``(C,)`` float32: classes with fewer images weigh more; the mean over the images is 1.

    By the square root of the frequency: with the frequency itself, one of ten images outweighs a thousand.
    """
    present = counts > 0
    weights = np.zeros(len(counts), np.float32)
    weights[present] = 1 / np.sqrt(counts[present])
    return weights * (counts.sum() / (weights * counts).sum())


def _imbalance(dataset: ClassificationDataset, weighted: bool) -> List[str]:
    counts = dataset.counts()
    few, many = int(counts.argmin()), int(counts.argmax())
    if weighted or counts[few] * 5 > counts[many]:
        return []
    return [
        f"{dataset.classes[few]} has {counts[few]} images, {dataset.classes[many]} {counts[many]}; "
        "--class-weights lets rare classes count more"
    ]
