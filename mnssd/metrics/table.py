"""The result of a measurement as a table for people."""

from __future__ import annotations

import math

from .coco import COCOResult
from .voc import VOCResult


def format_table(result: VOCResult) -> str:
    """AP per class with its numbers of objects and detections, and the mean below.

    A class without objects that count shows ``-`` and is left out of the mean.
    """
    width = max(len("class"), *(len(name) for name in result.classes))
    lines = [f"{'class':{width}}       AP  positives  detections"]
    for name in result.classes:
        ap = _number(result.ap_per_class[name])
        lines.append(f"{name:{width}}  {ap:>7}  {result.positives[name]:9d}  {result.detections[name]:10d}")
    lines.append("")
    left_out = sum(math.isnan(ap) for ap in result.ap_per_class.values())
    without = f", {left_out} without objects left out" if left_out else ""
    lines.append(
        f"mAP ({result.metric.upper()}, IoU {result.iou_threshold:g}): {_number(result.mean_ap)}   "
        f"{result.images} images, {len(result.classes)} classes{without}"
    )
    return "\n".join(lines)


def format_coco(result: COCOResult) -> str:
    """COCO's AP per class, and its figures below; ``-`` where no object counts."""
    width = max(len("recall_any_class"), *(len(name) for name in result.classes))
    rows = [f"{'class':{width}}  COCO AP"]
    rows += [f"{name:{width}}  {_number(ap):>7}" for name, ap in result.ap_per_class.items()]
    rows += [""] + [f"{name:{width}}  {_number(value):>7}" for name, value in result.figures.items()]
    return "\n".join(rows)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
