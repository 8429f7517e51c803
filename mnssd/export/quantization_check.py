"""Parity check of exports with rounded weights or activations.

Their outputs cannot equal the network's; only what exceeds any rounding, such as a wrong scale or a lost
layer, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Sequence

import numpy as np

from ..boxes import iou
from ..errors import ExportError
from .formats import Tolerance
from .parity import Arrays, ParityCheck

CONFIDENT = 0.5
"""Lowest score of the predictions that the other side should share, with at least half of this score."""

SAME_OBJECT_IOU = 0.5
"""IoU from which two boxes of one class are the same object, as in the VOC metric."""

MIN_CONFIDENT = 20
"""With fewer confident predictions, their agreement is reported but not judged."""


@dataclass
class QuantizationCheck(ParityCheck):
    """Parity check within a tolerance.

    Attributes
    ----------
    heads : int
        How many of the arrays are heads; the others are ids, scores and boxes of a detector, or a
        classifier's probabilities.
    confident, agreed : int
        Predictions of either side with a score of at least `CONFIDENT`, and those that the other side shares.
    cosine : float
        Lowest cosine similarity, over the images, of the two sides' heads as one vector.
    """

    tolerance: Tolerance
    heads: int = 1
    images: int = 0
    confident: int = 0
    agreed: int = 0
    cosine: float = 1.0
    _score_differences: List[float] = field(default_factory=list)

    @property
    def score_mean_difference(self) -> float:
        """Mean score difference of the predictions that both sides share."""
        return float(np.mean(self._score_differences)) if self._score_differences else 0.0

    def as_dict(self) -> Dict[str, Any]:
        return {
            "tolerances": self.tolerance._asdict(),
            "images": self.images,
            "confident": self.confident,
            "agreed": self.agreed,
            "cosine": self.cosine,
            "score_mean_difference": self.score_mean_difference,
        }

    def summary(self) -> str:
        shared = f"{self.agreed} of {self.confident}" if self.confident else "no"
        return (
            f"{self.images} images: {shared} confident predictions match; mean score difference"
            f" {self.score_mean_difference:.3f}, lowest cosine similarity of the heads {self.cosine:.4f}"
        )

    def add(self, expected: Arrays, actual: Arrays, images: Sequence[str]) -> None:
        """Compare a batch; see `ParityCheck.add`. Only broken arrays are refused here."""
        self.add_heads(expected[: self.heads], actual[: self.heads], images)
        outputs, actual_outputs = expected[self.heads :], actual[self.heads :]
        if len(actual_outputs) == 3:
            self.add_detections(outputs, actual_outputs)
        elif actual_outputs:
            self.add_probabilities(outputs[0], actual_outputs[0])

    def add_heads(self, expected: Arrays, actual: Arrays, images: Sequence[str]) -> None:
        """Compare arrays ``(B, ...)`` before decoding.

        Raises
        ------
        ExportError
            If shapes differ or values are not finite.
        """
        for index, image in enumerate(images):
            ours, theirs = (
                np.concatenate([array[index].ravel() for array in side]) for side in (expected, actual)
            )
            if ours.shape != theirs.shape:
                raise ExportError(f"{image}: the export has {theirs.size} outputs, the network {ours.size}")
            if not np.isfinite(ours).all():
                raise ExportError(f"{image}: the network's outputs are not finite; its weights are broken")
            if not np.isfinite(theirs).all():
                raise ExportError(f"{image}: the export's outputs are not finite")
            length = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
            self.cosine = min(self.cosine, float(ours @ theirs) / length if length > 0 else 0.0)
            self.images += 1

    def add_detections(self, expected: Arrays, actual: Arrays) -> None:
        """Compare ids and scores ``(B, K, 1)`` and boxes ``(B, K, 4)``."""
        for ours, theirs in zip(zip(*expected), zip(*actual)):
            for side, other in ((ours, theirs), (theirs, ours)):
                self._count_detections(_above(side, CONFIDENT), _above(other, CONFIDENT / 2))

    def add_probabilities(self, expected: np.ndarray, actual: np.ndarray) -> None:
        """Compare a classifier's probabilities ``(B, C)`` by the most probable class."""
        for ours, theirs in zip(expected, actual):
            for side, other in ((ours, theirs), (theirs, ours)):
                if side.max() >= CONFIDENT:
                    self.confident += 1
                    self.agreed += int(side.argmax() == other.argmax())
                    self._score_differences.append(abs(float(side.max() - other[side.argmax()])))

    def finish(self) -> None:
        agreement = self.agreed / self.confident if self.confident >= MIN_CONFIDENT else 1.0
        if self.cosine < self.tolerance.cosine or agreement < self.tolerance.agreement:
            raise ExportError(
                f"the export differs too much from the network ({self.summary()}); calibrate on images like"
                " those it will run on (--images), on more of them (--calibration-images), with another"
                " --calibration, or use more --shared-bits"
            )

    def _count_detections(self, confident: Arrays, others: Arrays) -> None:
        labels, scores, boxes = others
        for label, score, box in zip(*confident):
            same_class = labels == label
            overlaps = iou(box, boxes[same_class])
            self.confident += 1
            if overlaps.max(initial=0.0) >= SAME_OBJECT_IOU:
                self.agreed += 1
                other_score = scores[same_class][overlaps == overlaps.max()].max()
                self._score_differences.append(abs(float(score) - float(other_score)))


def _above(outputs: Arrays, score: float) -> List[np.ndarray]:
    """Labels, scores and boxes of one image with at least this score."""
    ids, scores, boxes = outputs
    kept = (ids[:, 0] >= 0) & (scores[:, 0] >= score)
    return [ids[kept, 0], scores[kept, 0], boxes[kept]]
