"""Anchors compared with GluonCV's generators, and properties at any size."""

from __future__ import annotations

from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo.ssd.anchor import LiteAnchorGenerator, SSDAnchorGenerator
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.nn.anchors import anchors_per_position, make_anchors
from mnssd.nn.head_layouts import LAYOUTS, PAPER_ANCHORS

SCALES, RATIOS = PAPER_ANCHORS.sizes[:-1], PAPER_ANCHORS.ratios
MAPS_300 = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]

map_sizes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=6, max_size=6)
input_sizes = st.tuples(st.integers(96, 2000), st.integers(96, 2000))


def test_anchor_count_at_300_pixels() -> None:
    """2639 anchors at 300 pixels: 19*19*5 + (100 + 25 + 9 + 4 + 1) * 6."""
    assert len(make_anchors(MAPS_300, (300, 300))) == 2639
    assert [anchors_per_position(i) for i in range(6)] == [5, 6, 6, 6, 6, 6]


def gluoncv_anchors(index: int, columns: int, rows: int, side: int) -> np.ndarray:
    """GluonCV's SSD anchors ``(rows * columns, K, 4)``, and on the finest map its Lite generator's half
    square."""
    next_scale = SCALES[index + 1] if index + 1 < len(SCALES) else 1.0
    sizes = (SCALES[index] * side, next_scale * side)
    ratios = [1, 2, 0.5] if index == 0 else [1, 2, 0.5, 3, 1 / 3]

    def generate(kind: Any) -> np.ndarray:
        generator = kind(index, (side, side), sizes, ratios, step=side / columns, alloc_size=(rows, columns))
        generator.initialize()
        anchors: np.ndarray = generator(mx.nd.zeros((1, 1, rows, columns))).asnumpy()
        return anchors.reshape(rows * columns, -1, 4)

    plain = generate(SSDAnchorGenerator)
    half_square = generate(LiteAnchorGenerator)[:, :1]
    return np.concatenate([plain, half_square], axis=1) if index == 0 else plain


@pytest.mark.parametrize("side", [300, 512])
def test_anchors_match_gluoncv(side: int) -> None:
    """The same boxes at each position, in another order."""
    maps = MAPS_300 if side == 300 else [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    ours, start = make_anchors(maps, (side, side)), 0
    for index, (columns, rows) in enumerate(maps):
        expected = gluoncv_anchors(index, columns, rows, side)
        stop = start + expected.shape[0] * expected.shape[1]
        actual = ours[start:stop].reshape(expected.shape)
        start = stop
        for position in range(len(expected)):
            mine, theirs = (a[np.lexsort(a.T.round(2))] for a in (actual[position], expected[position]))
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    assert start == len(ours)


@settings(max_examples=60, deadline=None)
@given(maps=map_sizes, size=input_sizes)
def test_anchor_centers_and_shapes_at_any_size(maps: List[Tuple[int, int]], size: Tuple[int, int]) -> None:
    anchors, (width, height) = make_anchors(maps, size), size
    assert anchors.dtype == np.float32
    assert len(anchors) == sum(w * h * anchors_per_position(i) for i, (w, h) in enumerate(maps))
    x, y, w, h = anchors.T
    assert ((x > 0) & (x < width) & (y > 0) & (y < height)).all()
    assert (w > 0).all()
    assert (h > 0).all()
    start = 0
    for index, (columns, rows) in enumerate(maps):
        per_position = anchors_per_position(index)
        part = anchors[start : start + columns * rows * per_position].reshape(rows, columns, per_position, 4)
        start += columns * rows * per_position
        # rows before columns; centers evenly spaced, half a step from the edges
        expected_x = (np.arange(columns) + 0.5) * width / columns
        expected_y = (np.arange(rows) + 0.5) * height / rows
        np.testing.assert_allclose(
            part[..., 0], np.broadcast_to(expected_x[:, None], part.shape[:3]), rtol=1e-5
        )
        np.testing.assert_allclose(
            part[..., 1], np.broadcast_to(expected_y[:, None, None], part.shape[:3]), rtol=1e-5
        )
        # the same shapes everywhere
        assert (part[..., 2:] == part[0, 0, :, 2:]).all()
    # centers are symmetric about the middle of the image
    np.testing.assert_allclose(np.sort(width - x), np.sort(x), atol=width * 1e-5)


@pytest.mark.parametrize("index", range(6))
def test_shapes_have_their_scale_and_ratio(index: int) -> None:
    start = sum(anchors_per_position(i) for i in range(index))
    shapes = make_anchors([(1, 1)] * 6, (300, 300))[start : start + anchors_per_position(index), 2:]
    area, ratio = np.sqrt(shapes.prod(1)) / 300, shapes[:, 0] / shapes[:, 1]
    following = [*SCALES[1:], 1.0][index]
    if index == 0:
        np.testing.assert_allclose(area, [0.2, 0.2, 0.2, np.sqrt(0.2 * 0.35), 0.1], rtol=1e-6)
        np.testing.assert_allclose(ratio, [*RATIOS[0], 1, 1], rtol=1e-6)
    else:
        expected = [SCALES[index]] * 5 + [np.sqrt(SCALES[index] * following)]
        np.testing.assert_allclose(area, expected, rtol=1e-6)
        np.testing.assert_allclose(ratio, [*RATIOS[1], 1], rtol=1e-6)


def test_scales_are_evenly_spaced() -> None:
    """SSD paper, section 2.2: s_k = s_min + (s_max - s_min) (k - 1) / (m - 1)."""
    np.testing.assert_allclose(SCALES, np.linspace(0.2, 0.95, 6))


def test_squares_stay_square_for_a_rectangular_input() -> None:
    """Sides derive from the geometric mean of the input's sides."""
    wide = make_anchors([(30, 20), (15, 10), (8, 5), (4, 3), (2, 2), (1, 1)], (480, 320))
    assert (wide[4::5][:600, 2] == wide[4::5][:600, 3]).all()
    np.testing.assert_allclose(wide[4, 2:], 0.1 * np.sqrt(480 * 320), rtol=1e-6)
    tall = make_anchors([(20, 30), (10, 15), (5, 8), (3, 4), (2, 2), (1, 1)], (320, 480))
    transposed = wide[:, [1, 0, 3, 2]]
    assert sorted(map(tuple, tall.round(2).tolist())) == sorted(map(tuple, transposed.round(2).tolist()))


@pytest.mark.parametrize("head", ["gluoncv_512", "gluoncv_300", "gluoncv_lite_300"])
def test_gluoncv_layouts_do_not_depend_on_the_input(head: str) -> None:
    """Sizes and steps in pixels: a larger map has more anchors, the first of them the same."""
    layout = LAYOUTS[head].anchors
    small, large = (make_anchors([(side, side)] * 6, (32 * side, 32 * side), layout) for side in (2, 3))
    per_position = anchors_per_position(0, layout)
    np.testing.assert_array_equal(small[: 2 * per_position], large[: 2 * per_position])
    assert small[0, 0] == layout.steps[0] / 2
    assert len(large) == 9 * sum(anchors_per_position(i, layout) for i in range(6))


@pytest.mark.parametrize("size", [(256, 256), (320, 256)])
def test_anchors_at_another_size_keep_their_pixels(size: Tuple[int, int]) -> None:
    maps = [(size[0] // 16, size[1] // 16), (8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    anchors = make_anchors(maps, size, base_size=(128, 128))
    assert set(anchors[:5, 2].round(3)) <= set(make_anchors(maps, (128, 128))[:5, 2].round(3))
    np.testing.assert_allclose(anchors[0, :2], 8)
