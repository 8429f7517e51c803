"""Parity check: does an export compute what its network computes?

Formats that compute in float32 must agree up to rounding (`ClassifierParityCheck`,
`export.detection_parity`); formats with rounded weights must stay within a tolerance
(`export.quantization_check`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Dict, Sequence

import numpy as np

from ..errors import ExportError

HEADS_TOLERANCE = 1e-4
"""Largest difference of logits and box offsets; relative to the largest value if that is above 1."""
SCORE_TOLERANCE = 1e-4
"""Largest difference of probabilities."""

Arrays = Sequence[np.ndarray]


class ParityCheck(ABC):
    """Comparison of one engine with the network, batch by batch."""

    @abstractmethod
    def as_dict(self) -> Dict[str, Any]:
        """Figures for the sidecar."""

    @abstractmethod
    def summary(self) -> str:
        """Figures in one line."""

    @abstractmethod
    def add(self, expected: Arrays, actual: Arrays, images: Sequence[str]) -> None:
        """Compare a batch: heads, then outputs, of the network and of the engine.

        Raises
        ------
        ExportError
            At the first image on which they differ; the message names it as in `images`.
        """

    def finish(self) -> None:  # noqa: B027 - most checks compare each image in `add`
        """Raise ExportError if the images together exceed a tolerance."""


def head_difference(image: str, head: str, expected: np.ndarray, actual: np.ndarray) -> float:
    """Largest difference of one head for one image.

    Raises
    ------
    ExportError
        If it exceeds `HEADS_TOLERANCE`, if the shapes differ, or if the network's values are not finite.
    """
    if not np.isfinite(expected).all():
        raise ExportError(f"{image}: the network's own {head} are not finite; its weights are broken")
    if expected.shape != actual.shape:
        raise ExportError(
            f"{image}: the export's {head} have shape {actual.shape}, the network's {expected.shape}"
        )
    difference = float(np.abs(expected - actual).max())
    if not difference <= HEADS_TOLERANCE * max(1.0, float(np.abs(expected).max())):  # refuses NaN too
        raise ExportError(f"{image}: the export's {head} differ from the network's by up to {difference:.3g}")
    return difference


@dataclass
class ClassifierParityCheck(ParityCheck):
    """Parity check of a classifier.

    `ambiguous` counts images whose first two classes change places because of rounding.
    """

    images: int = 0
    ambiguous: int = 0
    logits_max_difference: float = 0.0
    probability_max_difference: float = 0.0

    def as_dict(self) -> Dict[str, Any]:
        tolerances = {"logits": HEADS_TOLERANCE, "probabilities": SCORE_TOLERANCE}
        return {**asdict(self), "tolerances": tolerances}

    def summary(self) -> str:
        ambiguous = f" ({self.ambiguous} ambiguous)" if self.ambiguous else ""
        return (
            f"{self.images} images match{ambiguous}; largest differences:"
            f" logits {self.logits_max_difference:.1e}, probabilities {self.probability_max_difference:.1e}"
        )

    def add(self, expected: Arrays, actual: Arrays, images: Sequence[str]) -> None:
        """Compare logits and probabilities, ``(B, C)`` each; see `ParityCheck.add`."""
        for image, logits, scores, actual_logits, actual_scores in zip(images, *expected, *actual):
            logits_difference = head_difference(image, "logits", logits, actual_logits)
            difference = float(np.abs(scores - actual_scores).max())
            if not difference <= SCORE_TOLERANCE:  # refuses NaN too
                raise ExportError(f"{image}: the export's probabilities differ by up to {difference:.3g}")
            self.images += 1
            self.ambiguous += int(scores.argmax() != actual_scores.argmax())
            self.logits_max_difference = max(self.logits_max_difference, logits_difference)
            self.probability_max_difference = max(self.probability_max_difference, difference)
