"""The analyze_errors of exports: rounding alone is forgiven, and nothing else is."""

from __future__ import annotations

from typing import Callable, Dict

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.errors import ExportError
from mnssd.export.parity import BOX_TOLERANCE, Answer, ParityCheck, Rules

RULES = Rules(score_floor=0.01, nms_thresh=0.45, nms_topk=40, post_nms=25)


def suppress(probabilities: np.ndarray, corners: np.ndarray, **changed: float) -> Answer:
    """An answer with MXNet's own non-maximum suppression of ``(A, C)`` scores and ``(A, 4)`` boxes."""
    rules = RULES._replace(**changed)
    rows = [
        np.column_stack([np.where(scores > rules.score_floor, label, -1), scores, corners])
        for label, scores in enumerate(probabilities.T)
    ]
    found = mx.nd.contrib.box_nms(
        mx.nd.array(np.concatenate(rows)[None]),
        overlap_thresh=rules.nms_thresh,
        topk=rules.nms_topk,
        valid_thresh=rules.score_floor,
        id_index=0,
        score_index=1,
        coord_start=2,
    ).asnumpy()[:, : rules.post_nms]
    # Heads as different from each other as what they are decoded to.
    return Answer(
        probabilities[None] * 10,
        corners[None] / 100,
        found[..., :1],
        found[..., 1:2],
        found[..., 2:],
        probabilities[None],
        corners[None],
    )


def candidates(seed: int, count: int = 60, levels: int = 0) -> Dict[str, np.ndarray]:
    """Crowded boxes; with `levels`, scores of few values and boxes on a grid, so that ties abound."""
    rng = np.random.default_rng(seed)
    centre, side = rng.uniform(30, 90, (count, 2)), rng.uniform(10, 50, (count, 2))
    probabilities = rng.uniform(0.001, 0.999, (count, 2)) ** 2
    if levels:
        probabilities = np.ceil(probabilities * levels) / levels * 0.9
        centre, side = np.round(centre / 5) * 5, np.round(side / 10) * 10 + 10
    corners = np.hstack([centre - side / 2, centre + side / 2])
    return {"probabilities": probabilities.astype(np.float32), "corners": corners.astype(np.float32)}


def analyze_errors(network: Answer, export: Answer) -> ParityCheck:
    """Compare one image."""
    comparison = ParityCheck()
    comparison.add(network, export, RULES, ["picture.jpg"])
    return comparison


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 5, 20]), st.sampled_from([1e-7, 1e-6, 2e-5]))
def test_rounding_is_always_forgiven(seed: int, levels: int, noise: float) -> None:
    """Whatever a small difference before the suppression leads to after it, ties and all."""
    exact = candidates(seed, levels=levels)
    rng = np.random.default_rng(seed + 1)
    rounded = {
        "probabilities": exact["probabilities"] + rng.uniform(-noise, noise, exact["probabilities"].shape),
        "corners": exact["corners"] + rng.uniform(-100 * noise, 100 * noise, exact["corners"].shape),
    }
    other = suppress(**{key: value.astype(np.float32) for key, value in rounded.items()})
    network = suppress(**exact)
    # The heads are not in question here, only what is after them.
    analyze_errors(network, other._replace(cls_preds=network.cls_preds, box_preds=network.box_preds))


def test_ties_are_counted_as_ambiguous() -> None:
    two = np.array([[20, 20, 60, 60], [24, 20, 64, 60]], np.float32)
    network = suppress(np.array([[0.5], [0.499999]], np.float32), two)
    other = suppress(np.array([[0.499999], [0.5]], np.float32), two)
    same_heads = {"cls_preds": network.cls_preds, "box_preds": network.box_preds}
    assert analyze_errors(network, other._replace(**same_heads)).ambiguous == 2
    clear = suppress(np.array([[0.499], [0.5]], np.float32), two)
    # As clear a difference in the heads is refused before anybody looks at detections.
    with pytest.raises(ExportError, match="class scores differ"):
        analyze_errors(network, clear)


