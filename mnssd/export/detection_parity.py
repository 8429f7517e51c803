"""Parity check of a detector that computes in float32.

The class scores and box offsets of all anchors must agree up to rounding, and so should the detections. But
non-maximum suppression makes decisions, and rounding can tip one: either of two boxes with equal scores may
suppress the other, an IoU may lie at the threshold, a score at the floor. A detection that only one side has
is accepted, and counted as ambiguous, if the differences measured in that image can have tipped a decision
that it depends on. Anything else is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, NamedTuple, Sequence, Set, Tuple

import numpy as np

from ..boxes import iou
from ..errors import ExportError
from .parity import HEADS_TOLERANCE, SCORE_TOLERANCE, Arrays, ParityCheck, head_difference

BOX_TOLERANCE = 0.1
"""Largest difference of a detection's box, in pixels of the network's input."""

IOU_ROUNDING = 1e-5
"""Rounding of an IoU that MXNet computes in float32 from coordinates of some hundred pixels."""

Decode = Callable[[np.ndarray, np.ndarray], Tuple[np.ndarray, np.ndarray]]
"""From ``cls_preds`` and ``box_preds`` to ``probabilities`` and ``corners``; see `DetectorOutputs`."""


class Suppression(NamedTuple):
    """The score floor, and the arguments of `SSD.set_nms`."""

    score_floor: float
    nms_thresh: float
    nms_topk: int
    post_nms: int


class DetectorOutputs(NamedTuple):
    """What a detector computes for one image, or for a batch with another axis in front.

    ``cls_preds`` ``(A, C + 1)`` and ``box_preds`` ``(A, 4)`` are those of `SSDHeads`; ``ids`` ``(K, 1)``,
    ``scores`` ``(K, 1)`` and ``boxes`` ``(K, 4)`` those of `SSD`. ``probabilities`` ``(A, C)`` without the
    background and ``corners`` ``(A, 4)`` in pixels of the input are decoded from the first two.
    """

    cls_preds: np.ndarray
    box_preds: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    probabilities: np.ndarray
    corners: np.ndarray

    def image(self, index: int) -> DetectorOutputs:
        """The outputs for one image of the batch."""
        return DetectorOutputs(*(array[index] for array in self))


@dataclass
class DetectionParityCheck(ParityCheck):
    """Parity check of a detector.

    Attributes
    ----------
    ambiguous : int
        Detections of one side that the other lacks because rounding tipped the suppression.
    heads_max_difference : float
        Of class scores and box offsets, over all anchors.
    score_max_difference, box_max_difference : float
        Of the detections that both sides have; boxes in pixels of the network's input.
    """

    suppression: Suppression
    decode: Decode
    images: int = 0
    detections: int = 0
    ambiguous: int = 0
    heads_max_difference: float = 0.0
    score_max_difference: float = 0.0
    box_max_difference: float = 0.0

    def as_dict(self) -> Dict[str, Any]:
        figures = {key: value for key, value in vars(self).items() if key not in ("suppression", "decode")}
        tolerances = {"heads": HEADS_TOLERANCE, "scores": SCORE_TOLERANCE, "boxes": BOX_TOLERANCE}
        return {**figures, "tolerances": tolerances}

    def summary(self) -> str:
        if not self.detections:
            return f"heads of {self.images} images match; largest difference {self.heads_max_difference:.1e}"
        ambiguous = f" ({self.ambiguous} more ambiguous)" if self.ambiguous else ""
        return (
            f"{self.detections} detections in {self.images} images match{ambiguous}; largest differences:"
            f" heads {self.heads_max_difference:.1e}, scores {self.score_max_difference:.1e},"
            f" boxes {self.box_max_difference:.1e} pixels"
        )

    def add(self, expected: Arrays, actual: Arrays, images: Sequence[str]) -> None:
        """Compare a batch; see `ParityCheck.add`. An export with raw heads has no outputs to compare."""
        for index, image in enumerate(images):
            for head, ours, theirs in zip(("class scores", "box offsets"), expected, actual):
                difference = head_difference(image, head, ours[index], theirs[index])
                self.heads_max_difference = max(self.heads_max_difference, difference)
        self.images += len(images)
        if len(actual) == 2:
            return
        network, export = (
            DetectorOutputs._make([*side, *self.decode(side[0], side[1])]) for side in (expected, actual)
        )
        for index, image in enumerate(images):
            self._compare_detections(image, network.image(index), export.image(index))

    def _compare_detections(self, image: str, network: DetectorOutputs, export: DetectorOutputs) -> None:
        ours, theirs = _Side(network, self.suppression), _Side(export, self.suppression)
        pairs = _match(ours, theirs)
        ours.unmatched -= set(pairs)
        theirs.unmatched -= set(pairs.values())
        _explain(ours, theirs, _Rounding(network, export, self.suppression), self.suppression)
        for name, side in (("network", ours), ("export", theirs)):
            for i in sorted(side.unmatched):
                # Rounding creates no boxes: the network must have every detection as a candidate.
                if i not in side.explained or not _is_candidate(side, i, network):
                    box = ", ".join(f"{value:.1f}" for value in side.boxes[i])
                    detection = f"class {int(side.ids[i])} with score {side.scores[i]:.4f} at ({box})"
                    raise ExportError(f"{image}: only the {name} detects {detection}")
        self.detections += len(ours.ids)
        self.ambiguous += len(ours.unmatched) + len(theirs.unmatched)
        for mine, other in pairs.items():
            score_difference = abs(float(ours.scores[mine]) - float(theirs.scores[other]))
            box_difference = float(np.abs(ours.boxes[mine] - theirs.boxes[other]).max())
            self.score_max_difference = max(self.score_max_difference, score_difference)
            self.box_max_difference = max(self.box_max_difference, box_difference)


class _Side:
    """Detections of the network or the export in one image, best first.

    ``ids`` and ``scores`` are ``(N,)``, ``boxes`` ``(N, 4)``. ``cut`` is the score below which candidates are
    dropped, by the floor or by their number. ``unmatched`` are the detections that the other side lacks,
    ``explained`` those of them that rounding accounts for.
    """

    def __init__(self, outputs: DetectorOutputs, suppression: Suppression) -> None:
        rows = np.flatnonzero(outputs.ids[:, 0] >= 0)
        self.ids, self.scores, self.boxes = outputs.ids[rows, 0], outputs.scores[rows, 0], outputs.boxes[rows]
        self.cut = suppression.score_floor
        above_floor = outputs.probabilities > suppression.score_floor
        candidates = np.sort(outputs.probabilities[above_floor])[::-1]
        if 0 < suppression.nms_topk < len(candidates):
            self.cut = float(candidates[suppression.nms_topk - 1])
        if len(rows) == suppression.post_nms:
            self.cut = max(self.cut, float(self.scores.min()))
        self.unmatched = set(range(len(rows)))
        self.explained: Set[int] = set()


class _Rounding:
    """The largest differences between the two sides in one image: of scores, and of candidates' boxes."""

    def __init__(self, network: DetectorOutputs, export: DetectorOutputs, suppression: Suppression) -> None:
        candidates = network.probabilities.max(axis=1) > suppression.score_floor / 2
        score = float(np.abs(network.probabilities - export.probabilities).max())
        box = float(np.abs(network.corners - export.corners)[candidates].max(initial=0.0))
        self.score, self.box = min(score, SCORE_TOLERANCE), min(box, BOX_TOLERANCE)

    def of_iou(self, a: np.ndarray, b: np.ndarray) -> float:
        """Largest error of the IoU of two boxes.

        Moving one edge of a w x h box by d changes its area by d / w or d / h of itself; the intersection
        depends on four edges and the union on four.
        """
        side = min(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
        return 8 * self.box / max(float(side), 1e-6) + IOU_ROUNDING


def _match(ours: _Side, theirs: _Side) -> Dict[int, int]:
    """Disjoint pairs of one class whose scores and boxes are equal up to the tolerances."""
    pairs: Dict[int, int] = {}
    free = np.ones(len(theirs.ids), bool)
    for i, (class_id, score, box) in enumerate(zip(ours.ids, ours.scores, ours.boxes)):
        distance = np.abs(theirs.boxes - box).max(axis=1)
        fits = free & (theirs.ids == class_id) & (distance <= BOX_TOLERANCE)
        fits &= np.abs(theirs.scores - score) <= SCORE_TOLERANCE
        if fits.any():
            pairs[i] = int(np.where(fits, distance, np.inf).argmin())
            free[pairs[i]] = False
    return pairs


def _explain(ours: _Side, theirs: _Side, rounding: _Rounding, suppression: Suppression) -> None:
    """Fill `explained` of both sides until nothing is added: one tipped decision can cause the next."""
    before = -1
    while len(ours.explained) + len(theirs.explained) > before:
        before = len(ours.explained) + len(theirs.explained)
        for side, other in ((ours, theirs), (theirs, ours)):
            side.explained |= {
                i for i in side.unmatched if _is_explained(i, side, other, rounding, suppression)
            }


def _is_explained(i: int, side: _Side, other: _Side, rounding: _Rounding, suppression: Suppression) -> bool:
    """Whether rounding can be the reason that `other` lacks detection `i` of `side`."""
    score, box = side.scores[i], side.boxes[i]
    if score <= other.cut + rounding.score:
        return True
    rivals = (other.ids == side.ids[i]) & (other.scores >= score - rounding.score)
    for rival in np.flatnonzero(rivals):
        overlap, slack = float(iou(box, other.boxes[rival])), rounding.of_iou(box, other.boxes[rival])
        if overlap < suppression.nms_thresh - slack:
            continue  # it cannot have suppressed `i`
        if rival not in other.unmatched:
            # `side` has both detections, so their IoU is not above the threshold there.
            if overlap <= suppression.nms_thresh + slack:
                return True
        elif other.scores[rival] <= score + rounding.score or rival in other.explained:
            return True
    return False


def _is_candidate(side: _Side, i: int, network: DetectorOutputs) -> bool:
    """Whether detection `i` belongs to an anchor of the network."""
    near = np.abs(network.corners - side.boxes[i]).max(axis=1) <= BOX_TOLERANCE
    near &= np.abs(network.probabilities[:, int(side.ids[i])] - side.scores[i]) <= SCORE_TOLERANCE
    return bool(near.any())
