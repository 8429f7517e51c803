"""Transforms of GluonCV and of the user: reproducible calls, and what they may return."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform, SSDDefaultValTransform

from mnssd.boxes import STDS
from mnssd.data.gluon import transform as gluon
from mnssd.data.image import to_network_input
from mnssd.errors import OptionError
from mnssd.nn.anchors import make_anchors

SIZE, CLASSES = (96, 64), ("cat", "dog")
ANCHORS = make_anchors([(3, 2)] * 6, SIZE)
LABEL = np.array([[10, 10, 50, 40, 1, 0], [30, 5, 90, 60, 0, 1]], float)
NOTHING = np.zeros((0, 6))


def image(seed: int = 0, shape: Tuple[int, int] = (70, 120)) -> Any:
    return mx.nd.array(np.random.default_rng(seed).integers(0, 256, (*shape, 3)), dtype=np.uint8)


def call(transform: Any, label: np.ndarray = LABEL, seed: int = 0) -> List[np.ndarray]:
    return gluon.call(transform, image(seed), label.copy(), np.random.default_rng(seed))


def draw(image: Any, label: Any) -> Tuple[Any, Any]:
    """Numbers from all global generators."""
    numbers = [random.random(), np.random.rand()]
    return mx.nd.random.uniform(shape=(3,)), np.array(numbers)


@pytest.mark.parametrize("transform", [draw, SSDDefaultTrainTransform(*SIZE)])
def test_randomness_depends_on_the_given_generator_only(transform: Any) -> None:
    expected = [call(transform, seed=seed) for seed in range(6)]
    assert not np.array_equal(expected[0][1], expected[1][1])
    random.seed(7)
    np.random.seed(7)
    states = random.getstate(), np.random.get_state()
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            made = list(pool.map(lambda seed: call(transform, seed=seed), range(6)))
        for arrays, other in zip(made, expected):
            for array, expected_array in zip(arrays, other):
                np.testing.assert_array_equal(array, expected_array)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1][1])


@pytest.mark.parametrize("label", [LABEL, NOTHING])
def test_gluoncvs_transform_with_and_without_anchors(label: np.ndarray) -> None:
    with_anchors = SSDDefaultTrainTransform(*SIZE, mx.nd.array(ANCHORS[None]))
    for seed in range(3):
        made = call(with_anchors, label, seed)
        pixels, rows = call(SSDDefaultTrainTransform(*SIZE), label, seed)
        np.testing.assert_array_equal(made[0], pixels)
        boxes, labels = gluon.boxes_and_labels(rows, SIZE, CLASSES)
        assert len(boxes) == len(labels) == len(rows) >= min(1, len(label))
        if len(made) > 2:
            cls_target, box_target = gluon.targets(*made[1:], len(ANCHORS), 2)
            assert set(cls_target[cls_target > 0] - 1) <= set(labels)
            assert np.isfinite(box_target).all()


def test_images_for_the_network() -> None:
    pixels = image(0, SIZE[::-1]).asnumpy()
    normalized = to_network_input([pixels])[0]
    np.testing.assert_array_equal(gluon.network_input(pixels, SIZE), normalized)
    np.testing.assert_array_equal(gluon.network_input(normalized, SIZE), normalized)
    assert gluon.network_input(normalized.astype(np.float64), SIZE).dtype == np.float32


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2],
        np.zeros((96, 64, 3), np.uint8),
        np.zeros((64, 96, 3), np.float32),
        np.zeros((3, 64, 96), np.uint8),
        np.zeros((3, 96, 64), np.float32),
        np.zeros((1, 3, 64, 96), np.float32),
        np.full((3, 64, 96), np.nan, np.float32),
        np.full((3, 64, 96), 255, np.float32),
    ],
    ids=str,
)
def test_other_images_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="image"):
        gluon.network_input(value, SIZE)


@pytest.mark.parametrize(
    "row",
    [
        [10, 10, 50, 40],
        [10, 10, 50, 40, 2],
        [10, 10, 50, 40, -1],
        [10, 10, 50, 40, 0.5],
        [50, 10, 10, 40, 0],
        [np.nan, 10, 50, 40, 0],
        [10, 10, np.inf, 40, 0],
        [0.1, 0.1, 0.5, 0.4, 0],
        [10, 10, 110, 40, 0],
        [-20, 10, 50, 40, 0],
    ],
    ids=str,
)
def test_wrong_labels_are_refused(row: List[float]) -> None:
    for label in (np.array([row]), [row]):
        with pytest.raises(ValueError, match="label|box"):
            gluon.boxes_and_labels(label, SIZE, CLASSES)


@pytest.mark.parametrize("label", ["cats", None, np.zeros(7), np.zeros((1, 2, 5))], ids=str)
def test_what_is_no_label_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="label"):
        gluon.boxes_and_labels(label, SIZE, CLASSES)


@pytest.mark.parametrize("label", [np.zeros(0), NOTHING, np.zeros((0, 5)), -np.ones((2, 6)), []], ids=str)
def test_labels_without_objects(label: Any) -> None:
    boxes, labels = gluon.boxes_and_labels(label, SIZE, CLASSES)
    assert (boxes.shape, labels.shape) == ((0, 4), (0,))


def test_targets_of_the_background_become_zero() -> None:
    boxes = np.full((len(ANCHORS), 4), -np.inf, np.float32)
    cls_target, box_target = gluon.targets(np.zeros(len(ANCHORS)), boxes, len(ANCHORS), 2)
    assert (cls_target.dtype, cls_target.any(), box_target.any()) == (np.int32, False, False)


@pytest.mark.parametrize(
    ("classes", "boxes"),
    [
        (np.zeros(3), np.zeros((3, 4))),
        (np.zeros(len(ANCHORS)), np.zeros((len(ANCHORS), 5))),
        (-np.ones(len(ANCHORS)), np.zeros((len(ANCHORS), 4))),
        (np.full(len(ANCHORS), 3), np.zeros((len(ANCHORS), 4))),
        (np.full(len(ANCHORS), np.nan), np.zeros((len(ANCHORS), 4))),
        (np.ones(len(ANCHORS)), np.full((len(ANCHORS), 4), np.nan)),
        (None, None),
    ],
    ids=["few", "wide", "ignored", "class", "nan class", "nan box", "none"],
)
def test_wrong_targets_are_refused(classes: Any, boxes: Any) -> None:
    with pytest.raises(ValueError, match="target"):
        gluon.targets(classes, boxes, len(ANCHORS), 2)


def broken(image: Any, label: Any) -> Any:
    raise KeyError("no such key")


@pytest.mark.parametrize(
    "transform",
    [broken, lambda *_: None, lambda image, label: image, lambda image: image, lambda *a: a[:1]],
    ids=["raises", "none", "image", "arguments", "one"],
)
def test_calls_that_fail_are_refused(transform: Any) -> None:
    with pytest.raises(ValueError, match="raised|returned"):
        call(transform)


@pytest.mark.parametrize(
    "transform",
    [
        SSDDefaultTrainTransform(300, 300),
        SSDDefaultTrainTransform(64, 96),
        SSDDefaultTrainTransform(*SIZE, mean=(0, 0, 0)),
        SSDDefaultTrainTransform(*SIZE, mx.nd.array(ANCHORS[None] + 1)),
        SSDDefaultTrainTransform(*SIZE, mx.nd.array(ANCHORS[None, 1:])),
        SSDDefaultTrainTransform(*SIZE, mx.nd.array(ANCHORS[None]), box_norm=(1, 1, 1, 1)),
        SSDDefaultValTransform(300, 300),
        SSDDefaultValTransform(*SIZE, std=(1, 1, 1)),
    ],
)
def test_presets_for_another_network_are_refused(transform: Any) -> None:
    with pytest.raises(OptionError, match="Preset"):
        gluon.check_preset(transform, "Preset", SIZE, ANCHORS)


def test_presets_for_the_network() -> None:
    preset = partial(SSDDefaultTrainTransform, *SIZE)
    for transform in (preset(), preset(mx.nd.array(ANCHORS[None]), box_norm=STDS), draw):
        gluon.check_preset(transform, "Preset", SIZE, ANCHORS)
