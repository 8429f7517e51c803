"""Reading of training samples."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mnssd.data.sample import Sample
from mnssd.errors import DataError
from mnssd.tasks.detection_samples import read_sample

BOX = np.array([[200, 400, 999, 799]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A black image of 1203x1000 with a white box."""
    image = np.zeros((1000, 1203, 3), np.uint8)
    image[400:800, 200:1000] = 255
    assert cv2.imwrite(str(tmp_path / "big.jpg"), image)
    return str(tmp_path / "big.jpg")


def sample(path: str, width: int, height: int) -> Sample:
    return Sample("big", path, BOX, np.zeros(1, np.int32), np.zeros(1, bool), (width, height))


def test_boxes_follow_an_image_read_at_reduced_resolution(path: str) -> None:
    image, boxes = read_sample(sample(path, 1203, 1000), (96, 96))
    assert image.shape[0] < 200
    xmin, ymin, xmax, ymax = boxes[0].round().astype(int)
    assert image[ymin + 2 : ymax - 2, xmin + 2 : xmax - 2].min() > 200
    assert image[: ymin - 1].max() < 60


@pytest.mark.parametrize(("width", "height"), [(1000, 1203), (600, 500)])
def test_image_of_another_size_than_annotated_is_refused(path: str, width: int, height: int) -> None:
    with pytest.raises(DataError, match=f"big.jpg.*{width}x{height}"):
        read_sample(sample(path, width, height), (96, 96))
