"""Parity check of detectors: differences by rounding are accepted, all others are refused."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.errors import ExportError
from mnssd.export.detection_parity import BOX_TOLERANCE, DetectionParityCheck, DetectorOutputs, Suppression

SUPPRESSION = Suppression(score_floor=0.01, nms_thresh=0.45, nms_topk=40, post_nms=25)


def suppress(probabilities: np.ndarray, corners: np.ndarray, **changed: float) -> DetectorOutputs:
    """Outputs of MXNet's own non-maximum suppression of ``(A, C)`` scores and ``(A, 4)`` boxes."""
    suppression = SUPPRESSION._replace(**changed)
    rows = [
        np.column_stack([np.where(scores > suppression.score_floor, label, -1), scores, corners])
        for label, scores in enumerate(probabilities.T)
    ]
    rows_out = mx.nd.contrib.box_nms(
        mx.nd.array(np.concatenate(rows)[None]),
        overlap_thresh=suppression.nms_thresh,
        topk=suppression.nms_topk,
        valid_thresh=suppression.score_floor,
        id_index=0,
        score_index=1,
        coord_start=2,
    ).asnumpy()[:, : suppression.post_nms]
    # Heads that differ between two calls as much as what they decode to.
    return DetectorOutputs(
        probabilities[None] * 10,
        corners[None] / 100,
        rows_out[..., :1],
        rows_out[..., 1:2],
        rows_out[..., 2:],
        probabilities[None],
        corners[None],
    )


def candidates(seed: int, count: int = 60, levels: int = 0) -> Dict[str, np.ndarray]:
    """Crowded boxes; with `levels`, scores of few values and boxes on a grid, for many ties."""
    rng = np.random.default_rng(seed)
    center, side = rng.uniform(30, 90, (count, 2)), rng.uniform(10, 50, (count, 2))
    probabilities = rng.uniform(0.001, 0.999, (count, 2)) ** 2
    if levels:
        probabilities = np.ceil(probabilities * levels) / levels * 0.9
        center, side = np.round(center / 5) * 5, np.round(side / 10) * 10 + 10
    corners = np.hstack([center - side / 2, center + side / 2])
    return {"probabilities": probabilities.astype(np.float32), "corners": corners.astype(np.float32)}


def compare(network: DetectorOutputs, export: DetectorOutputs) -> DetectionParityCheck:
    """Compare one image; decoding is replaced by the given probabilities and corners."""
    decoded = iter([network, export])

    def decode(*_: Any) -> Tuple[np.ndarray, np.ndarray]:
        outputs = next(decoded)
        return outputs.probabilities, outputs.corners

    check = DetectionParityCheck(SUPPRESSION, decode)
    check.add(network[:5], export[:5], ["image.jpg"])
    check.finish()
    return check


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 5, 20]), st.sampled_from([1e-7, 1e-6, 2e-5]))
def test_rounding_is_always_accepted(seed: int, levels: int, noise: float) -> None:
    """Small differences before the suppression, whatever they lead to after it, ties included."""
    exact = candidates(seed, levels=levels)
    rng = np.random.default_rng(seed + 1)
    rounded = {
        "probabilities": exact["probabilities"] + rng.uniform(-noise, noise, exact["probabilities"].shape),
        "corners": exact["corners"] + rng.uniform(-100 * noise, 100 * noise, exact["corners"].shape),
    }
    export = suppress(**{key: value.astype(np.float32) for key, value in rounded.items()})
    network = suppress(**exact)
    # Only what follows the heads is compared here.
    compare(network, export._replace(cls_preds=network.cls_preds, box_preds=network.box_preds))


def test_ties_broken_by_rounding_are_ambiguous() -> None:
    boxes = np.array([[20, 20, 60, 60], [24, 20, 64, 60]], np.float32)
    network = suppress(np.array([[0.5], [0.499999]], np.float32), boxes)
    export = suppress(np.array([[0.499999], [0.5]], np.float32), boxes)
    same_heads = {"cls_preds": network.cls_preds, "box_preds": network.box_preds}
    assert compare(network, export._replace(**same_heads)).ambiguous == 2
    clear = suppress(np.array([[0.499], [0.5]], np.float32), boxes)
    with pytest.raises(ExportError, match=r"image\.jpg"):
        compare(network, clear)


def drop_best(outputs: DetectorOutputs) -> DetectorOutputs:
    """Drop the best detection."""
    ids = outputs.ids.copy()
    ids[0, 0] = -1
    return outputs._replace(ids=ids)


