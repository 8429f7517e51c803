"""Text tables of evaluation results."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional

import numpy as np

from .bootstrap import RESAMPLES
from .coco import COCOResult
from .voc import VOCResult

if TYPE_CHECKING:
    from .classification import ClassificationResult
    from .comparison import Comparison, Estimate

CONFUSIONS = 5
"""Confusions shown, the most frequent ones."""


def format_voc(result: VOCResult) -> str:
    """AP, objects and detections per class, then mAP; ``-`` for classes without objects."""
    width = max(len("class"), *(len(name) for name in result.classes))
    lines = [f"{'class':{width}}       AP  positives  detections"]
    for name in result.classes:
        ap = _number(result.ap_per_class[name])
        lines.append(f"{name:{width}}  {ap:>7}  {result.positives[name]:9d}  {result.detections[name]:10d}")
    absent = sum(math.isnan(ap) for ap in result.ap_per_class.values())
    excluded = f" ({absent} without objects excluded)" if absent else ""
    return "\n".join([
        *lines,
        "",
        f"mAP ({result.metric.upper()}, IoU {result.iou_threshold:g}): {_number(result.mean_ap)}   "
        f"{result.images} images, {len(result.classes)} classes{excluded}",
        f"95 % interval of mAP over the images: {result.interval}",
    ])  # fmt: skip


def format_sizes(result: VOCResult) -> str:
    """Objects and recall by their size; ``-`` for sizes without objects."""
    head = "side in pixels"
    rows = [f"{head}  objects  matched   recall"]
    for size in result.sizes:
        recall = _number(size.recall)
        rows.append(f"{size.name:{len(head)}}  {size.objects:7d}  {size.matched:7d}  {recall:>7}")
    return "\n".join(rows)


def format_coco(result: COCOResult) -> str:
    """COCO AP per class, then COCO's metrics; ``-`` for those without objects."""
    width = max(len("recall_any_class"), *(len(name) for name in result.classes))
    rows = [f"{'class':{width}}  COCO AP"]
    rows += [f"{name:{width}}  {_number(ap):>7}" for name, ap in result.ap_per_class.items()]
    rows += [""] + [f"{name:{width}}  {_number(value):>7}" for name, value in result.metrics.items()]
    return "\n".join(rows)


def format_classification(result: ClassificationResult) -> str:
    """Images, recall and precision per class, the most frequent confusions, then top-1 and top-5."""
    classes, confusion = result.classes, result.confusion
    width = max(len("class"), *(len(name) for name in classes))
    lines = [f"{'class':{width}}  images  recall  precision"]
    for name, count in zip(classes, confusion.sum(axis=1)):
        recall, precision = (_number(value[name], 3) for value in (result.recall, result.precision))
        lines.append(f"{name:{width}}  {count:6d}  {recall:>6}  {precision:>9}")
    wrong = confusion - np.diag(np.diag(confusion))
    worst = [divmod(int(i), len(classes)) for i in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]]
    confused = [f"{classes[t]} as {classes[p]} ({wrong[t, p]})" for t, p in worst if wrong[t, p]]
    if confused:
        lines += ["", "most confused: " + ", ".join(confused)]
    lines += ["", f"top-1 {result.top1:.4f}   top-5 {result.top5:.4f}   {result.images} images"]
    lines += [f"95 % interval of top-1 over the images: {result.interval}"]
    return "\n".join(lines)


def format_comparison(comparison: Comparison) -> str:
    """AP of A and B per class with the difference, the scores with their intervals, and which is better."""
    lines = [f"A: {comparison.name_a}", f"B: {comparison.name_b}", ""]
    if comparison.per_class:
        width = max(len("class"), *map(len, comparison.per_class))
        lines += [f"{'class':{width}}        A        B    B - A  95 % interval"]
        for name, (a, b, difference) in comparison.per_class.items():
            lines += [f"{name:{width}}  {_number(a.value):>7}  {_number(b.value):>7}  {_signed(difference)}"]
        lines += [""]
    score = comparison.score
    lines += [f"{comparison.metric}, {comparison.images} images of {comparison.dataset}"]
    lines += [f"{name}: {_number(e.value)}  {e.interval}" for name, e in (("A", score.a), ("B", score.b))]
    conclusions = {None: "no difference", "a": "A is better", "b": "B is better"}
    return "\n".join([
        *lines,
        f"B - A: {_signed(score.difference).strip()}",
        f"B is better in {comparison.share_b_better:.1%} of {RESAMPLES} resamples of the images, "
        f"A in {comparison.share_a_better:.1%}",
        f"Beyond chance: {conclusions[comparison.better]}",
    ])  # fmt: skip


def _signed(difference: Estimate) -> str:
    """A difference and the interval of it, with signs."""
    value, (low, high) = difference
    return "      -" if math.isnan(value) else f"{value:+.4f}  {low:+.4f} to {high:+.4f}"


def _number(value: Optional[float], digits: int = 4) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
