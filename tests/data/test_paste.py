"""Pasted objects: boxes match the pixels of their objects; nothing else changes or is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnssd.data import paste
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset
from mnssd.data.paste import MAX_COVER, MOST_OBJECTS, SCALE, paste_objects
from mnssd.data.shapes.dataset import make_shapes
from mnssd.data.transform_options import AugmentOptions
from mnssd.data.transforms import Annotated
from mnssd.tasks.detection_samples import TrainingSamples

BACKGROUND, OBJECT = 100, 220


def cells(size: Tuple[int, int], places: List[Tuple[int, int, int, int]], labels: List[int]) -> Annotated:
    """Bright rectangles ``(left, top, width, height)`` on gray, with inclusive boxes."""
    image = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    for left, top, width, height in places:
        image[top : top + height, left : left + width] = OBJECT
    boxes = [(left, top, left + width - 1, top + height - 1) for left, top, width, height in places]
    return image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)


SOURCE = cells((120, 90), [(10, 10, 20, 16), (60, 50, 24, 24)], [3, 5])


@given(st.integers(60, 300), st.integers(60, 300), st.integers(0, 2**32))
def test_boxes_match_the_pixels_of_their_objects(width: int, height: int, seed: int) -> None:
    target = cells((width, height), [(5, 5, 30, 30)], [1])
    image, boxes, labels = paste_objects(target, SOURCE, np.random.default_rng(seed))
    assert (image.dtype, boxes.dtype, labels.dtype) == (np.uint8, np.float32, np.int64)
    np.testing.assert_array_equal(boxes[0], target[1][0])
    assert labels[0] == 1
    assert set(labels[1:]) <= {3, 5}
    marked = np.zeros((height, width), bool)
    marked[5:35, 5:35] = True
    for left, top, right, bottom in boxes[1:]:
        assert 0 <= left < right <= width - 1
        assert 0 <= top < bottom <= height - 1
        middle = image[round(float(top + bottom) / 2), round(float(left + right) / 2)]
        assert (middle == OBJECT).all()
        blurred = 2 + int((right - left) / 8)  # more than a pixel of the source
        marked[max(int(top) - blurred, 0) : int(bottom) + 2 * blurred] |= (
            np.abs(np.arange(width) - (left + right) / 2) < (right - left) / 2 + 2 * blurred
        )
        common = np.minimum((34, 34), (right, bottom)) - np.maximum((5, 5), (left, top))
        assert np.maximum(common, 0).prod() <= MAX_COVER * 29**2 + 1e-3
    assert (image[~marked] == BACKGROUND).all()  # there is no object without a box


def test_object_of_the_same_size_is_copied_to_the_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "SCALE", (1.0, 1.0))
    source = cells((100, 80), [(40, 30, 20, 16)], [2])
    for seed in range(20):
        image, boxes, labels = paste_objects(cells((100, 80), [], []), source, np.random.default_rng(seed))
        (left, top, right, bottom) = (int(value) for value in boxes[0])
        assert labels.tolist() == [2]
        assert (right - left, bottom - top) == (19, 15)
        assert (image == OBJECT).all(axis=2).sum() == 20 * 16
        assert (image[top : bottom + 1, left : right + 1] == OBJECT).all()


def test_edges_are_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "SCALE", (1.0, 1.0))
    pixels, boxes, labels = cells((100, 100), [(30, 30, 40, 40)], [2])
    pixels[pixels == BACKGROUND] = 20  # of another color than the background of the other image
    image, pasted, _ = paste_objects(
        cells((100, 100), [], []), (pixels, boxes, labels), np.random.default_rng(0)
    )
    left, top, right, _ = pasted[0].astype(int)
    row = image[top + 20, :, 0].astype(int)
    assert (row[left : right + 1] == OBJECT).all()
    margin = row[left - 6 : left]  # 0.15 of 40 pixels
    assert 20 < margin[-1] < 40 < margin[1] < 90
    assert (np.diff(margin) < 0).all()
    assert row[left - 7] == BACKGROUND


def test_size_is_relative_to_the_image() -> None:
    sides = []
    for seed in range(100):
        _, boxes, labels = paste_objects(cells((240, 180), [], []), SOURCE, np.random.default_rng(seed))
        sides += [right - left + 2 for (left, _, right, _), label in zip(boxes, labels) if label == 5]
    # 24 pixels of 120 are 48 of 240.
    assert 48 * SCALE[0] - 2 < min(sides) < 48 * 0.8
    assert 48 * 1.3 < max(sides) < 48 * SCALE[1] + 2


def test_rare_classes_are_pasted_as_often() -> None:
    places = [(column * 20, row * 20, 10, 10) for row in range(4) for column in range(5)]
    source = cells((100, 80), places, [0] * 19 + [1])
    drawn = [
        paste_objects(cells((300, 300), [], []), source, np.random.default_rng(seed))[2]
        for seed in range(100)
    ]
    assert 30 < sum((labels == 1).any() for labels in drawn) < 70
    assert max(map(len, drawn)) == MOST_OBJECTS


@pytest.mark.parametrize(
    "source",
    [
        cells((100, 80), [], []),
        cells((100, 80), [(10, 10, 30, 30)], [-1]),
        cells((100, 80), [(10, 10, 60, 60), (30, 30, 10, 10)], [0, -1]),  # with another one inside
        cells((100, 80), [(10, 10, 2, 2)], [0]),
        cells((20, 20), [(0, 0, 20, 20)], [0]),
        (np.full((1, 1, 3), 7, np.uint8), np.empty((0, 4), np.float32), np.empty(0, np.int64)),
    ],
)
def test_nothing_is_pasted(source: Annotated) -> None:
    target = cells((50, 40), [(2, 2, 45, 35)], [1])
    result = paste_objects(target, source, np.random.default_rng(0))
    for array, same in zip(result, target):
        np.testing.assert_array_equal(array, same)


def test_training_samples_with_pasted_objects(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", train=8, val=2, size=(96, 96))
    dataset = open_dataset("shapes", tmp_path / "shapes", "train")
    seen: List[Any] = []

    def read(path: str, reduction: int) -> np.ndarray:
        seen.append(path)
        return read_image(path, reduction)

    def draw(probability: float) -> np.ndarray:
        options = AugmentOptions(paste=probability, crop_trials=0, expand_probability=0, color_probability=0)
        anchors = np.array([[48, 48, 96, 96]], np.float32)
        samples = TrainingSamples(dataset, (96, 96), anchors, options, 0.5, read)
        return np.stack([samples(dataset[0], np.random.default_rng(seed))[0] for seed in range(6)])

    plain, first, second = draw(0.0), draw(1.0), draw(1.0)
    assert len(seen) == 6 + 12 + 12
    np.testing.assert_array_equal(first, second)
    assert (first != plain).any()
