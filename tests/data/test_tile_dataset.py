"""Datasets of tiles: windows with their pixels and boxes, and images that cannot be divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnssd.cli.main import main
from mnssd.data.dataset import Dataset
from mnssd.data.image import read_image
from mnssd.data.open import read_lists, recognize
from mnssd.data.sample import Sample
from mnssd.data.tile_dataset import EMPTY_SHARE, boxes_in, tile_dataset
from mnssd.data.tiles import Window, make_windows
from mnssd.errors import DataError

WIDTH, HEIGHT = 400, 300
PLACES = [(10, 12, 8, 6), (195, 140, 12, 14), (380, 285, 20, 15), (60, 200, 30, 10)]
"""Left, top, width, height of the objects of an image."""


def sample(path: Path, size: Tuple[int, int] = (WIDTH, HEIGHT), places: Any = PLACES) -> Sample:
    """A noisy dark image with a bright object of its own level at each place."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (size[1], size[0], 3)).astype(np.uint8)
    boxes = []
    for number, (left, top, width, height) in enumerate(places):
        image[top : top + height, left : left + width] = 100 + 40 * number
        boxes.append([left, top, left + width - 1, top + height - 1])
    cv2.imwrite(str(path), image)
    labels = np.arange(len(boxes), dtype=np.int32)
    difficult = np.zeros(len(boxes), bool)
    return Sample(path.stem, str(path), np.array(boxes, np.float32).reshape(-1, 4), labels, difficult, size)


def dataset(*samples: Sample) -> Dataset:
    return Dataset("large", tuple("abcd"), list(samples))


def test_windows_have_their_pixels_and_objects(tmp_path: Path) -> None:
    whole = sample(tmp_path / "large.png")
    result = tile_dataset(dataset(whole), "3x4", (300, 300))
    pixels = read_image(whole.image_path)
    seen: List[int] = []
    for part in result:
        window = Window(*map(int, part.image_id.split("_")[1:]))
        np.testing.assert_array_equal(
            read_image(part.image_path), pixels[window.top : window.bottom, window.left : window.right]
        )
        assert part.size == window.size
        for (left, top, right, bottom), label in zip(part.boxes.astype(int), part.labels):
            inside = read_image(part.image_path)[top : bottom + 1, left : right + 1]
            assert (inside == 100 + 40 * label).all()
            seen.append(int(label))
    windows = make_windows((WIDTH, HEIGHT), (3, 4))
    full = [part for part in result if len(part.boxes)]
    assert len(full) == sum(len(boxes_in(whole.boxes, window)[0]) > 0 for window in windows)
    assert len(result) - len(full) == round(EMPTY_SHARE * len(full))
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert seen.count(0) >= 3  # in each of the grids


@given(
    st.lists(st.tuples(*[st.integers(0, 99)] * 4), max_size=5),
    st.tuples(*[st.integers(0, 99)] * 4).filter(lambda w: w[0] < w[2] and w[1] < w[3]),
)
def test_boxes_are_those_whose_center_is_inside(boxes: Any, place: Any) -> None:
    corners = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    window = Window(*place)
    rows, inside = boxes_in(np.array(corners, np.float32).reshape(-1, 4), window)
    width, height = window.size
    for row, (left, top, right, bottom) in zip(rows, inside):
        x, y = (corners[row][0] + corners[row][2]) / 2, (corners[row][1] + corners[row][3]) / 2
        assert window.left <= x <= window.right - 1
        assert window.top <= y <= window.bottom - 1
        assert 0 <= left <= right <= width - 1
        assert 0 <= top <= bottom <= height - 1
        assert (left, top) == (max(corners[row][0] - window.left, 0), max(corners[row][1] - window.top, 0))
    outside = set(range(len(corners))) - set(rows.tolist())
    assert all(
        not (
            window.left <= (corners[row][0] + corners[row][2]) / 2 <= window.right - 1
            and window.top <= (corners[row][1] + corners[row][3]) / 2 <= window.bottom - 1
        )
        for row in outside
    )


def test_images_that_are_not_divided_are_unchanged(tmp_path: Path) -> None:
    small, large = sample(tmp_path / "small.png", (40, 40), []), sample(tmp_path / "large.png")
    result = tile_dataset(dataset(small, large), "2x2", (300, 300))
    assert result.samples[0] is small
    assert len(result) > 4
    without_objects = tile_dataset(dataset(sample(tmp_path / "e.png", places=[])), "2x2", (300, 300))
    assert len(without_objects) == 1
    automatic = tile_dataset(dataset(large), "auto", (300, 300), smallest_anchor=40.0)
    assert 1 < len(automatic) < len(tile_dataset(dataset(large), "auto", (300, 300), smallest_anchor=80.0))


def test_unusable_images_are_left_out_and_counted(tmp_path: Path) -> None:
    good = sample(tmp_path / "good.png")
    other_size = sample(tmp_path / "other.png")
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((30, 40, 3), np.uint8))
    damaged = sample(tmp_path / "damaged.png")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    result = tile_dataset(dataset(other_size, good, damaged), "2x2", (300, 300))
    assert {part.image_id.split("_")[0] for part in result} == {"good"}
    assert any("2 images" in note and "other.png" in note for note in result.notes)
    with pytest.raises(DataError, match=r"other\.png"):
        tile_dataset(dataset(other_size, damaged), "2x2", (300, 300))


@pytest.mark.parametrize("tiles", ["2x2", "auto"])
def test_command_writes_a_dataset_of_windows(tmp_path: Path, capsys: Any, tiles: str) -> None:
    for name in ("train", "val"):
        image = sample(tmp_path / f"{name}.png", (1200, 900))
        boxes = [tuple(box) for box in image.boxes.astype(int).tolist()]
        make_list(tmp_path, name, boxes)
    target = tmp_path / "tiles"
    command = ["convert-data", str(tmp_path), str(target), "--format", "voc", "--tiles", tiles]
    assert main(command) == 0
    assert "val" in capsys.readouterr().err
    parts = read_lists(recognize(target)[0], target)
    assert set(parts) == {"train", "val"}
    for part in parts.values():
        assert len(part) > 1
        for one in part:
            assert cv2.imread(one.image_path).shape[1::-1] == one.size
            assert (one.boxes[:, 2:] < one.size).all()
    assert main([*command[:-1], "2by2"]) == 2


def make_list(root: Path, name: str, boxes: List[Tuple[int, ...]]) -> None:
    rows = [f"{name}.png,cat,{box[0]},{box[1]},{box[2]},{box[3]}\n" for box in boxes]
    (root / f"{name}.csv").write_text("filename,class,xmin,ymin,xmax,ymax\n" + "".join(rows))
