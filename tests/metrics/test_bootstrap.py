"""Bootstrap intervals over images, against metrics computed anew for each resample."""

from __future__ import annotations

import json
import math
from typing import Dict, List, Sequence, Tuple

import numpy as np
import pytest
from helpers.metrics import UNIT, evaluate, make_detections, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections, Sample
from mnssd.metrics import bootstrap
from mnssd.metrics.bootstrap import Interval, draw_images, percentile_interval, resample_accuracy, resample_ap
from mnssd.metrics.voc import VOCMetric

CLASSES = ("a", "b", "c")

Images = List[Tuple[Detections, Sample]]


def random_images(seed: int, count: int) -> Images:
    """Images with objects of two of three classes, and detections near them, with few different scores."""
    rng, images = np.random.default_rng(seed), []
    for number in rng.permutation(count):
        boxes = [rng.integers(0, 3, 4) * (0, 0, 4, 4) + (10 * k, 0, 10 * k + 9, 9) for k in range(3)]
        objects = [
            (tuple(box), int(label), bool(hard))
            for box, label, hard in zip(boxes, rng.integers(0, 2, 3), rng.random(3) < 0.2)
            if rng.random() < 0.6
        ]
        found = [
            (tuple(boxes[int(rng.integers(3))] + rng.integers(-2, 3)), int(label), float(score))
            for label, score in zip(rng.integers(0, 3, 5), rng.integers(1, 6, 5) / 8)
            if rng.random() < 0.8
        ]
        images.append((make_detections(*found), make_sample(f"{number:02d}", *objects)))
    return images


def recomputed_ap(images: Images, drawn: Sequence[int], metric: str) -> Dict[str, float]:
    """AP of the images `drawn`, whose copies are images of their own."""
    voc = VOCMetric(CLASSES, metric)
    for copy, index in enumerate(drawn):
        sample = images[index][1]
        voc.add_ground_truth(
            Sample(f"copy {copy}", "", sample.boxes, sample.labels, sample.difficult, sample.size)
        )
    for index, (detections, _) in enumerate(images):
        copies = [f"copy {copy}" for copy, other in enumerate(drawn) if other == index]
        for row in range(len(detections.scores)):
            voc.add_detections(copies, detections.take([row] * len(copies)))
    return voc.result().ap_per_class


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
@pytest.mark.parametrize(("seed", "count"), [(0, 12), (1, 3), (2, 30), (3, 1)])
def test_resamples_equal_the_metric_of_the_drawn_images(seed: int, count: int, metric: str) -> None:
    images = random_images(seed, count)
    result = evaluate(images, metric, classes=CLASSES)
    counts = draw_images(result.image_ids)
    assert counts.shape == (bootstrap.RESAMPLES, count)
    assert (counts.sum(axis=1) == count).all()
    means = bootstrap.mean_over_classes(result.resampled_ap)
    for row in range(0, bootstrap.RESAMPLES, 100):
        expected = recomputed_ap(images, np.repeat(np.arange(count), counts[row]), metric)
        np.testing.assert_allclose(result.resampled_ap[row], list(expected.values()), rtol=0, atol=1e-12)
        finite = [ap for ap in expected.values() if not math.isnan(ap)]
        np.testing.assert_allclose(means[row], np.mean(finite) if finite else math.nan, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from(["voc07", "voc12"]), st.data())
def test_any_counts_equal_the_metric_of_these_images(
    seed: int, count: int, metric: str, data: st.DataObject
) -> None:
    images = random_images(seed, count)
    counts = np.array([data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))], np.uint8)
    result = evaluate(images, metric, classes=CLASSES)
    (aps,) = resample_ap([result.matches.get(name) for name in CLASSES], metric, result.image_ids, counts)
    expected = recomputed_ap(images, np.repeat(np.arange(count), counts[0]), metric)
    np.testing.assert_allclose(aps, list(expected.values()), rtol=0, atol=1e-12)


def test_every_image_once_is_the_metric_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    result = evaluate(random_images(4, 25), classes=CLASSES)
    monkeypatch.setattr(bootstrap, "_VALUES_AT_ONCE", 1)  # one resample at once
    matches = [result.matches.get(name) for name in CLASSES]
    aps = resample_ap(matches, result.metric, result.image_ids, np.ones((2, 25), np.uint8))
    np.testing.assert_allclose(aps, [list(result.ap_per_class.values())] * 2, rtol=0, atol=1e-12)


def test_interval_does_not_depend_on_the_order_of_images() -> None:
    images = random_images(5, 20)
    for k, (detections, _) in enumerate(images):  # scores of different images differ
        detections.scores[:] += np.arange(len(detections.scores)) / 100 + k / 10000
    results = [evaluate(order, classes=CLASSES) for order in (images, images[::-1])]
    assert results[0].interval == results[1].interval
    assert results[0].interval.low < results[0].mean_ap < results[0].interval.high
    assert results[0].interval_per_class == results[1].interval_per_class


def test_interval_of_ap_is_that_of_a_proportion() -> None:
    """One object and at most one detection per image: AP is the recall, a share of the images."""
    images = [
        (make_detections(*[(UNIT, 0, 0.9)] * (number % 5 != 0)), make_sample(f"{number}", (UNIT, 0)))
        for number in range(200)
    ]
    result = evaluate(images, "voc12")
    error = 1.96 * math.sqrt(0.8 * 0.2 / 200)
    assert result.mean_ap == pytest.approx(0.8, abs=1e-12)
    assert result.interval == pytest.approx((0.8 - error, 0.8 + error), abs=0.01)
    correct = {f"{number}": number % 5 != 0 for number in range(200)}
    assert percentile_interval(resample_accuracy(correct)) == pytest.approx(result.interval, abs=1e-12)
    assert result.as_dict()["interval"] == list(result.interval)


def test_nothing_to_measure_has_no_interval() -> None:
    for images in ([], [(make_detections((UNIT, 0, 0.9)), make_sample("1"))]):
        result = evaluate(images)
        assert math.isnan(result.interval.low)
        report = json.loads(json.dumps(result.as_dict(), allow_nan=False))
        assert report["interval"] is None
        assert report["interval_per_class"] == {"a": None, "b": None}
    assert Interval(0.25, 0.5).as_list() == [0.25, 0.5]
    assert np.isnan(resample_accuracy({})).all()


def test_class_that_is_never_detected_has_zero() -> None:
    result = evaluate([(make_detections(), make_sample(f"{i}", (UNIT, 0))) for i in range(4)])
    assert result.interval == (0, 0)
    assert math.isnan(result.interval_per_class["b"].high)
