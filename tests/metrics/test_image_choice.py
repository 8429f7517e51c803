"""Which images to label next: uncertainty, and distance from those that are labeled or chosen."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mnssd.data.sample import Detections
from mnssd.metrics.image_choice import choose_images, uncertainty

NONE = np.empty((0, 2))


def test_uncertainty_is_largest_at_a_half_and_counts_detections() -> None:
    def of(*scores: float) -> float:
        count = len(scores)
        return uncertainty(
            Detections(np.zeros((count, 4), np.float32), np.zeros(count, np.int32), np.float32(scores))
        )

    assert of() == of(1.0) == 0
    assert of(0.5) == 1
    assert of(0.5, 0.5) == 2
    assert of(0.9) < of(0.7) < of(0.5)


def test_equal_images_are_not_chosen_one_after_the_other() -> None:
    features = np.array([[1, 0], [1, 0.01], [0, 1]], float)
    assert choose_images(np.array([5.0, 4.9, 1.0]), features, 2, NONE) == [0, 2]


def test_images_like_labeled_ones_come_last() -> None:
    features = np.array([[1, 0], [0, 1]], float)
    assert choose_images(np.array([5.0, 1.0]), features, 2, np.array([[1.0, 0.01]])) == [1, 0]


def test_the_less_certain_of_two_images_is_chosen_first() -> None:
    features = np.array([[1, 0], [0, 1]], float)
    assert choose_images(np.array([1.0, 2.0]), features, 1, NONE) == [1]
    assert choose_images(np.zeros(2), features, 2, NONE) == [0, 1]


@given(st.integers(0, 12), st.integers(1, 15), st.integers(0, 4), st.integers(0, 9))
def test_each_image_is_chosen_once(images: int, number: int, labeled: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, known = rng.normal(size=(images, 3)), rng.normal(size=(labeled, 3))
    chosen = choose_images(rng.uniform(0, 5, images), features, number, known)
    assert len(chosen) == len(set(chosen)) == min(number, images)
    assert set(chosen) <= set(range(images))
