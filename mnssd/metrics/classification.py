"""Running a classifier over labelled images, and how right it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.classification.image_label import ClassificationDataset, LabeledImage
from ..data.classification.transforms import val_transform
from ..data.image import to_network_input
from ..errors import DataError, ImageError
from ..graph.inference import free_dropped_blocks, inference_block

Size = Tuple[int, int]


@dataclass(frozen=True)
class ClassResult:
    """What a classifier got right.

    Attributes
    ----------
    classes : tuple of str
    confusion : numpy.ndarray
        ``(C, C)`` int: rows are what the images show, columns what was answered.
    in_top5 : int
        Images whose class is among the five best answers.
    skipped : list of (str, str)
        Images that could not be read, and why. They count nowhere else.
    """

    classes: Tuple[str, ...]
    confusion: np.ndarray
    in_top5: int
    skipped: List[Tuple[str, str]]

    @property
    def images(self) -> int:
        """How many were measured."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of images whose best answer is right; NaN without images."""
        return float(np.trace(self.confusion) / self.images) if self.images else float("nan")

    @property
    def top5(self) -> float:
        """Share of images whose class is among the five best answers; NaN without images."""
        return self.in_top5 / self.images if self.images else float("nan")

    def as_dict(self) -> Dict[str, Any]:
        """For JSON."""
        recall, precision = _shares(self.confusion)
        return {
            "images": self.images,
            "top1": self.top1 if self.images else None,
            "top5": self.top5 if self.images else None,
            "classes": list(self.classes),
            "recall": dict(zip(self.classes, recall)),
            "precision": dict(zip(self.classes, precision)),
            "confusion": self.confusion.tolist(),
            "skipped": [{"image": path, "reason": reason} for path, reason in self.skipped],
        }


def _shares(confusion: np.ndarray) -> Tuple[List[Optional[float]], List[Optional[float]]]:
    right = np.diag(confusion)

    def share(of: np.ndarray) -> List[Optional[float]]:
        return [float(a / b) if b else None for a, b in zip(right, of)]

    return share(confusion.sum(axis=1)), share(confusion.sum(axis=0))


def classify(
    answer: Any,
    images: Sequence[LabeledImage],
    dataset: ClassificationDataset,
    size: Size,
    part: float,
    batch_size: int,
    ctx: mx.Context,
    skipped: Optional[List[Tuple[str, str]]] = None,
) -> Iterator[Tuple[LabeledImage, np.ndarray]]:
    """Logits ``(C,)`` for each image that can be read, in order.

    Parameters
    ----------
    answer : callable
        ``(B, 3, H, W)`` to ``(B, C)``.
    images, dataset
        Of `dataset`, whose ``read`` is used.
    size : (int, int)
        ``(width, height)`` of the network's input.
    part : float
        See `val_transform`.
    skipped : list, optional
        Images that cannot be read are appended; without it the first one raises ImageError.
    """
    waiting: List[Tuple[LabeledImage, np.ndarray]] = []

    def flush() -> Iterator[Tuple[LabeledImage, np.ndarray]]:
        x = mx.nd.array(to_network_input([pixels for _, pixels in waiting]), ctx=ctx)
        yield from zip([image for image, _ in waiting], answer(x).asnumpy())
        waiting.clear()

    for image in images:
        try:
            waiting.append((image, val_transform(dataset.read(image, size), size, part)))
        except ImageError as error:
            if skipped is None:
                raise
            skipped.append((image.image_path, str(error)))
            continue
        if len(waiting) == batch_size:
            yield from flush()
    if waiting:
        yield from flush()


def evaluate_classifier(
    net: Any, dataset: ClassificationDataset, size: Size, part: float = 1.0, batch_size: int = 32,
    ctx: Optional[mx.Context] = None, watch: Any = None,
) -> ClassResult:  # fmt: skip
    """Measure a classifier.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With the classes of `dataset`. It is folded and fused first.
    dataset : ClassificationDataset
    size : (int, int)
        ``(width, height)`` of the network's input.
    part : float
        See `val_transform`.
    watch : callable, optional
        Called after each image, with it and its logits.

    Raises
    ------
    DataError
        When no image could be read.
    """
    ctx = ctx or mx.cpu()
    confusion = np.zeros((len(dataset.classes),) * 2, np.int64)
    skipped: List[Tuple[str, str]] = []
    in_top5 = 0
    block = inference_block(net, size, ctx)
    try:
        for image, logits in classify(block, dataset.images, dataset, size, part, batch_size, ctx, skipped):
            order = np.argsort(-logits, kind="stable")
            confusion[image.label, order[0]] += 1
            in_top5 += image.label in order[:5]
            if watch:
                watch(image, logits)
    finally:
        del block
        free_dropped_blocks()
    if not confusion.any():
        raise DataError(f"{dataset.name}: no image could be read; the first: {skipped[0][1]}" if skipped
                        else f"{dataset.name}: no image to measure on")  # fmt: skip
    return ClassResult(dataset.classes, confusion, in_top5, skipped)


def format_classes(result: ClassResult) -> str:
    """Recall and precision of each class, the worst confusions, and top-1 and top-5 below."""
    width = max(len("class"), *(len(name) for name in result.classes))
    recall, precision = _shares(result.confusion)
    lines = [f"{'class':{width}}  images  recall  precision"]
    for name, count, r, p in zip(result.classes, result.confusion.sum(axis=1), recall, precision):
        lines.append(f"{name:{width}}  {count:6d}  {_number(r):>6}  {_number(p):>9}")
    wrong = result.confusion - np.diag(np.diag(result.confusion))
    worst = [divmod(int(i), len(result.classes)) for i in np.argsort(-wrong, axis=None, kind="stable")[:5]]
    named = [
        f"{result.classes[a]} taken for {result.classes[b]}: {wrong[a, b]}" for a, b in worst if wrong[a, b]
    ]
    if named:
        lines += ["", "most confused: " + "; ".join(named)]
    lines += ["", f"top-1 {result.top1:.4f}   top-5 {result.top5:.4f}   {result.images} images"]
    return "\n".join(lines)


def _number(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3f}"
