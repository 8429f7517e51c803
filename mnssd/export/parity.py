"""Parity check: does an export compute what its network computes?

`ParityCheck` compares one engine with the network, batch by batch. Formats that compute in float32 must agree
up to rounding (`ClassifierParityCheck`, `export.detection_parity`); formats with rounded weights are measured
and must stay within a tolerance (`export.quantization_check`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Sequence

import numpy as np

from ..errors import ExportError

HEADS_TOLERANCE = 1e-4
"""Largest difference of logits and box offsets; relative to the largest value if that is above 1."""
SCORE_TOLERANCE = 1e-4
"""Largest difference of probabilities."""

Arrays = Sequence[np.ndarray]


class ParityResult(Protocol):
    """Figures of a parity check."""

    def as_dict(self) -> Dict[str, Any]:
        """Figures for the sidecar."""

    def summary(self) -> str:
        """Figures in one line."""


class ParityCheck(ParityResult, Protocol):
    """Comparison of an engine with the network."""

    def add(self, expected: Arrays, actual: Arrays, images: Sequence[str]) -> None:
        """Compare a batch: heads, then outputs, of the network and of the engine; `images` are names for
        messages.

        Raises
        ------
        ExportError
            At the first image on which they differ.
        """

    def finish(self) -> None:
        """Raise ExportError if the images together exceed a tolerance."""


def run_checks(
    network: Any,
    engines: Mapping[str, Any],
    new_check: Callable[[], ParityCheck],
    progress: Optional[Callable[[int], Any]] = None,
) -> Dict[str, ParityResult]:
    """Compare engines with an `ExportedNetwork` on its images.

    Parameters
    ----------
    network : ExportedNetwork
    engines : mapping of str to Engine
        Each returns ``network.tensors``.
    new_check : callable
        Makes the check of an engine.
    progress : callable, optional
        Called with the number of images after each batch.

    Raises
    ------
    ExportError
        If an engine differs.
    """
    checks = {name: new_check() for name in engines}
    for images, pixels in network.batches():
        expected = network.run(pixels)
        for name, engine in engines.items():
            checks[name].add(expected, engine(pixels), images)
        if progress:
            progress(len(images))
    for check in checks.values():
        check.finish()
    return dict(checks)


def head_difference(what: str, expected: np.ndarray, actual: np.ndarray) -> float:
    """Largest difference of one head for one image.

    Raises
    ------
    ExportError
        If it exceeds `HEADS_TOLERANCE`, if the shapes differ, or if the network's values are not finite.
    """
    if not np.isfinite(expected).all():
        raise ExportError(f"the network's own {what} are not finite; its weights are broken")
    if expected.shape != actual.shape:
        raise ExportError(f"the export's {what} have shape {actual.shape}, the network's {expected.shape}")
    difference = float(np.abs(expected - actual).max())
    if not difference <= HEADS_TOLERANCE * max(1.0, float(np.abs(expected).max())):  # refuses NaN too
        raise ExportError(f"the export's {what} differ from the network's by up to {difference:.3g}")
    return difference


@dataclass
class ClassifierParityCheck:
    """Parity check of a classifier.

    Attributes
    ----------
    images : int
    ambiguous : int
        Images whose first two classes change places because of rounding.
    logits_max_difference, probability_max_difference : float
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
        for image, logits, actual_logits, scores, actual_scores in zip(
            images, expected[0], actual[0], expected[1], actual[1]
        ):
            try:
                logits_difference = head_difference("logits", logits, actual_logits)
            except ExportError as error:
                raise ExportError(f"{image}: {error}") from error
            difference = float(np.abs(scores - actual_scores).max())
            if not difference <= SCORE_TOLERANCE:  # refuses NaN too
                raise ExportError(f"{image}: the export's probabilities differ by up to {difference:.3g}")
            self.images += 1
            self.ambiguous += int(scores.argmax() != actual_scores.argmax())
            self.logits_max_difference = max(self.logits_max_difference, logits_difference)
            self.probability_max_difference = max(self.probability_max_difference, difference)

    def finish(self) -> None:
        """See `ParityCheck`; every image has been judged already."""
