"""Builders of samples and detections for tests of metrics."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from mnssd.data.sample import Detections, Sample
from mnssd.metrics.voc import VOCMetric, VOCResult

Box = Tuple[float, float, float, float]
UNIT: Box = (0, 0, 9, 9)  # 10 x 10 pixels


def make_sample(image_id: str, *objects: Tuple, size: Tuple[int, int] = (100, 100)) -> Sample:
    """A sample with objects ``(box, label)`` or ``(box, label, difficult)``."""
    return Sample(
        image_id,
        f"{image_id}.jpg",
        np.array([o[0] for o in objects], np.float32).reshape(-1, 4),
        np.array([o[1] for o in objects], np.int32),
        np.array([len(o) > 2 and o[2] for o in objects], bool),
        size,
    )


def make_detections(*detections: Tuple) -> Detections:
    """Detections from rows ``(box, label, score)``."""
    return Detections(
        np.array([d[0] for d in detections], np.float32).reshape(-1, 4),
        np.array([d[1] for d in detections], np.int32),
        np.array([d[2] for d in detections], np.float32),
    )


def evaluate(
    images: Sequence[Tuple[Detections, Sample]],
    metric: str = "voc12",
    iou: float = 0.5,
    classes: Sequence[str] = ("a", "b"),
) -> VOCResult:
    """The VOC metric of detections and samples."""
    voc = VOCMetric(classes, metric, iou)
    for detections, sample in images:
        voc.add(detections, sample)
    return voc.result()
