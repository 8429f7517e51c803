"""COCO metric compared with pycocotools on a COCO file, and cases with known results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.metrics import UNIT, make_detections, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections
from mnssd.errors import DataError, OptionError
from mnssd.metrics.coco import COCO_METRICS, COCOMetric

CLASSES = ("cat", "dog")


# COCO's x, y, width, height; class; crowd. Small, medium and large boxes.
coco_boxes = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 150), st.integers(1, 150))
objects = st.lists(st.tuples(coco_boxes, st.integers(0, 1), st.booleans()), max_size=5)
detection_rows = st.lists(
    st.tuples(coco_boxes, st.integers(0, 1), st.integers(0, 64)), min_size=1, max_size=6
)


def corners(box):
    x, y, width, height = box
    return (x, y, x + width - 1, y + height - 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(objects, detection_rows), min_size=1, max_size=4))
def test_metrics_match_pycocotools(tmp_path_factory, images):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metric, annotations, results = COCOMetric(CLASSES), [], []
    for index, (truth_rows, rows) in enumerate(images):
        # One exact match per image, for some high precision.
        rows = rows + [(truth_rows[0][0], truth_rows[0][1], 50)] if truth_rows else rows

        metric.add(
            make_detections(*((corners(box), label, score / 64) for box, label, score in rows)),
            make_sample(str(index), *((corners(box), label, crowd) for box, label, crowd in truth_rows)),
        )
        for box, label, crowd in truth_rows:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 10, "category_id": label + 5})
            annotations[-1].update(bbox=box, area=box[2] * box[3], iscrowd=int(crowd))
        results += [
            {"image_id": index + 10, "category_id": label + 5, "bbox": box, "score": score / 64}
            for box, label, score in rows
        ]
    folder: Path = tmp_path_factory.mktemp("coco")
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    image_list = [{"id": index + 10} for index in range(len(images))]
    truth = {"images": image_list, "categories": categories, "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(results))
    coco = COCO(str(folder / "truth.json"))
    values = metric.result().metrics
    for use_cats in (1, 0):
        theirs = COCOeval(coco, coco.loadRes(str(folder / "detections.json")), "bbox")
        theirs.params.useCats = use_cats
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
        if use_cats:
            ours = [values[name] for name in COCO_METRICS]
            np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs.stats, atol=1e-12)
        else:
            any_class = np.nan_to_num(values["recall_any_class"], nan=-1)
            np.testing.assert_allclose(any_class, theirs.stats[8], atol=1e-12)


def test_boxes_are_inclusive():
    # 10 of 20 columns: IoU 0.5; continuous corners would give 9 / 19.
    metric = COCOMetric(["cat"])
    metric.add(make_detections((UNIT, 0, 0.9)), make_sample("a", ((0, 0, 19, 9), 0)))
    result = metric.result()
    assert result.metrics["AP50"] == pytest.approx(1.0)
    assert result.metrics["AP"] == pytest.approx(0.1)  # at the first of ten IoU thresholds


def test_crowd_is_ignored():
    metric = COCOMetric(["cat"])
    box, crowd = (0, 0, 99, 99), (200, 200, 299, 299)
    inside_crowd = [((200, 200, 219, 219), 0, 0.9), ((240, 240, 259, 259), 0, 0.8)]
    metric.add(make_detections(*inside_crowd, (box, 0, 0.7)), make_sample("a", (box, 0), (crowd, 0, True)))
    assert metric.result().metrics["AP"] == pytest.approx(1.0)


def test_recall_of_any_class_ignores_the_predicted_class():
    metric = COCOMetric(CLASSES)
    metric.add(make_detections((UNIT, 1, 0.9)), make_sample("a", (UNIT, 0)))
    result = metric.result()
    assert result.metrics["AR_100"] == 0
    assert result.metrics["recall_any_class"] == pytest.approx(1.0)
    assert result.ap_per_class["cat"] == 0
    assert math.isnan(result.ap_per_class["dog"])
    assert result.as_dict()["ap_per_class"]["dog"] is None


def test_metrics_without_detections_or_objects(capsys):
    metric = COCOMetric(CLASSES)
    assert all(math.isnan(value) for value in metric.result().metrics.values())
    metric.add(make_detections((UNIT, 0, 0.5)), make_sample("empty"))
    assert all(math.isnan(value) for value in metric.result().metrics.values())
    metric.add(make_detections(), make_sample("missed", ((0, 0, 50, 50), 0)))
    values = metric.result().metrics
    assert [values[name] for name in ("AP", "AR_100", "AP_medium")] == [0, 0, 0]
    assert math.isnan(values["AP_small"])
    json.dumps(metric.result().as_dict(), allow_nan=False)
    assert capsys.readouterr().out == ""


def test_invalid_input_is_refused():
    with pytest.raises(OptionError, match="cat"):
        COCOMetric(["cat", "cat"])
    metric = COCOMetric(["cat"])
    with pytest.raises(DataError, match="'a'.*label 1"):
        metric.add(make_detections((UNIT, 1, 0.5)), make_sample("a"))
    with pytest.raises(DataError, match="'a'"):
        metric.add(make_detections(((0, 0, 5, math.nan), 0, 0.5)), make_sample("a"))
    with pytest.raises(DataError, match="'a'.*2,"):
        metric.add(Detections(np.zeros((1, 4)), np.zeros(1, np.int32), np.zeros(2)), make_sample("a"))
    metric.add(make_detections(), make_sample("a"))  # still accepted: refused images leave nothing behind
    with pytest.raises(DataError, match="'a'"):
        metric.add(make_detections(), make_sample("a"))


def test_public_toy_dataset_matches_pycocotools(shared):
    """Ten images of an independent evaluator, in COCO format."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = shared / "evaluator" / "toy"
    if not folder.is_dir():
        pytest.skip("no shared evaluator data")
    truth = json.loads(next((folder / "gts_coco_format").glob("*.JSON")).read_text())
    results = json.loads((folder / "dets_coco_format" / "coco_dets.json").read_text())
    results = results["annotations"] if isinstance(results, dict) else results
    metric = COCOMetric([category["name"] for category in truth["categories"]])
    label = {category["id"]: number for number, category in enumerate(truth["categories"])}

    def rows_of(rows, image, *columns):
        rows = [row for row in rows if row["image_id"] == image["id"]]
        return [(corners(r["bbox"]), label[r["category_id"]], *(r[name] for name in columns)) for r in rows]

    for image in truth["images"]:
        metric.add(
            make_detections(*rows_of(results, image, "score")),
            make_sample(str(image["id"]), *rows_of(truth["annotations"], image)),
        )
    coco = COCO()
    coco.dataset = truth
    # The ids start at 0, which means "no match" to COCOeval.
    for number, row in enumerate(truth["annotations"], 1):
        row.update(id=number, iscrowd=0, area=row["bbox"][2] * row["bbox"][3])
    coco.createIndex()
    theirs = COCOeval(coco, coco.loadRes(results), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    values = metric.result().metrics
    assert values["AP50"] > 0.8  # published: 0.8958 area, 0.8864 11 points
    ours = np.nan_to_num([values[name] for name in COCO_METRICS], nan=-1)
    np.testing.assert_allclose(ours, theirs.stats, atol=1e-9)


# Four images of COCO val2014 with synthetic detections: continuous ``xmin, ymin, xmax, ymax``, class, score;
# from the COCO API's instances_val2014_fakebbox100_results.json, as in the unit tests of torchmetrics.
PUBLIC_TRUTH = [
    [(214.15, 41.29, 562.41, 285.07, 4)],
    [(13.0, 22.75, 548.98, 632.42, 2), (1.66, 3.32, 270.26, 275.23, 2)],
    [
        (61.87, 276.25, 358.29, 379.43, 4), (2.75, 3.66, 162.15, 316.06, 1),
        (295.55, 93.96, 313.97, 152.79, 0), (326.94, 97.05, 340.49, 122.98, 0),
        (356.62, 95.47, 372.33, 147.55, 0), (462.08, 105.09, 493.74, 146.99, 0),
        (277.11, 103.84, 292.44, 150.72, 0),
    ],
    [
        (72.92, 45.96, 91.23, 80.57, 5), (50.17, 45.34, 71.28, 79.83, 5), (81.28, 47.04, 98.66, 78.5, 5),
        (63.96, 46.17, 84.35, 80.48, 5), (75.29, 23.01, 91.85, 50.85, 5), (56.39, 21.65, 75.66, 45.54, 5),
        (73.14, 1.1, 98.96, 28.33, 5), (62.34, 55.23, 78.14, 79.57, 5), (44.17, 45.78, 63.99, 78.48, 5),
        (58.18, 44.8, 66.42, 56.25, 5),
    ],
]  # fmt: skip
PUBLIC_DETECTIONS = [
    [(258.15, 41.29, 606.41, 285.07, 4, 0.236)],
    [(61.0, 22.75, 565.0, 632.42, 3, 0.318), (12.66, 3.32, 281.26, 275.23, 2, 0.726)],
    [
        (87.87, 276.25, 384.29, 379.43, 4, 0.546), (0.0, 3.66, 142.15, 316.06, 1, 0.3),
        (296.55, 93.96, 314.97, 152.79, 0, 0.407), (328.94, 97.05, 342.49, 122.98, 0, 0.611),
        (356.62, 95.47, 372.33, 147.55, 0, 0.335), (464.08, 105.09, 495.74, 146.99, 0, 0.805),
        (276.11, 103.84, 291.44, 150.72, 0, 0.953),
    ],
    [
        (72.92, 45.96, 91.23, 80.57, 5, 0.532), (45.17, 45.34, 66.28, 79.83, 5, 0.204),
        (82.28, 47.04, 99.66, 78.5, 5, 0.782), (59.96, 46.17, 80.35, 80.48, 5, 0.202),
        (75.29, 23.01, 91.85, 50.85, 5, 0.883), (71.14, 1.1, 96.96, 28.33, 5, 0.271),
        (61.34, 55.23, 77.14, 79.57, 5, 0.561), (41.17, 45.78, 60.99, 78.48, 5, 0.204),
        (56.18, 44.8, 64.42, 56.25, 5, 0.349),
    ],
]  # fmt: skip
PUBLISHED = {
    "AP": 0.637, "AP50": 0.859, "AP75": 0.761, "AP_small": 0.622, "AP_medium": 0.8, "AP_large": 0.635,
    "AR_1": 0.432, "AR_10": 0.652, "AR_100": 0.652, "AR_small": 0.673, "AR_medium": 0.8, "AR_large": 0.633,
}  # fmt: skip


def test_published_results():
    metric = COCOMetric(tuple("abcdef"))
    for number, (truth_rows, rows) in enumerate(zip(PUBLIC_TRUTH, PUBLIC_DETECTIONS)):
        objects, detections = (
            [((x, y, right - 1, bottom - 1), *rest) for x, y, right, bottom, *rest in table]
            for table in (truth_rows, rows)
        )
        metric.add(make_detections(*detections), make_sample(str(number), *objects))
    result = metric.result()
    for name, value in PUBLISHED.items():
        assert result.metrics[name] == pytest.approx(value, abs=0.0006), name
    assert math.isnan(result.ap_per_class["d"])  # detections but no objects
