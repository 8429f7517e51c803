"""Mosaics: boxes match the pixels of their objects; an unreadable image leaves its quarter empty."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnssd.data.shapes.dataset import make_shapes
from mnssd.data.transforms import MOSAIC_CENTER, Annotated, mosaic
from mnssd.tasks.run import train_detector


def flat_image(width: int, height: int, level: int) -> Annotated:
    """Grey `level` with a rectangle of 255 - level, which is its box."""
    image = np.full((height, width, 3), level, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = 255 - level
    box = [width // 4, height // 4, width // 2, height // 2]
    return image, np.array([box], np.float32), np.array([level])


@given(
    st.lists(st.tuples(st.integers(8, 300), st.integers(8, 300)), min_size=4, max_size=4),
    st.integers(0, 2**32),
)
def test_boxes_match_the_pixels_of_their_objects(sizes: List[Any], seed: int) -> None:
    parts = [flat_image(*size, level) for size, level in zip(sizes, (0, 30, 60, 90))]
    image, boxes, labels = mosaic(parts, (160, 120), np.random.default_rng(seed))
    assert image.shape == (120, 160, 3)
    assert boxes.dtype == np.float32
    assert labels.tolist() == [0, 30, 60, 90]
    for (left, top, right, bottom), level in zip(boxes, labels):
        assert 0 <= left < right <= 160
        assert 0 <= top < bottom <= 120
        middle = image[int((top + bottom) / 2), int((left + right) / 2)]
        assert abs(int(middle[0]) - (255 - level)) < 40
    meeting = boxes[3, :2] - (boxes[3, 2:] - boxes[3, :2]) * [1, 1]  # about the corner of the fourth quarter
    assert (meeting > np.array([160, 120]) * MOSAIC_CENTER[0] - 40).all()


def test_images_without_objects_or_of_one_pixel_are_combined() -> None:
    nothing = (np.full((1, 1, 3), 7, np.uint8), np.empty((0, 4), np.float32), np.empty(0, np.int64))
    parts = [nothing, flat_image(50, 40, 0), nothing, nothing]
    image, boxes, labels = mosaic(parts, (96, 96), np.random.default_rng(0))
    assert len(boxes) == len(labels) == 1
    assert (image[0, 0] == 7).all()


@pytest.mark.slow
def test_training_with_mosaics_skips_unreadable_images_and_is_reproducible(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_shapes(tmp_path / "shapes", train=8, val=2, size=(96, 96))
    damaged = sorted((tmp_path / "shapes" / "JPEGImages").glob("train*"))[3]
    damaged.write_bytes(damaged.read_bytes()[:400])
    options = {
        "dataset": "shapes", "data_root": str(tmp_path / "shapes"), "width": 0.25, "size": (96, 96),
        "epochs": 1, "batch_size": 4, "mosaic": 1.0, "workers": 2,
    }  # fmt: skip
    logs = []
    for name in ("a", "b"):
        run = train_detector({**options, "output": str(tmp_path / name)})
        logs.append([line.split(",")[2:5] for line in (run / "log.csv").read_text().splitlines()])
    assert logs[0] == logs[1]
    assert re.search(rf"\b1\b.*{damaged.name}", capsys.readouterr().out)
