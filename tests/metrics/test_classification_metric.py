"""Accuracy, recall, precision and the table of a classifier's evaluation."""

from __future__ import annotations

import json
import math
from typing import List

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mnssd.data.classification.labeled_image import ClassificationDataset, LabeledImage
from mnssd.errors import DataError, ImageError
from mnssd.metrics.classification import ClassificationResult, evaluate_classifier
from mnssd.metrics.table import format_classification

RESULT = ClassificationResult(
    ("a", "b", "c"), np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), 8, [("x.jpg", "damaged")],
    {f"{number}": number != 3 for number in range(8)},
)  # fmt: skip


def test_accuracy_recall_and_precision() -> None:
    assert (RESULT.top1, RESULT.top5, RESULT.images) == (7 / 8, 1.0, 8)
    assert RESULT.recall == {"a": 0.75, "b": 1.0, "c": None}
    assert RESULT.precision == {"a": 1.0, "b": 0.8, "c": None}


def test_result_as_json() -> None:
    report = json.loads(json.dumps(RESULT.as_dict(), allow_nan=False))
    assert report["recall"] == {"a": 0.75, "b": 1.0, "c": None}
    assert report["skipped"] == [{"image": "x.jpg", "reason": "damaged"}]
    empty = ClassificationResult(("a", "b"), np.zeros((2, 2), int), 0, [], {})
    assert math.isnan(empty.top1)
    assert (empty.as_dict()["top1"], empty.as_dict()["interval"]) == (None, None)


def test_interval_is_that_of_a_share_of_the_images() -> None:
    low, high = RESULT.interval  # of 8 images 7 are correct: in resamples of 8, 5 to 8 are in 95 %
    assert (low, high) == (5 / 8, 1)
    assert RESULT.as_dict()["interval"] == [low, high]


def test_table_has_classes_confusions_and_accuracy() -> None:
    lines = format_classification(RESULT).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["a", "4", "0.750", "1.000"],
        ["b", "4", "1.000", "0.800"],
        ["c", "0", "-", "-"],
    ]
    assert "a as b (1)" in lines[-4]
    assert lines[-2].split() == ["top-1", "0.8750", "top-5", "1.0000", "8", "images"]


def dataset_of(levels: List[int]) -> ClassificationDataset:
    """Images of one gray level; level 255 cannot be read. The label is 1 above level 100."""

    def read(image: LabeledImage, min_size: object) -> np.ndarray:
        level = int(image.image_id.split()[1])
        if level == 255:
            raise ImageError(f"{image.image_path}: damaged")
        return np.full((40, 40, 3), level, np.uint8)

    images = [LabeledImage(f"{i} {v}", f"{i}.png", int(v > 100), "") for i, v in enumerate(levels)]
    return ClassificationDataset("levels", ("dark", "light"), images, read=read)


@pytest.fixture(scope="module")
def net() -> nn.HybridBlock:
    """A classifier of dark and light images."""
    net = nn.HybridSequential()
    net.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(2, in_units=3))
    net.initialize()
    net[2].weight.set_data(mx.nd.array([[-1, -1, -1], [1, 1, 1]]))
    return net


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_evaluation_counts_each_image_once(net: nn.HybridBlock, workers: int, batch_size: int) -> None:
    dataset = dataset_of([0, 10, 255, 200, 110, 105, 255, 220])
    seen: List[str] = []
    result = evaluate_classifier(
        net, dataset, (32, 32), batch_size=batch_size, workers=workers,
        watch=lambda image, logits: seen.append(image.image_id),
    )  # fmt: skip
    assert result.confusion.tolist() == [[2, 0], [2, 2]]
    assert [result.correct[name] for name in seen] == [True, True, True, False, False, True]
    assert [path for path, _ in result.skipped] == ["2.png", "6.png"]
    assert [name.split()[0] for name in seen] == ["0", "1", "3", "4", "5", "7"]


def test_dataset_without_readable_images_is_refused(net: nn.HybridBlock) -> None:
    with pytest.raises(DataError, match=r"levels: .*0\.png"):
        evaluate_classifier(net, dataset_of([255, 255]), (32, 32))