def other_class(outputs: DetectorOutputs) -> DetectorOutputs:
    """Give the best detection the other class."""
    ids = outputs.ids.copy()
    ids[0, 0] = 1 - ids[0, 0]
    return outputs._replace(ids=ids)


def shift_box(outputs: DetectorOutputs) -> DetectorOutputs:
    """Shift a box by more than the tolerance."""
    boxes = outputs.boxes.copy()
    boxes[0, 1, 0] += 2 * BOX_TOLERANCE
    return outputs._replace(boxes=boxes)


def change_score(outputs: DetectorOutputs) -> DetectorOutputs:
    """Change a score."""
    scores = outputs.scores.copy()
    scores[0, 2] += 5e-4
    return outputs._replace(scores=scores)


def duplicate(outputs: DetectorOutputs) -> DetectorOutputs:
    """Repeat a detection, as if the suppression had failed."""
    ids, scores, boxes = (array.copy() for array in outputs[2:5])
    for array in (ids, scores, boxes):
        array[0, -1] = array[0, 0]
    return outputs._replace(ids=ids, scores=scores, boxes=boxes)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
@pytest.mark.parametrize("fault", [drop_best, other_class, shift_box, change_score, duplicate])
def test_faults_are_refused(fault: Callable[[DetectorOutputs], DetectorOutputs], seed: int) -> None:
    network = suppress(**candidates(seed))
    with pytest.raises(ExportError, match=r"^image\.jpg: .*class [01]"):
        compare(network, fault(network))


@pytest.mark.parametrize(
    "changed",
    [{"nms_thresh": 0.6}, {"nms_thresh": 0.3}, {"nms_topk": 20}, {"post_nms": 8}, {"score_floor": 0.7}],
)
def test_different_nms_settings_are_refused(changed: Dict[str, float]) -> None:
    scene = candidates(3)
    with pytest.raises(ExportError, match=r"image\.jpg: .*class [01]"):
        compare(suppress(**scene), suppress(**scene, **changed))


def test_suppression_across_classes_is_refused() -> None:
    """As MXNet's ONNX exporter does: of two classes in one place, one is missing."""
    corners = np.array([[10, 10, 50, 50]], np.float32)
    network = suppress(np.array([[0.6, 0.3]], np.float32), corners)
    ids = network.ids.copy()
    assert (ids[0, :, 0] >= 0).sum() == 2
    ids[0, 1] = -1
    with pytest.raises(ExportError, match=r"^image\.jpg: .*class 1 .*0\.3000"):
        compare(network, network._replace(ids=ids))


@pytest.mark.parametrize("value", [np.nan, np.inf, 5e-3])
@pytest.mark.parametrize("which", ["cls_preds", "box_preds"])
def test_heads_must_agree(which: str, value: float) -> None:
    network = suppress(**candidates(0))
    heads = getattr(network, which).copy()
    heads[0, 5, 1] += value
    with pytest.raises(ExportError, match=r"^image\.jpg: "):
        compare(network, network._replace(**{which: heads}))


def test_network_with_nan_heads_is_refused() -> None:
    network = suppress(**candidates(0))
    broken = network._replace(cls_preds=np.full_like(network.cls_preds, np.nan))
    with pytest.raises(ExportError, match=r"image\.jpg"):
        compare(broken, broken)


def test_largest_differences_are_reported() -> None:
    network = suppress(**candidates(0))
    off = network._replace(
        scores=network.scores - np.float32(3e-5),
        boxes=network.boxes + np.float32(0.02),
        box_preds=network.box_preds + np.float32(5e-5),
    )
    check = compare(network, off)
    assert (check.images, check.ambiguous) == (1, 0)
    assert check.detections == (network.ids >= 0).sum() > 5
    assert check.heads_max_difference == pytest.approx(5e-5, rel=0.01)
    assert check.score_max_difference == pytest.approx(3e-5, rel=0.01)
    assert check.box_max_difference == pytest.approx(0.02, rel=0.01)
    assert "2.0e-02" in check.summary()


def test_raw_heads_are_compared_without_detections() -> None:
    network = suppress(**candidates(0))
    check = DetectionParityCheck(SUPPRESSION, lambda *_: (network.probabilities, network.corners))
    check.add(network[:5], network[:2], ["image.jpg"])
    assert (check.images, check.detections) == (1, 0)