def drop_best(answer: Answer) -> Answer:
    """The best detection is gone."""
    ids = answer.ids.copy()
    ids[0, 0] = -1
    return answer._replace(ids=ids)


def other_class(answer: Answer) -> Answer:
    """The best detection has the other class."""
    ids = answer.ids.copy()
    ids[0, 0] = 1 - ids[0, 0]
    return answer._replace(ids=ids)


def shift_box(answer: Answer) -> Answer:
    """One box is off by more than the tolerance, though its score and surroundings are right."""
    boxes = answer.boxes.copy()
    boxes[0, 1, 0] += 2 * BOX_TOLERANCE
    return answer._replace(boxes=boxes)


def change_score(answer: Answer) -> Answer:
    """One score is off."""
    scores = answer.scores.copy()
    scores[0, 2] += 5e-4
    return answer._replace(scores=scores)


def invent(answer: Answer) -> Answer:
    """A detection twice: the suppression has failed."""
    ids, scores, boxes = (array.copy() for array in answer[2:5])
    for array in (ids, scores, boxes):
        array[0, -1] = array[0, 0]
    return answer._replace(ids=ids, scores=scores, boxes=boxes)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
@pytest.mark.parametrize("fault", [drop_best, other_class, shift_box, change_score, invent])
def test_faults_are_refused(fault: Callable[[Answer], Answer], seed: int) -> None:
    network = suppress(**candidates(seed))
    with pytest.raises(ExportError, match=r"^image\.jpg: only the (network|export) finds class [01]"):
        analyze_errors(network, fault(network))


@pytest.mark.parametrize(
    "changed",
    [{"nms_thresh": 0.6}, {"nms_thresh": 0.3}, {"nms_topk": 20}, {"post_nms": 8}, {"score_floor": 0.7}],
)
def test_another_suppression_is_refused(changed: Dict[str, float]) -> None:
    scene = candidates(3)
    with pytest.raises(ExportError, match="only the"):
        analyze_errors(suppress(**scene), suppress(**scene, **changed))


def test_classes_that_suppress_each_other_are_refused() -> None:
    """MXNet's ONNX exporter does that; here by hand: two classes at one place, one of them gone."""
    corners = np.array([[10, 10, 50, 50]], np.float32)
    network = suppress(np.array([[0.6, 0.3]], np.float32), corners)
    ids = network.ids.copy()
    assert (ids[0, :, 0] >= 0).sum() == 2
    ids[0, 1] = -1
    with pytest.raises(ExportError, match="only the network finds class 1 with score 0.3000"):
        analyze_errors(network, network._replace(ids=ids))


@pytest.mark.parametrize("value", [np.nan, np.inf, 5e-3])
@pytest.mark.parametrize("which", ["cls_preds", "box_preds"])
def test_heads_must_agree(which: str, value: float) -> None:
    network = suppress(**candidates(0))
    heads = getattr(network, which).copy()
    heads[0, 5, 1] += value
    with pytest.raises(ExportError, match=r"image\.jpg: the export's (class scores|box offsets) differ"):
        analyze_errors(network, network._replace(**{which: heads}))


def test_a_broken_network_is_not_exported() -> None:
    network = suppress(**candidates(0))
    broken = network._replace(cls_preds=np.full_like(network.cls_preds, np.nan))
    with pytest.raises(ExportError, match="not finite"):
        analyze_errors(broken, broken)


def test_figures() -> None:
    network = suppress(**candidates(0))
    off = network._replace(
        scores=network.scores - np.float32(3e-5),
        boxes=network.boxes + np.float32(0.02),
        box_preds=network.box_preds + np.float32(5e-5),
    )
    comparison = analyze_errors(network, off)
    assert (comparison.images, comparison.ambiguous) == (1, 0)
    assert comparison.detections == (network.ids >= 0).sum() > 5
    assert comparison.heads_max_difference == pytest.approx(5e-5, rel=0.01)
    assert comparison.score_max_difference == pytest.approx(3e-5, rel=0.01)
    assert comparison.box_max_difference == pytest.approx(0.02, rel=0.01)
    assert "agree" in comparison.line()
