"""Evaluation of a classifier: accuracy, confusion matrix, recall and precision per class."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Callable, Dict, Generator, List, Optional, Tuple

import mxnet as mx
import numpy as np

from ..data.classification.labeled_image import ClassificationDataset, LabeledImage
from ..data.classification.transforms import val_transform
from ..data.image import to_network_input
from ..data.prefetch import prefetch
from ..errors import DataError, ImageError
from ..graph.inference import free_dropped_blocks, inference_block
from ..options import Size
from .bootstrap import Interval, percentile_interval, resample_accuracy


@dataclass(frozen=True)
class ClassificationResult:
    """Result of evaluating a classifier.

    Attributes
    ----------
    classes : tuple of str
    confusion : numpy.ndarray
        ``(C, C)`` int: rows are true classes, columns predicted classes.
    in_top5 : int
        Images whose class is among the five highest scores.
    skipped : list of (str, str)
        Path and reason of images that could not be read; they are not counted.
    correct : dict of str to bool
        Per image id, whether the class with the highest score is the image's.
    dataset : str
        Name of the dataset.
    """

    classes: Tuple[str, ...]
    confusion: np.ndarray
    in_top5: int
    skipped: List[Tuple[str, str]]
    correct: Dict[str, bool] = field(repr=False)
    dataset: str = ""

    @property
    def images(self) -> int:
        """Number of evaluated images."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Top-1 accuracy, 0 to 1; NaN without images."""
        return float(np.trace(self.confusion) / self.images) if self.images else float("nan")

    @property
    def interval(self) -> Interval:
        """95 % bootstrap interval of `top1` over the images."""
        return percentile_interval(resample_accuracy(self.correct))

    @property
    def top5(self) -> float:
        """Top-5 accuracy, 0 to 1; NaN without images."""
        return self.in_top5 / self.images if self.images else float("nan")

    @property
    def recall(self) -> Dict[str, Optional[float]]:
        """Recall of each class; None for a class without images."""
        return self._fractions(axis=1)

    @property
    def precision(self) -> Dict[str, Optional[float]]:
        """Precision of each class; None for a class that is never predicted."""
        return self._fractions(axis=0)

    def _fractions(self, axis: int) -> Dict[str, Optional[float]]:
        correct, total = np.diag(self.confusion), self.confusion.sum(axis=axis)
        return {name: float(c / n) if n else None for name, c, n in zip(self.classes, correct, total)}

    def as_dict(self) -> Dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "dataset": self.dataset,
            "images": self.images,
            "top1": self.top1 if self.images else None,
            "interval": self.interval.as_list(),
            "top5": self.top5 if self.images else None,
            "classes": list(self.classes),
            "recall": self.recall,
            "precision": self.precision,
            "confusion": self.confusion.tolist(),
            "skipped": [{"image": path, "reason": reason} for path, reason in self.skipped],
        }


def evaluate_classifier(
    net: Any,
    dataset: ClassificationDataset,
    size: Size,
    crop: float = 1.0,
    batch_size: int = 32,
    workers: int = 2,
    ctx: Optional[mx.Context] = None,
    watch: Optional[Callable[[LabeledImage, np.ndarray], object]] = None,
) -> ClassificationResult:
    """Evaluate a classifier; raises DataError if no image can be read.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Classifier with the classes of `dataset`; a copy of it is folded and fused for inference.
    dataset : ClassificationDataset
    size : (int, int)
        ``(width, height)`` of the network input.
    crop : float
        Side of the central crop, as a fraction of the image; see `val_transform`.
    batch_size, workers : int
        Images per batch, and threads that read images (0: the calling thread); neither changes the result.
    ctx : mxnet.Context, optional
        Defaults to the CPU.
    watch : callable, optional
        Called with each image and its logits ``(C,)``.
    """
    ctx = ctx or mx.cpu()
    logits = partial(_logits, inference_block(net, size, ctx), ctx)
    try:
        return evaluate_scores(logits, dataset, size, crop, batch_size, workers, watch)
    finally:
        del logits
        free_dropped_blocks()


def _logits(block: Any, ctx: mx.Context, images: List[np.ndarray]) -> np.ndarray:
    return block(mx.nd.array(to_network_input(images), ctx=ctx)).asnumpy()  # type: ignore[no-any-return]


def evaluate_scores(
    scores: Callable[[List[np.ndarray]], np.ndarray],
    dataset: ClassificationDataset,
    size: Size,
    crop: float = 1.0,
    batch_size: int = 32,
    workers: int = 2,
    watch: Optional[Callable[[LabeledImage, np.ndarray], object]] = None,
) -> ClassificationResult:
    """Evaluate a function; as `evaluate_classifier`.

    `scores` takes a batch of images ``(height, width, 3)`` RGB uint8 of `size` and returns ``(B, C)``.
    """
    confusion = np.zeros((len(dataset.classes),) * 2, np.int64)
    skipped: List[Tuple[str, str]] = []
    correct: Dict[str, bool] = {}
    in_top5 = 0
    readable = _read_images(dataset, size, crop, workers, 2 * batch_size, skipped)
    with contextlib.closing(readable) as images:
        for batch in iter(lambda: list(islice(images, batch_size)), []):
            for (image, _), row in zip(batch, scores([pixels for _, pixels in batch])):
                order = np.argsort(-row, kind="stable")
                confusion[image.label, order[0]] += 1
                correct[image.image_id] = bool(order[0] == image.label)
                in_top5 += image.label in order[:5]
                if watch:
                    watch(image, row)
    if not confusion.any():
        reason = f"no image can be read; the first: {skipped[0][1]}" if skipped else "no image to evaluate on"
        raise DataError(f"{dataset.name}: {reason}")
    return ClassificationResult(dataset.classes, confusion, in_top5, skipped, correct, dataset.name)


def _read_images(
    dataset: ClassificationDataset,
    size: Size,
    crop: float,
    workers: int,
    ahead: int,
    skipped: List[Tuple[str, str]],
) -> Generator[Tuple[LabeledImage, np.ndarray], None, None]:
    """Images with their pixels as network input, in order; unreadable ones are appended to `skipped`."""

    def read(image: LabeledImage) -> Tuple[LabeledImage, Optional[np.ndarray], str]:
        try:
            return image, val_transform(dataset.read(image, size), size, crop), ""
        except ImageError as error:
            return image, None, str(error)

    for image, pixels, reason in prefetch(read, dataset, workers, ahead):
        if pixels is None:
            skipped.append((image.image_path, reason))
        else:
            yield image, pixels
