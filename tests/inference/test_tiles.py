"""Tiles: the option's values, windows, and detections merged across windows."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections
from mnssd.data.tiles import (
    AUTO_SIDE,
    LEAST_SIDE,
    OVERLAP,
    Window,
    check_tiles,
    choose_grid,
    make_windows,
    parse_tiles,
)
from mnssd.errors import OptionError
from mnssd.inference.tile_merge import merge, merged_rows, shifted

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", "none"), ("auto", "auto"), ("2x3", "2x3"), (" 2X3 ", "2x3"), ("1x1", "none"),
        ("02x3", "2x3"), ("64x64", "64x64"), ("1x5", "1x5"),
    ],
)  # fmt: skip
def test_values_of_the_option(text: str, value: str) -> None:
    assert parse_tiles(text) == parse_tiles(value) == check_tiles(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "0x2", "2x0", "axb", "2", "2x", "x2", "2x2x2", "-1x2", "2.5x2", "65x2", "2x65", "99999999x2",
        "2*2", "automatic", "\u0662x\u0662", "2 x 2",
    ],
)  # fmt: skip
def test_other_values_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="none, auto"):
        parse_tiles(text)
    with pytest.raises(OptionError, match="tiles"):
        check_tiles(text)


@pytest.mark.parametrize("value", [None, 2, (2, 2), True])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="tiles"):
        check_tiles(value)


@relaxed
@given(SIZES, GRIDS)
def test_windows_cover_every_pixel_of_each_level(size: Tuple[int, int], grid: Tuple[int, int]) -> None:
    windows = make_windows(size, grid)
    assert windows[-1][:4] == (0, 0, *size)
    assert len(set(windows)) == len(windows)
    for level in {window.level for window in windows}:
        own = [window for window in windows if window.level == level]
        assert len({window.size for window in own}) == 1
        for axis in range(2):
            seen = np.zeros(size[axis], bool)
            for window in own:
                assert 0 <= window[axis] < window[axis + 2] <= size[axis]
                seen[window[axis] : window[axis + 2]] = True
            assert seen.all()
        spans = [{(window[axis], window[axis + 2]) for window in own} for axis in range(2)]
        assert len(own) == len(spans[0]) * len(spans[1])  # each column in each row


@relaxed
@given(SIZES, GRIDS, st.data())
def test_an_object_smaller_than_the_overlap_is_whole_in_a_window(
    size: Tuple[int, int], grid: Tuple[int, int], data: Any
) -> None:
    windows = make_windows(size, grid)
    level = data.draw(st.integers(0, windows[-1].level))
    own = [window for window in windows if window.level == level]
    box = []
    for axis in range(2):
        whole = own[0].size[axis] == size[axis]
        largest = size[axis] if whole else max(1, int(OVERLAP * own[0].size[axis]) - 1)
        side = data.draw(st.integers(1, largest))
        start = data.draw(st.integers(0, size[axis] - side))
        box.append((start, start + side))
    assert any(
        all(window[axis] <= box[axis][0] and box[axis][1] <= window[axis + 2] for axis in range(2))
        for window in own
    )


def test_small_images_have_fewer_windows() -> None:
    assert make_windows((4 * LEAST_SIDE, LEAST_SIDE - 1), (5, 9))[3].right == 4 * LEAST_SIDE
    assert make_windows((1, 1), (64, 64)) == [Window(0, 0, 1, 1, 0)]
    assert make_windows((300, 200), (1, 1)) == [Window(0, 0, 300, 200, 0)]


@relaxed
@given(SIZES, st.sampled_from([(300, 300), (512, 384), (96, 320)]), st.floats(8, 100))
def test_auto_shows_small_objects_as_large_as_the_smallest_anchor(
    size: Tuple[int, int], net_size: Tuple[int, int], anchor: float
) -> None:
    grid = choose_grid("auto", size, net_size, anchor)
    rows, columns = grid
    for length, net, count in ((size[0], net_size[0], columns), (size[1], net_size[1], rows)):
        side = length / (count - (count - 1) * OVERLAP)
        area = (AUTO_SIDE * net / side) ** 2  # if both sides are enlarged as this one
        assert count == 64 or area / anchor**2 >= 0.5 - 1e-9
        if count > 1:  # one window less would not do
            side = length / (count - 1 - (count - 2) * OVERLAP)
            assert (AUTO_SIDE * net / side) ** 2 / anchor**2 < 0.5


def test_auto_needs_anchors_and_leaves_small_images_whole() -> None:
    assert choose_grid("auto", (200, 200), (300, 300), 30.0) == (1, 1)
    assert choose_grid("none", (9000, 9000), (300, 300)) == (1, 1)
    assert choose_grid("2x3", (9000, 9000), (300, 300)) == (2, 3)
    with pytest.raises(OptionError, match="2x2"):
        choose_grid("auto", (200, 200), (300, 300))


# ---- merging

SIZE = (1000, 800)


def detections(rows: Sequence[Tuple[float, ...]]) -> Detections:
    """Rows xmin, ymin, xmax, ymax, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5].astype(np.int32), table[:, 4])


def merged(windows: List[Window], found: Sequence[Tuple[int, Tuple[float, ...]]]) -> List[float]:
    """Scores of what remains of pairs of a window's index and a row, see `detections`."""
    parts = [detections([row for own, row in found if own == index]) for index in range(len(windows))]
    return [round(float(score), 3) for score in merge(parts, windows, SIZE).scores]


