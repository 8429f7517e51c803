"""Augmentation of detection images: valid results for any draw, and boxes that match their pixels."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.transforms import (
    FILL,
    AugmentOptions,
    TrainTransform,
    ValTransform,
    distort_colors,
    flip_boxes,
)
from mnssd.options import from_mapping

SIZE = (300, 300)
PLAIN = AugmentOptions(
    color_probability=0, expand_probability=0, crop_trials=0, flip_probability=0, random_interpolation=False
)


def texture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@st.composite
def annotated(draw, largest=400):
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    count = draw(st.integers(0, 6))
    corners = np.random.default_rng(draw(st.integers(0, 2**31))).random((count, 2, 2))
    corners = np.sort(corners, axis=1) * [width - 1, height - 1]
    return texture(height, width), corners.reshape(-1, 4).astype(np.float32), np.arange(count) * 10


def assert_valid(result, size=SIZE):
    image, boxes, labels = result
    assert image.dtype == np.uint8
    assert image.shape == (size[1], size[0], 3)
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(labels), 4)
    assert (boxes >= 0).all()
    assert (boxes <= np.tile(size, 2)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()


@settings(max_examples=80, deadline=None)
@given(annotated(), st.integers(0, 2**31), st.sampled_from([SIZE, (96, 160), (512, 320)]))
def test_result_is_valid_and_reproducible(sample, seed, size):
    transform = TrainTransform(size)
    image, boxes, labels = sample
    before = image.copy()
    first = transform(image, boxes, labels, np.random.default_rng(seed))
    assert_valid(first, size)
    assert set(first[2]) <= set(labels)
    np.testing.assert_array_equal(image, before)  # The caller may cache it.
    again = TrainTransform(size)(image, boxes, labels, np.random.default_rng(seed))
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 20), (20, 20000), (1, 500)])
def test_images_with_extreme_sizes_give_valid_results(width, height):
    image = texture(height, width)
    boxes = np.array([[0, 0, width - 1, height - 1], [width // 2, 0, width - 1, height // 2]], np.float32)
    for seed in range(40):
        assert_valid(TrainTransform(SIZE)(image, boxes, np.arange(2), np.random.default_rng(seed)))


def test_image_without_objects_is_augmented_and_remains_visible():
    image = np.full((375, 500, 3), (0, 255, 0), np.uint8)
    options = AugmentOptions(color_probability=0)
    shown = set()
    for seed in range(60):
        result, boxes, labels = TrainTransform(SIZE, options)(
            image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.random.default_rng(seed)
        )
        assert_valid((result, boxes, labels))
        green = (result == (0, 255, 0)).all(axis=2).mean()
        assert green > 0
        shown.add(round(float(green), 2))
    assert len(shown) > 10


def test_boxes_match_the_pixels_of_their_objects():
    """A red rectangle on gray: its pixels in the result are where its box says, to 1.5 pixels."""
    sizes, unclipped = [], 0
    options = AugmentOptions(color_probability=0)
    for seed in range(150):
        rng = np.random.default_rng(seed)
        width, height = rng.integers(120, 700, 2)
        xmin, ymin = rng.integers(0, width - 60), rng.integers(0, height - 60)
        xmax, ymax = rng.integers(xmin + 30, width), rng.integers(ymin + 30, height)
        image = np.full((height, width, 3), 90, np.uint8)
        image[ymin : ymax + 1, xmin : xmax + 1] = (250, 0, 0)
        boxes = np.array([[xmin, ymin, xmax, ymax]], np.float32)
        result, moved, labels = TrainTransform(SIZE, options)(image, boxes, np.array([5]), rng)
        assert labels.tolist() == [5]  # Every crop keeps the center of some object.
        red = (result[..., 0].astype(int) - result[..., 1]) > 125
        for axis, low, high in ((0, 0, 2), (1, 1, 3)):
            seen = np.flatnonzero(red.any(axis=axis))
            first, end = seen[0], seen[-1] + 1
            assert abs(moved[0, low] - first) <= 1.5, seed
            # The inclusive box ends where its last column begins: one column before the red's edge.
            if first > 0 and end < 300:
                column = (end - first) / (boxes[0, high] - boxes[0, low] + 1)
                assert abs(moved[0, high] + column - end) <= 1.5, seed
                unclipped += 1
            else:
                assert end - 12 <= moved[0, high] <= end + 0.5, seed
        sizes.append(moved[0, 2] - moved[0, 0])
    assert min(sizes) < 30
    assert max(sizes) > 250
    assert unclipped > 80


def test_transform_without_augmentation_is_a_resize():
    image = texture(375, 500)
    boxes = np.array([[0, 0, 499, 374], [10, 20, 110, 220]], np.float32)
    train = TrainTransform(SIZE, PLAIN)(image, boxes, np.arange(2), np.random.default_rng(0))
    val = ValTransform(SIZE)(image, boxes, np.arange(2))
    for one, other in zip(train, val):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    np.testing.assert_array_equal(val[0], cv2.resize(image, SIZE, interpolation=cv2.INTER_LINEAR))
    np.testing.assert_allclose(val[1][1], [6, 16, 66, 176], rtol=1e-6)


def test_flip_probability_one_mirrors_image_and_boxes():
    image = texture(300, 300)
    boxes = np.array([[0, 5, 99, 104]], np.float32)
    options = dataclasses.replace(PLAIN, flip_probability=1.0)
    result, moved, _ = TrainTransform(SIZE, options)(image, boxes, np.array([0]), np.random.default_rng(0))
    np.testing.assert_array_equal(result, image[:, ::-1])
    np.testing.assert_allclose(moved, [[200, 5, 299, 104]])


@given(annotated(), st.integers(1, 5000))
@settings(max_examples=30, deadline=None)
def test_flipping_boxes_twice_is_the_identity(sample, width):
    boxes = np.floor(sample[1])
    np.testing.assert_array_equal(flip_boxes(flip_boxes(boxes, width), width), boxes)
    once = flip_boxes(boxes, width)
    assert (once[:, 2] - once[:, 0] == boxes[:, 2] - boxes[:, 0]).all()


def test_expansion_fills_with_the_mean_color_and_reaches_its_ratio():
    image = np.full((200, 200, 3), (255, 0, 0), np.uint8)
    boxes = np.array([[0, 0, 199, 199]], np.float32)
    options = dataclasses.replace(PLAIN, expand_probability=1.0)
    sides = []
    for seed in range(80):
        result, _moved, _ = TrainTransform(SIZE, options)(
            image, boxes, np.array([0]), np.random.default_rng(seed)
        )
        outside = ~(result == (255, 0, 0)).all(axis=2)
        assert (result[outside] == FILL).all()
        sides.append((~outside).sum() ** 0.5)
    assert min(sides) < 1.15 * 300 / 4
    assert max(sides) > 0.9 * 300


def test_crops_have_the_minimum_overlap():
    """With a minimum IoU of 0.7, the object fills at least as much of the crop."""
    image, boxes = texture(300, 300), np.array([[50, 60, 239, 249]], np.float32)
    options = dataclasses.replace(PLAIN, crop_trials=3000, crop_overlaps=(0.7,) * 30)
    fractions = []
    for seed in range(40):
        _, moved, _ = TrainTransform(SIZE, options)(image, boxes, np.array([0]), np.random.default_rng(seed))
        fractions.append(np.prod((moved[0, 2:] - moved[0, :2]) / 300))
    # 30 of 32 samplers have the minimum; the others are "no minimum" and "no crop".
    assert np.mean(np.array(fractions) > 0.69) > 0.8


def test_color_changes_differ_and_are_bounded():
    image = texture(60, 60)
    assert (distort_colors(image, PLAIN, np.random.default_rng(0)) == image).all()
    options = AugmentOptions(color_probability=1.0, contrast=0, saturation=0, hue=0)
    for seed in range(20):
        # Grey stays gray; brightness moves every level by the same amount, at most 32.
        gray = np.full((8, 8, 3), 128, np.uint8)
        moved = distort_colors(gray, options, np.random.default_rng(seed)).astype(int) - 128
        assert len(np.unique(moved)) == 1
        assert abs(moved[0, 0, 0]) <= 32
    results = [distort_colors(image, AugmentOptions(), np.random.default_rng(seed)) for seed in range(30)]
    assert len({result.tobytes() for result in results}) > 15


def test_hue_changes_by_at_most_its_limit():
    red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    options = AugmentOptions(color_probability=1.0, brightness=0, contrast=0, saturation=0)
    hues = []
    for seed in range(60):
        result = distort_colors(red, options, np.random.default_rng(seed))
        hue = int(cv2.cvtColor(result, cv2.COLOR_RGB2HSV)[0, 0, 0])
        hues.append((hue + 90) % 180 - 90)
    assert min(hues) < -12
    assert max(hues) > 12
    assert max(map(abs, hues)) <= 19


@pytest.mark.parametrize(
    "values",
    [
        {"flip_probability": 1.5},
        {"expand_ratio": 0.5},
        {"crop_overlaps": (0.1, 2.0)},
        {"crop_scale": 0.0},
        {"hue": 200.0},
        {"crop_aspect": 0.1},
        {"crop_trials": -1},
        {"contrast": 7.0},
        {"brightness": -3.0},
    ],
)
def test_invalid_option_is_named(values):
    with pytest.raises(Exception, match=next(iter(values))):
        from_mapping(AugmentOptions, values)
