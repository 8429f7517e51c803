"""VOC metric compared with a plain loop over the devkit's rules, and with published results."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from helpers.metrics import evaluate, make_detections, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections
from mnssd.metrics import voc

# ---- devkit's rules in loops ----


def devkit_ap(images, label: int, metric: str, iou_threshold: float) -> float:
    """Average precision of one class, written like the devkit, in its pixels counted from 1."""
    truth: Dict[str, list] = {}
    positives = 0
    for _, image in images:
        objects = []
        for box, box_label, difficult in zip(image.boxes, image.labels, image.difficult):
            if box_label == label:
                objects.append(
                    {"box": [float(v) + 1 for v in box], "difficult": bool(difficult), "det": False}
                )
                positives += not difficult
        truth[image.image_id] = objects
    if positives == 0:
        return math.nan
    rows = []
    for detections, image in images:
        for box, box_label, score in zip(detections.boxes, detections.labels, detections.scores):
            if box_label == label:
                rows.append((image.image_id, float(score), [float(v) + 1 for v in box]))
    rows.sort(key=lambda row: -row[1])  # Python's sort is stable
    tp, fp = [], []
    for image_id, _, bb in rows:
        best_iou, best = -math.inf, None
        for candidate in truth[image_id]:
            gt = candidate["box"]
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                union = (
                    (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                    + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1)
                    - iw * ih
                )
                if iw * ih / union > best_iou:
                    best_iou, best = iw * ih / union, candidate
        is_tp = is_fp = 0
        if best is not None and best_iou >= iou_threshold:
            if not best["difficult"]:
                if not best["det"]:
                    is_tp, best["det"] = 1, True
                else:
                    is_fp = 1
        else:
            is_fp = 1
        tp.append(is_tp)
        fp.append(is_fp)
    recall, precision = [], []
    for i in range(len(rows)):
        true, total = sum(tp[: i + 1]), sum(tp[: i + 1]) + sum(fp[: i + 1])
        recall.append(true / positives)
        precision.append(true / total if total else 0.0)
    if metric == "voc07":
        points = [0.1 * k for k in range(11)]
        return sum(max([p for r, p in zip(recall, precision) if r >= t], default=0) / 11 for t in points)
    recall, precision = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))


# Few positions and sizes, so that ties, duplicates and IoUs of exactly 0.5 are common.
_boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.sampled_from([0, 1, 2, 4.5, 8]),
    st.sampled_from([0, 2, 5]),
    st.sampled_from([0, 4, 9, 9.25]),
    st.sampled_from([4, 9]),
)
_labels = st.sampled_from([0, 0, 1])
_objects = st.lists(st.tuples(_boxes, _labels, st.booleans()), max_size=5)
_detections = st.lists(st.tuples(_boxes, _labels, st.sampled_from([0.1, 0.5, 0.5, 0.7, 0.9])), max_size=8)


@st.composite
def image_sets(draw):
    contents = draw(st.lists(st.tuples(_detections, _objects), max_size=6))
    return [(make_detections(*d), make_sample(f"{i}", *o)) for i, (d, o) in enumerate(contents)]


@settings(max_examples=150, deadline=None)
@given(
    image_sets(),
    st.sampled_from(voc.VOC_METRICS),
    st.sampled_from([0.1, 0.5, 0.75]),
    st.sampled_from([1, 3, 10**6]),
)
def test_random_images_match_the_devkit(images, metric, iou, pairs_at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voc, "_PAIRS_AT_ONCE", pairs_at_once)
        result = evaluate(images, metric, iou)
    expected = [devkit_ap(images, label, metric, iou) for label in (0, 1)]
    np.testing.assert_allclose(
        [result.ap_per_class["a"], result.ap_per_class["b"]], expected, rtol=0, atol=1e-12
    )
    finite = [ap for ap in expected if not math.isnan(ap)]
    assert (
        math.isnan(result.mean_ap)
        if not finite
        else result.mean_ap == pytest.approx(np.mean(finite), abs=1e-12)
    )


@settings(max_examples=50, deadline=None)
@given(image_sets(), st.randoms(use_true_random=False))
def test_image_order_does_not_matter_without_ties(images, random):
    distinct = iter(np.random.default_rng(len(images)).permutation(10**4).astype(np.float32) / 10**4)
    images = [
        (Detections(d.boxes, d.labels, np.array([next(distinct) for _ in d.scores], np.float32)), s)
        for d, s in images
    ]
    shuffled = list(images)
    random.shuffle(shuffled)
    np.testing.assert_equal(evaluate(shuffled).as_dict(), evaluate(images).as_dict())


def test_large_random_dataset_matches_the_devkit():
    rng = np.random.default_rng(7)
    images = []
    for i in range(60):
        corner = rng.uniform(0, 300, (rng.integers(0, 8), 2))
        boxes = np.hstack([corner, corner + rng.uniform(5, 150, corner.shape)])
        labels = rng.integers(0, 2, len(boxes))
        near = (
            boxes[rng.integers(0, len(boxes), 15)] + rng.normal(0, 12, (15, 4))
            if len(boxes)
            else np.zeros((0, 4))
        )
        detections = make_detections(
            *zip(near, rng.integers(0, 2, len(near)), rng.integers(0, 50, len(near)) / 50)
        )
        images.append((detections, make_sample(f"{i}", *zip(boxes, labels, rng.random(len(boxes)) < 0.2))))
    for metric in voc.VOC_METRICS:
        result = evaluate(images, metric)
        for label, name in enumerate(result.classes):
            expected = devkit_ap(images, label, metric, 0.5)
            assert 0.05 < expected < 0.95
            assert result.ap_per_class[name] == pytest.approx(expected, abs=1e-12)


# ---- published results ----


def rows_of(path: Path) -> List[List[str]]:
    return [line.split() for line in path.read_text().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("iou", "voc07", "voc12"),
    [
        (0.1, 0.3333333333, 0.3371980676),
        (0.3, 0.2683982683, 0.2456866804),
        (0.5, 0.0303030303, 0.0222222222),
        (0.75, 0, 0),
    ],
)
def test_published_case_1(shared, iou, voc07, voc12):
    folder = shared / "evaluator" / "case_1"

    def corners(x, y, width, height):
        x, y, width, height = map(float, (x, y, width, height))
        return (x, y, x + width, y + height)

    images = []
    for path in sorted((folder / "gts").glob("*.txt")):
        objects = [(corners(*row[1:]), 0) for row in rows_of(path)]
        detections = [(corners(*row[2:]), 0, float(row[1])) for row in rows_of(folder / "dets" / path.name)]
        images.append((make_detections(*detections), make_sample(path.stem, *objects)))
    assert len(images) == 7
    assert evaluate(images, "voc07", iou, ["object"]).mean_ap == pytest.approx(voc07, abs=1e-6)
    assert evaluate(images, "voc12", iou, ["object"]).mean_ap == pytest.approx(voc12, abs=1e-6)


TOY_RESULTS = [(0.5, 88.64, 89.58), (0.75, 49.24, 50.97)]


def read_toy_as_voc(folder: Path):
    images = []
    for path in sorted((folder / "gts_vocpascal_format").glob("*.xml")):
        objects = []
        for element in ElementTree.parse(path).getroot().iter("object"):
            box = [
                float(element.find(f"bndbox/{side}").text) - 1 for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            objects.append((box, 0, element.find("difficult").text == "1"))
        rows = rows_of(folder / "dets_classname_abs_xyx2y2" / f"{path.stem}.txt")
        detections = [([float(v) - 1 for v in row[2:]], 0, float(row[1])) for row in rows]
        images.append((make_detections(*detections), make_sample(path.stem, *objects)))
    return images


def read_toy_as_coco(folder: Path):
    truth = json.loads((folder / "gts_coco_format" / "toy_example_coco.JSON").read_text())
    results = json.loads((folder / "dets_coco_format" / "coco_dets.json").read_text())
    results = results["annotations"] if isinstance(results, dict) else results

    def corners(x, y, width, height):
        return (x - 1, y - 1, x + width - 1, y + height - 1)

    images = []
    for entry in truth["images"]:
        objects = [(corners(*a["bbox"]), 0) for a in truth["annotations"] if a["image_id"] == entry["id"]]
        detections = [(corners(*a["bbox"]), 0, a["score"]) for a in results if a["image_id"] == entry["id"]]
        images.append((make_detections(*detections), make_sample(entry["file_name"], *objects)))
    return images


@pytest.mark.parametrize("read", [read_toy_as_voc, read_toy_as_coco])
@pytest.mark.parametrize(("iou", "voc07", "voc12"), TOY_RESULTS)
def test_published_toy_dataset(shared, read, iou, voc07, voc12):
    images = read(shared / "evaluator" / "toy")
    assert len(images) == 10
    assert round(100 * evaluate(images, "voc07", iou, ["cat"]).mean_ap, 2) == voc07
    assert round(100 * evaluate(images, "voc12", iou, ["cat"]).mean_ap, 2) == voc12
