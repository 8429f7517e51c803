"""The COCO metric against pycocotools called by itself on a COCO file, and cases with known answers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections, Sample
from mnssd.errors import DataError, OptionError
from mnssd.metrics.coco import FIGURES, COCOMetric

CLASSES = ("cat", "dog")


def sample(name, boxes=(), labels=(), difficult=None):
    flags = np.zeros(len(labels), bool) if difficult is None else np.array(difficult, bool)
    return Sample(
        name, "", np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32), flags, (400, 400)
    )


def found(boxes=(), labels=(), scores=()):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32), np.array(scores, np.float32)
    )


# x, y, width, height as COCO has them, class, crowd; small, medium and large ones.
places = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 150), st.integers(1, 150))
objects = st.lists(st.tuples(places, st.integers(0, 1), st.booleans()), max_size=5)
finds = st.lists(st.tuples(places, st.integers(0, 1), st.integers(0, 64)), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(objects, finds), min_size=1, max_size=4))
def test_equals_pycocotools_on_a_file(tmp_path_factory, images):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metric, annotations, results = COCOMetric(CLASSES), [], []
    for index, (there, seen) in enumerate(images):
        # Each image has an exact match, so that high precision occurs.
        seen = seen + [(there[0][0], there[0][1], 50)] if there else seen

        def corners(rows):
            return [(x, y, x + w - 1, y + h - 1) for (x, y, w, h), _, _ in rows]

        metric.add(
            found(corners(seen), [row[1] for row in seen], [row[2] / 64 for row in seen]),
            sample(str(index), corners(there), [row[1] for row in there], [row[2] for row in there]),
        )
        for box, label, crowd in there:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 10, "category_id": label + 5})
            annotations[-1].update(bbox=box, area=box[2] * box[3], iscrowd=int(crowd))
        results += [
            {"image_id": index + 10, "category_id": label + 5, "bbox": box, "score": score / 64}
            for box, label, score in seen
        ]
    folder: Path = tmp_path_factory.mktemp("coco")
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    image_list = [{"id": index + 10} for index in range(len(images))]
    truth = {"images": image_list, "categories": categories, "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(results))
    coco = COCO(str(folder / "truth.json"))
    figures = metric.result().figures
    for use_cats in (1, 0):
        theirs = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
        theirs.params.useCats = use_cats
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
        if use_cats:
            ours = [figures[name] for name in FIGURES]
            np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs.stats, atol=1e-12)
        else:
            any_class = np.nan_to_num(figures["recall_any_class"], nan=-1)
            np.testing.assert_allclose(any_class, theirs.stats[8], atol=1e-12)


def test_a_box_covers_its_last_pixel():
    # 10 of 20 columns: IoU is exactly .5 with the + 1 and 9 / 19 without.
    metric = COCOMetric(["cat"])
    metric.add(found([[0, 0, 9, 9]], [0], [0.9]), sample("a", [[0, 0, 19, 9]], [0]))
    result = metric.result()
    assert result.figures["AP50"] == pytest.approx(1.0)
    assert result.figures["AP"] == pytest.approx(0.1)  # at the first of ten overlaps alone


def test_crowd_counts_neither_way():
    metric = COCOMetric(["cat"])
    boxes = [[0, 0, 99, 99], [200, 200, 299, 299]]
    inside_crowd = [[200, 200, 219, 219], [240, 240, 259, 259]]
    metric.add(
        found([*inside_crowd, boxes[0]], [0, 0, 0], [0.9, 0.8, 0.7]),
        sample("a", boxes, [0, 0], [False, True]),
    )
    assert metric.result().figures["AP"] == pytest.approx(1.0)


def test_class_agnostic_recall_sees_what_the_wrong_class_hides():
    metric = COCOMetric(CLASSES)
    metric.add(found([[0, 0, 50, 50]], [1], [0.9]), sample("a", [[0, 0, 50, 50]], [0]))
    result = metric.result()
    assert result.figures["AR_100"] == 0
    assert result.figures["recall_any_class"] == pytest.approx(1.0)
    assert result.ap_per_class["cat"] == 0
    assert math.isnan(result.ap_per_class["dog"])
    assert result.as_dict()["ap_per_class"]["dog"] is None


def test_nothing_found_nothing_there_nothing_at_all(capsys):
    metric = COCOMetric(CLASSES)
    assert all(math.isnan(value) for value in metric.result().figures.values())
    metric.add(found([[0, 0, 5, 5]], [0], [0.5]), sample("empty"))
    assert all(math.isnan(value) for value in metric.result().figures.values())
    metric.add(found(), sample("missed", [[0, 0, 50, 50]], [0]))
    figures = metric.result().figures
    assert [figures[name] for name in ("AP", "AR_100", "AP_medium")] == [0, 0, 0]
    assert math.isnan(figures["AP_small"])
    json.dumps(metric.result().as_dict(), allow_nan=False)
    assert capsys.readouterr().out == ""


def test_what_cannot_be_is_refused():
    with pytest.raises(OptionError, match="each one once"):
        COCOMetric(["cat", "cat"])
    metric = COCOMetric(["cat"])
    with pytest.raises(DataError, match="'a'.*label 1"):
        metric.add(found([[0, 0, 5, 5]], [1], [0.5]), sample("a"))
    with pytest.raises(DataError, match="'a'.*not finite"):
        metric.add(found([[0, 0, 5, math.nan]], [0], [0.5]), sample("a"))
    with pytest.raises(DataError, match="1 labels"):
        metric.add(found([[0, 0, 5, 5]], [0], [0.5, 0.6]), sample("a"))
    metric.add(found(), sample("a"))  # nothing of the refused ones was kept
    with pytest.raises(DataError, match="twice"):
        metric.add(found(), sample("a"))


def test_the_public_toy_case(shared):
    """Ten images of an independent evaluator, in COCO's form; pycocotools reads the files itself."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = shared / "evaluator" / "toy"
    if not folder.is_dir():
        pytest.skip("no public evaluator cases beside the project")
    truth = json.loads(next((folder / "gts_coco_format").glob("*.JSON")).read_text())
    seen = json.loads((folder / "dets_coco_format" / "coco_dets.json").read_text())
    seen = seen["annotations"] if isinstance(seen, dict) else seen
    metric = COCOMetric([category["name"] for category in truth["categories"]])
    label = {category["id"]: number for number, category in enumerate(truth["categories"])}

    def columns(rows, image):
        rows = [row for row in rows if row["image_id"] == image]
        corners = [(x, y, x + w - 1, y + h - 1) for x, y, w, h in (row["bbox"] for row in rows)]
        return corners, [label[row["category_id"]] for row in rows], rows

    for image in truth["images"]:
        boxes, labels, rows = columns(seen, image["id"])
        there = columns(truth["annotations"], image["id"])[:2]
        metric.add(found(boxes, labels, [row["score"] for row in rows]), sample(str(image["id"]), *there))
    coco = COCO()
    coco.dataset = truth
    # Its ids begin at 0, which COCOeval takes for "no match".
    for number, row in enumerate(truth["annotations"], 1):
        row.update(id=number, iscrowd=0, area=row["bbox"][2] * row["bbox"][3])
    coco.createIndex()
    theirs = COCOeval(coco, coco.loadRes(seen), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    figures = metric.result().figures
    assert figures["AP50"] > 0.8  # published: .8958 by the area, .8864 by 11 points
    ours = np.nan_to_num([figures[name] for name in FIGURES], nan=-1)
    np.testing.assert_allclose(ours, theirs.stats, atol=1e-9)


# Four images of COCO's val2014 with made-up detections: ``xmin, ymin, xmax, ymax`` as edges of pixels, class
# and score; from what the COCO API publishes (instances_val2014_fakebbox100_results.json), as the unit
# tests of torchmetrics use it.
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
PUBLIC_FOUND = [
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


def test_the_published_figures_of_the_public_case():
    metric = COCOMetric(tuple("abcdef"))
    for number, (there, seen) in enumerate(zip(PUBLIC_TRUTH, PUBLIC_FOUND)):

        def corners(rows):
            return [(x, y, right - 1, bottom - 1) for x, y, right, bottom, *_ in rows]

        truth = sample(str(number), corners(there), [row[4] for row in there])
        metric.add(found(corners(seen), [row[4] for row in seen], [row[5] for row in seen]), truth)
    result = metric.result()
    for name, value in PUBLISHED.items():
        assert result.figures[name] == pytest.approx(value, abs=0.0006), name
    assert math.isnan(result.ap_per_class["d"])  # found, but not there