TWO = make_windows(SIZE, (1, 2))  # columns 0 to 555 and 444 to 999, and the whole image


def test_windows_of_the_merging_tests() -> None:
    assert [window[:2] for window in TWO] == [(0, 0), (444, 0), (0, 0)]
    assert [window[2:] for window in TWO] == [(556, 800, 0), (1000, 800, 0), (1000, 800, 1)]


@pytest.mark.parametrize(
    ("found", "scores"),
    [
        # The same object in two windows, with boxes that differ a little.
        ([(0, (480, 100, 520, 140, 0.9, 0)), (1, (481, 99, 523, 141, 0.8, 0))], [0.9]),
        # Cut by the edge at column 555; the other window sees the place.
        ([(0, (530, 100, 555, 150, 0.9, 0)), (1, (530, 100, 580, 150, 0.3, 0))], [0.3]),
        # So it is if the class differs, or the other window has no detection there.
        ([(0, (530, 100, 555, 150, 0.9, 1)), (1, (530, 100, 580, 150, 0.3, 0))], [0.3]),
        ([(0, (530, 100, 555, 150, 0.9, 0))], []),
        # Larger than the overlap: cut in both windows, whole in the image.
        (
            [
                (0, (300, 100, 555, 500, 0.9, 0)), (1, (444, 100, 700, 500, 0.8, 0)),
                (2, (300, 100, 700, 500, 0.4, 0)),
            ],
            [0.4],
        ),
        # A part that the network has found inside of the object is no double of it.
        ([(0, (330, 120, 380, 170, 0.9, 0)), (2, (300, 100, 700, 500, 0.4, 0))], [0.9, 0.4]),
        # Without a whole box, the larger object is not lost.
        ([(0, (300, 100, 555, 500, 0.9, 0))], [0.9]),
        # A weak whole box does not suppress a cut one.
        ([(0, (300, 100, 555, 500, 0.9, 0)), (2, (300, 100, 600, 500, 0.02, 0))], [0.9, 0.02]),
        # The edge of the image cuts nothing.
        ([(0, (0, 0, 30, 30, 0.9, 0)), (1, (970, 770, 999, 799, 0.8, 0))], [0.9, 0.8]),
        # Other classes, and neighbors within a window, remain.
        ([(0, (480, 100, 520, 140, 0.9, 0)), (1, (480, 100, 520, 140, 0.8, 1))], [0.9, 0.8]),
        ([(0, (100, 100, 140, 140, 0.9, 0)), (0, (105, 100, 145, 140, 0.8, 0))], [0.9, 0.8]),
        ([(0, (480, 100, 500, 140, 0.9, 0)), (1, (495, 100, 515, 140, 0.8, 0))], [0.9, 0.8]),
        ([], []),
    ],
)  # fmt: skip
def test_objects_have_one_box(found: Any, scores: List[float]) -> None:
    assert merged(TWO, found) == scores


def test_one_window_is_left_unchanged() -> None:
    part = detections([(1, 1, 50, 50, 0.5, 0), (1, 1, 50, 51, 0.4, 0)])
    assert merge([part], make_windows(SIZE, (1, 1)), SIZE) is part


def test_boxes_are_shifted_to_their_window() -> None:
    moved = shifted(detections([(1, 2, 30, 40, 0.5, 1)]), Window(100, 200, 400, 500))
    assert moved.boxes.tolist() == [[101, 202, 130, 240]]


@st.composite
def crowds(draw: Any) -> Tuple[List[Window], np.ndarray, Detections]:
    """Windows, and boxes within some of them."""
    windows = make_windows(SIZE, draw(st.tuples(st.integers(1, 5), st.integers(1, 5))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, 150))
    window_of = rng.integers(0, len(windows), count)
    corners = np.array([windows[index][:4] for index in window_of]).reshape(-1, 4)
    extent = corners[:, 2:] - corners[:, :2]
    start = corners[:, :2] + np.rint(rng.uniform(0, 0.9, (count, 2)) * extent)
    end = np.minimum(start + np.rint(rng.uniform(2, 200, (count, 2))), corners[:, 2:] - 1)
    boxes = np.hstack([start, end]).astype(np.float32)
    scores = np.round(rng.uniform(0.01, 1, count), 2).astype(np.float32)  # some are equal
    return windows, window_of, Detections(boxes, rng.integers(0, 2, count).astype(np.int32), scores)


@relaxed
@given(crowds())
def test_merging_is_idempotent(crowd: Tuple[List[Window], np.ndarray, Detections]) -> None:
    windows, window_of, found = crowd
    rows = merged_rows(found, window_of, windows, SIZE)
    again = merged_rows(found.take(rows.tolist()), window_of[rows], windows, SIZE)
    np.testing.assert_array_equal(again, np.arange(len(rows)))
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(found.scores[rows]) <= 0).all()


@settings(relaxed, max_examples=30)
@given(crowds(), st.integers(1, 40))
def test_memory_limit_does_not_change_the_result(
    crowd: Tuple[List[Window], np.ndarray, Detections], at_once: int
) -> None:
    windows, window_of, found = crowd
    expected = merged_rows(found, window_of, windows, SIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mnssd.inference.tile_merge._PAIRS_AT_ONCE", at_once)
        np.testing.assert_array_equal(merged_rows(found, window_of, windows, SIZE), expected)
