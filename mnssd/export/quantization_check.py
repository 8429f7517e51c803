"""How nearly an export with rounded weights answers as the network does.

8 bits do not answer the same to a tolerance, so `export.parity` cannot judge them. Here the difference is
measured and told; and what is beyond any rounding, a scale that is wrong, a layer that is lost, is refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np

from ..errors import ExportError
from .parity import box_iou

CONFIDENT = 0.5
"""Score from which a detection of one side should be known to the other, at half of it at least."""

ALIKE_IOU = 0.5
"""Two boxes of one class that overlap by this much are the same object, as the VOC metric takes it."""

ENOUGH = 20
"""With fewer confident answers on both sides together, their agreement is told and judges nothing."""


class Floor(NamedTuple):
    """What is refused below: the cosine of what both say before any decision, and the share agreed on."""

    cosine: float
    agreed: float


INT8, FLOAT16 = Floor(0.9, 0.7), Floor(0.999, 0.97)


@dataclass
class QuantizationCheck:
    """What was compared, and how much of it is alike.

    Attributes
    ----------
    floor : Floor
    images : int
    confident, agreed : int
        Answers of either side with at least `CONFIDENT`, and those that the other side gives as well.
    cosine : float
        Smallest of all images, between what the two say before any decision (class scores before the
        softmax, offsets), as one vector.
    """

    floor: Floor
    images: int = 0
    confident: int = 0
    agreed: int = 0
    cosine: float = 1.0
    _differences: List[float] = field(default_factory=list)

    @property
    def score_mean_difference(self) -> float:
        """Of the answers agreed on."""
        return float(np.mean(self._differences)) if self._differences else 0.0

    def as_dict(self) -> Dict[str, Any]:
        """For the sidecar."""
        values = {key: value for key, value in asdict(self).items() if not key.startswith("_")}
        return {**values, "floor": self.floor._asdict(), "score_mean_difference": self.score_mean_difference}

    def line(self) -> str:
        """For the user."""
        share = (
            f"{self.agreed} of {self.confident} sure answers are the same"
            if self.confident
            else "none is sure"
        )
        return (
            f"{self.images} images: {share}; scores differ by {self.score_mean_difference:.3f} on average;"
            f" cosine of the heads at least {self.cosine:.4f}"
        )

    def add_heads(
        self, network: Sequence[np.ndarray], export: Sequence[np.ndarray], images: Sequence[str]
    ) -> None:
        """Compare what both say before any decision, arrays ``(B, ...)``.

        Raises
        ------
        ExportError
            Where shapes differ, or for numbers that are not finite.
        """
        for index, image in enumerate(images):
            ours, theirs = (np.concatenate([a[index].ravel() for a in side]) for side in (network, export))
            if ours.shape != theirs.shape:
                raise ExportError(
                    f"{image}: the export answers {theirs.size} numbers, the network {ours.size}"
                )
            if not np.isfinite(ours).all():
                raise ExportError(f"{image}: the network's own answer is not finite: its weights are broken")
            if not np.isfinite(theirs).all():
                raise ExportError(f"{image}: the export's answer is not finite")
            length = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
            self.cosine = min(self.cosine, float(ours @ theirs) / length if length > 0 else 0.0)
            self.images += 1

    def add_detections(self, network: Sequence[np.ndarray], export: Sequence[np.ndarray]) -> None:
        """Compare ids and scores ``(B, K, 1)`` and boxes ``(B, K, 4)``."""
        for ours, theirs in zip(zip(*network), zip(*export)):
            for one, other in ((ours, theirs), (theirs, ours)):
                self._count(_rows(one, CONFIDENT), _rows(other, CONFIDENT / 2))

    def add_probabilities(self, network: np.ndarray, export: np.ndarray) -> None:
        """Compare what classifiers answer, ``(B, C)``."""
        for ours, theirs in zip(network, export):
            for one, other in ((ours, theirs), (theirs, ours)):
                if one.max() >= CONFIDENT:
                    self.confident += 1
                    self.agreed += int(one.argmax() == other.argmax())
                    self._differences.append(abs(float(one.max() - other[one.argmax()])))

    def check(self) -> None:
        """Refuse what is too different.

        Raises
        ------
        ExportError
        """
        share = self.agreed / self.confident if self.confident >= ENOUGH else 1.0
        if self.cosine < self.floor.cosine or share < self.floor.agreed:
            raise ExportError(
                f"the export answers too differently ({self.line()}); calibrate on images like those that it"
                " will see (--images), on more of them (--calibrate), or by another --calibration"
            )

    def _count(self, sure: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> None:
        for label, score, box in zip(*sure):
            alike = [
                (box_iou(box, other), float(other_score))
                for other_label, other_score, other in zip(*known)
                if other_label == label
            ]
            iou, its_score = max(alike, default=(0.0, 0.0))
            self.confident += 1
            if iou >= ALIKE_IOU:
                self.agreed += 1
                self._differences.append(abs(float(score) - its_score))


def _rows(answer: Sequence[np.ndarray], floor: float) -> List[np.ndarray]:
    """Labels, scores and boxes of one image with at least this score."""
    ids, scores, boxes = answer
    kept = (ids[:, 0] >= 0) & (scores[:, 0] >= floor)
    return [ids[kept, 0], scores[kept, 0], boxes[kept]]
