"""Whether an export answers as the network does, judged on images.

The class scores and box offsets of all anchors must agree. They then differ by rounding alone, and so should
the detections; only, non-maximum suppression decides, and rounding can tip a decision: of two boxes with one
score either may suppress the other, an overlap may lie at the threshold, a score at the floor. A detection
that only one of the two has is accepted where the differences measured in that very image can have tipped a
decision that it hangs on. It is then counted as ambiguous. Anything else is an error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, NamedTuple, Protocol, Sequence, Set

import numpy as np

from ..errors import ExportError

HEADS_TOLERANCE = 1e-4
"""Of class scores before the softmax and of box offsets; relative to the largest where that is above 1."""
SCORE_TOLERANCE = 1e-4
BOX_TOLERANCE = 0.1
"""Of detections: probabilities, and pixels of the network's input."""

IOU_ROUNDING = 1e-5
"""Of an overlap that MXNet computes in float32 from coordinates of some hundred pixels."""


class ParityResult(Protocol):
    """What a comparison of an export with its network found."""

    def as_dict(self) -> Dict[str, Any]:
        """For the sidecar."""

    def line(self) -> str:
        """For the user."""


class Rules(NamedTuple):
    """What non-maximum suppression goes by: the score floor, and the constants of `SSD.set_nms`."""

    score_floor: float
    nms_thresh: float
    nms_topk: int
    post_nms: int


class Answer(NamedTuple):
    """What a network says about a batch of images.

    ``cls_preds`` ``(B, A, C + 1)`` and ``box_preds`` ``(B, A, 4)`` as from `SSDHeads`; ``ids`` and
    ``scores`` ``(B, K, 1)`` and ``boxes`` ``(B, K, 4)`` as from `SSD`; and, decoded from the first two,
    ``probabilities`` ``(B, A, C)`` without the background, ``corners`` ``(B, A, 4)`` in the input's pixels.
    """

    cls_preds: np.ndarray
    box_preds: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    probabilities: np.ndarray
    corners: np.ndarray

    def of_image(self, index: int) -> Answer:
        """The same for one image, without the axis B."""
        return Answer(*(array[index] for array in self))


