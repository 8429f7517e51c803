"""Augmentation of classification images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from helpers.detectors import make_image
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.classification.transforms import _COLORS, _GEOMETRIC, ClassificationTransform, val_transform
from mnssd.data.transform_options import ClassAugmentOptions

PLAIN = ClassAugmentOptions(crop_area=1.0, crop_stretch=1.0, flip_probability=0.0, operations=0)


def test_transform_without_augmentation_is_a_resize() -> None:
    image = make_image(3, 64, 48)
    result = ClassificationTransform((32, 24), PLAIN)(image, np.random.default_rng(0))
    assert np.abs(result.astype(int) - cv2.resize(image, (32, 24), interpolation=cv2.INTER_AREA)).max() <= 2
    same = ClassificationTransform((64, 48), PLAIN)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(same, image)


def test_flip_probability_one_mirrors_the_image() -> None:
    image = make_image(3, 64, 48)
    mirrored = ClassAugmentOptions(crop_area=1.0, crop_stretch=1.0, flip_probability=1.0, operations=0)
    result = ClassificationTransform((64, 48), mirrored)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(result, image[:, ::-1])


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 2**32),
    st.floats(0.01, 1),
    st.floats(1, 4),
    st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_result_has_the_size_and_is_reproducible(
    width: int, height: int, seed: int, area: float, stretch: float, count: int
) -> None:
    options = ClassAugmentOptions(crop_area=area, crop_stretch=stretch, operations=count, magnitude=1.0)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    transform = ClassificationTransform((24, 16), options)
    first, again = (transform(image, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == (16, 24, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)


def test_crops_stay_within_the_image() -> None:
    """A white image without geometric operations shows no border."""
    white = np.full((50, 70, 3), 255, np.uint8)
    options = ClassAugmentOptions(crop_area=0.1, crop_stretch=3.0, operations=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert ClassificationTransform((16, 16), options)(white, rng).min() >= 254


@pytest.mark.parametrize("name", sorted(_COLORS))
def test_color_operation_of_zero_strength_changes_nothing(name: str) -> None:
    image = make_image(1, 30, 20)
    result = _COLORS[name](image, 0.0)
    if name not in ("autocontrast", "equalize"):  # have no strength
        np.testing.assert_array_equal(result, image)
    assert result.shape == image.shape
    changed = _COLORS[name](image, 1.0)
    assert changed.shape == image.shape
    assert (changed != image).any()


@pytest.mark.parametrize("name", sorted(_GEOMETRIC))
def test_geometric_operation_of_negative_strength_is_the_inverse(name: str) -> None:
    affine = _GEOMETRIC[name](0.7, (30, 20))
    assert not np.allclose(affine, np.eye(3))
    np.testing.assert_allclose(_GEOMETRIC[name](0.0, (30, 20)), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(affine @ _GEOMETRIC[name](-0.7, (30, 20)), np.eye(3), atol=1e-9)


def test_val_transform_crops_the_center() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[10:90, 20:180] = 255
    assert val_transform(image, (50, 50), 0.8).min() == 255
    assert val_transform(image, (50, 50), 1.0).min() == 0


@pytest.mark.parametrize(
    "values", [{"crop_area": 0}, {"crop_stretch": 0.5}, {"magnitude": 2}, {"mixup": -1}, {"val_crop": 1.1}]
)
def test_invalid_option_is_named(values: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ClassAugmentOptions(**values)
