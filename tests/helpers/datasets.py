"""Comparison of datasets."""

from __future__ import annotations

from typing import Set

import numpy as np

from mnssd.data.dataset import Dataset
from mnssd.data.image import read_bytes


def assert_same_samples(dataset: Dataset, expected: Dataset) -> None:
    """Classes, ids, boxes to a hundredth of a pixel, labels, sizes and image files are equal."""
    assert dataset.classes == expected.classes
    assert [sample.image_id for sample in dataset] == [sample.image_id for sample in expected]
    for sample, other in zip(dataset, expected):
        np.testing.assert_allclose(sample.boxes, other.boxes, atol=0.01)
        np.testing.assert_array_equal(sample.labels, other.labels)
        assert sample.size == other.size
        assert read_bytes(sample.image_path) == read_bytes(other.image_path)


def codes(dataset: Dataset) -> Set[str]:
    """Codes of the findings."""
    return {finding.code for finding in dataset.findings}