@dataclass
class ParityCheck:
    """What was compared, and the largest differences.

    Attributes
    ----------
    images, detections : int
        How many images, and how many detections the network has in them.
    ambiguous : int
        Detections of either that the other lacks because rounding tipped the suppression.
    heads_max_difference : float
        Of class scores before the softmax and of box offsets, over all anchors.
    score_max_difference, box_max_difference : float
        Over the detections that both have; boxes in pixels of the network's input.
    """

    images: int = 0
    detections: int = 0
    ambiguous: int = 0
    heads_max_difference: float = 0.0
    score_max_difference: float = 0.0
    box_max_difference: float = 0.0

    def as_dict(self) -> Dict[str, Any]:
        """For the sidecar, with the tolerances."""
        tolerances = {"heads": HEADS_TOLERANCE, "scores": SCORE_TOLERANCE, "boxes": BOX_TOLERANCE}
        return {**asdict(self), "tolerances": tolerances}

    def line(self) -> str:
        """For the user."""
        if not self.detections:
            return f"heads for {self.images} images agree; largest difference {self.heads_max_difference:.1e}"
        ambiguous = f" ({self.ambiguous} more hang on rounding)" if self.ambiguous else ""
        return (
            f"{self.detections} detections in {self.images} images agree{ambiguous}; largest differences:"
            f" heads {self.heads_max_difference:.1e}, scores {self.score_max_difference:.1e},"
            f" boxes {self.box_max_difference:.1e} pixels"
        )

    def add_heads(
        self, network: Sequence[np.ndarray], export: Sequence[np.ndarray], images: Sequence[str]
    ) -> None:
        """Compare class scores and box offsets alone, where an export answers nothing else.

        Raises
        ------
        ExportError
            As `add`.
        """
        for index, image in enumerate(images):
            try:
                self._add_heads([array[index] for array in network], [array[index] for array in export])
            except ExportError as error:
                raise ExportError(f"{image}: {error}") from error
            self.images += 1

    def add(self, network: Answer, export: Answer, rules: Rules, images: Sequence[str]) -> None:
        """Compare the answers to a batch; `images` are names for the messages.

        Raises
        ------
        ExportError
            At the first image on which they differ.
        """
        for index, image in enumerate(images):
            ours, theirs = network.of_image(index), export.of_image(index)
            try:
                self._add_heads(ours[:2], theirs[:2])
                self._add_detections(ours, theirs, rules)
            except ExportError as error:
                raise ExportError(f"{image}: {error}") from error
            self.images += 1

    def _add_heads(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
        for what, a, b in zip(("class scores", "box offsets"), ours, theirs):
            if not np.isfinite(a).all():
                raise ExportError(f"the network's own {what} are not finite: its weights are broken")
            if a.shape != b.shape:
                raise ExportError(f"the export's {what} are {b.shape}, the network's {a.shape}")
            difference = float(np.abs(a - b).max())
            if not difference <= HEADS_TOLERANCE * max(
                1.0, float(np.abs(a).max())
            ):  # so put, it refuses NaN too
                raise ExportError(f"the export's {what} differ from the network's by up to {difference:.3g}")
            self.heads_max_difference = max(self.heads_max_difference, difference)

    def _add_detections(self, ours: Answer, theirs: Answer, rules: Rules) -> None:
        found, others = _Found(ours, rules), _Found(theirs, rules)
        pairs = _match(found, others)
        found.lonely -= set(pairs)
        others.lonely -= set(pairs.values())
        _explain(found, others, _Noise(ours, theirs, rules), rules)
        for who, side in (("network", found), ("export", others)):
            for i in sorted(side.lonely):
                # Rounding makes no boxes: whatever was suppressed, the network must have it as a candidate.
                if i not in side.explained or not _is_candidate(side, i, ours):
                    where = ", ".join(f"{value:.1f}" for value in side.boxes[i])
                    what = f"class {int(side.ids[i])} with score {side.scores[i]:.4f} at ({where})"
                    raise ExportError(f"only the {who} finds {what}")
        self.detections += len(found.ids)
        self.ambiguous += len(found.lonely) + len(others.lonely)
        for mine, its in pairs.items():
            score = abs(float(found.scores[mine]) - float(others.scores[its]))
            box_difference = float(np.abs(found.boxes[mine] - others.boxes[its]).max())
            self.score_max_difference = max(self.score_max_difference, score)
            self.box_max_difference = max(self.box_max_difference, box_difference)


class _Found:
    """The detections of one image, best first.

    ``ids`` and ``scores`` are ``(N,)``, ``boxes`` ``(N, 4)``. ``cut`` is the score at which candidates fall
    out, by the floor or by their number. ``lonely`` are the detections without a counterpart in the other
    answer, ``explained`` those of them that rounding accounts for.
    """

    def __init__(self, answer: Answer, rules: Rules) -> None:
        rows = np.flatnonzero(answer.ids[:, 0] >= 0)
        self.ids, self.scores, self.boxes = answer.ids[rows, 0], answer.scores[rows, 0], answer.boxes[rows]
        self.cut = rules.score_floor
        candidates = np.sort(answer.probabilities[answer.probabilities > rules.score_floor])[::-1]
        if 0 < rules.nms_topk < len(candidates):
            self.cut = float(candidates[rules.nms_topk - 1])
        if len(rows) == rules.post_nms:
            self.cut = max(self.cut, float(self.scores.min()))
        self.lonely = set(range(len(rows)))
        self.explained: Set[int] = set()


class _Noise:
    """The largest difference between two answers to one image: of scores, and of candidates' boxes."""

    def __init__(self, ours: Answer, theirs: Answer, rules: Rules) -> None:
        candidates = ours.probabilities.max(axis=1) > rules.score_floor / 2
        score = float(np.abs(ours.probabilities - theirs.probabilities).max())
        box = float(np.abs(ours.corners - theirs.corners)[candidates].max(initial=0.0))
        self.score, self.box = min(score, SCORE_TOLERANCE), min(box, BOX_TOLERANCE)

    def of_iou(self, a: np.ndarray, b: np.ndarray) -> float:
        """By how much the overlap of two boxes may be off.

        Moving one edge of a box of w x h pixels by d changes its area by d / w or d / h of itself, and
        four edges bear on the intersection and four on the union.
        """
        side = min(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
        return 8 * self.box / max(float(side), 1e-6) + IOU_ROUNDING


def _match(ours: _Found, theirs: _Found) -> Dict[int, int]:
    """Pairs of one class whose scores and boxes are equal up to the tolerances; none is in two pairs."""
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


def _explain(ours: _Found, theirs: _Found, noise: _Noise, rules: Rules) -> None:
    """Fill `explained` of both, until nothing is added: one tipped decision can lead to the next."""
    before = -1
    while len(ours.explained) + len(theirs.explained) > before:
        before = len(ours.explained) + len(theirs.explained)
        for found, others in ((ours, theirs), (theirs, ours)):
            found.explained |= {i for i in found.lonely if _is_explained(i, found, others, noise, rules)}


def _is_explained(i: int, found: _Found, others: _Found, noise: _Noise, rules: Rules) -> bool:
    """Whether rounding can be the reason that `others` lack the detection `i` of `found`."""
    score, box = found.scores[i], found.boxes[i]
    if score <= others.cut + noise.score:
        return True
    for rival in np.flatnonzero((others.ids == found.ids[i]) & (others.scores >= score - noise.score)):
        overlap, slack = box_iou(box, others.boxes[rival]), noise.of_iou(box, others.boxes[rival])
        if overlap < rules.nms_thresh - slack:
            continue  # it cannot have suppressed `i`
        if rival not in others.lonely:
            # `found` has both, side by side, so their overlap is not above the threshold there.
            if overlap <= rules.nms_thresh + slack:
                return True
        elif others.scores[rival] <= score + noise.score or rival in others.explained:
            return True
    return False


def _is_candidate(found: _Found, i: int, answer: Answer) -> bool:
    """Whether detection `i` is what one of the anchors of `answer` says."""
    near = np.abs(answer.corners - found.boxes[i]).max(axis=1) <= BOX_TOLERANCE
    near &= np.abs(answer.probabilities[:, int(found.ids[i])] - found.scores[i]) <= SCORE_TOLERANCE
    return bool(near.any())


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boxes as MXNet's `box_nms` computes it: widths are plain differences."""
    sides = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    overlap = float(sides[0] * sides[1])
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - overlap
    return overlap / union if union > 0 else 0.0
