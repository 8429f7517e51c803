"""Parity checks of rounded exports and of classifiers."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest

from mnssd.errors import ExportError
from mnssd.export.formats import FLOAT16, INT8
from mnssd.export.parity import ClassifierParityCheck
from mnssd.export.quantization_check import QuantizationCheck


def make_detections(count: int) -> List[np.ndarray]:
    """Ids, scores above 0.6 and boxes of one image."""
    rng = np.random.default_rng(count)
    ids = rng.integers(0, 3, (1, count, 1)).astype(np.float32)
    scores = np.sort(rng.uniform(0.6, 1, (1, count, 1)), axis=1)[:, ::-1].astype(np.float32)
    corners = rng.uniform(0, 100, (1, count, 2))
    return [ids, scores, np.concatenate([corners, corners + 20], axis=2).astype(np.float32)]


def test_equal_detections_pass_and_swapped_classes_do_not() -> None:
    detections = make_detections(30)
    same, swapped = QuantizationCheck(INT8), QuantizationCheck(INT8)
    same.add_detections(detections, detections)
    same.finish()
    assert (same.confident, same.agreed, same.score_mean_difference) == (60, 60, 0)
    swapped.add_detections(detections, [(detections[0] + 1) % 3, *detections[1:]])
    with pytest.raises(ExportError, match="--images.*--calibration"):
        swapped.finish()


def test_few_detections_are_not_judged_but_heads_are() -> None:
    check = QuantizationCheck(INT8)
    detections = make_detections(5)
    check.add_detections(detections, [(detections[0] + 1) % 3, *detections[1:]])
    check.finish()
    x = np.random.default_rng(0).normal(0, 1, (2, 50, 4))
    check.add_heads([x], [x + 0.01], ["a", "b"])
    check.finish()
    check.add_heads([x], [x[:, ::-1]], ["a", "b"])
    with pytest.raises(ExportError):
        check.finish()
    assert check.cosine < 0.9


def test_heads_and_detections_are_added_together() -> None:
    heads, detections = np.ones((1, 4, 3)), make_detections(30)
    check = QuantizationCheck(INT8, heads=2)
    check.add([heads, heads, *detections], [heads, heads, *detections], ["a"])
    assert (check.images, check.confident, check.cosine) == (1, 60, pytest.approx(1))
    assert check.as_dict()["tolerances"] == {"cosine": 0.9, "agreement": 0.7}


@pytest.mark.parametrize(
    ("network", "export"),
    [
        (np.full((1, 4), np.nan), np.ones((1, 4))),
        (np.ones((1, 4)), np.full((1, 4), np.nan)),
        (np.ones((1, 4)), np.ones((1, 5))),
    ],
)
def test_broken_heads_are_refused(network: np.ndarray, export: np.ndarray) -> None:
    with pytest.raises(ExportError, match="^photo: "):
        QuantizationCheck(INT8).add_heads([network], [export], ["photo"])


def test_classifiers_agree_by_their_first_class() -> None:
    check = QuantizationCheck(FLOAT16)
    check.add_probabilities(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.8, 0.2], [0.6, 0.4]]))
    assert (check.confident, check.agreed) == (4, 2)


def test_classifier_outputs_must_match() -> None:
    logits, probabilities = np.array([[1.0, 2.0, -3.0]]), np.array([[0.3, 0.7, 0.0]])
    check = ClassifierParityCheck()
    check.add([logits, probabilities], [logits + 5e-5, probabilities + 5e-5], ["a"])
    assert (check.images, check.ambiguous) == (1, 0)
    assert check.logits_max_difference == pytest.approx(5e-5)
    assert "5.0e-05" in check.summary()
    for export in ([logits + 1e-3, probabilities], [logits * np.nan, probabilities],
                   [logits, probabilities + 2e-4], [logits[:, :2], probabilities]):  # fmt: skip
        with pytest.raises(ExportError, match="^a: "):
            ClassifierParityCheck().add([logits, probabilities], export, ["a"])
    with pytest.raises(ExportError, match="^a: "):
        ClassifierParityCheck().add([logits * np.nan, probabilities], [logits, probabilities], ["a"])
    tie = np.array([[0.5, 0.500001]])
    check.add([logits[:, :2], tie], [logits[:, :2], tie[:, ::-1]], ["b"])
    assert check.ambiguous == 1
