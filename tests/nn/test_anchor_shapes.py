"""Anchor shapes from boxes and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.errors import OptionError
from mnssd.nn.anchor_shapes import (
    cluster_shapes,
    explicit_layout,
    mean_overlap,
    overlaps,
    read_shapes,
    shapes_of,
)
from mnssd.nn.anchors import make_anchors
from mnssd.nn.head_layouts import LAYOUTS

MAPS = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
sides = st.floats(2, 400)
some_sizes = st.lists(st.tuples(sides, sides), min_size=1, max_size=60).map(lambda rows: np.array(rows))


def default_shapes(head: str = "ssd") -> List[np.ndarray]:
    layout = LAYOUTS[head].anchors
    return shapes_of(make_anchors(MAPS, (300, 300), layout), MAPS, layout)


def test_shapes_are_those_of_every_position() -> None:
    shapes = default_shapes()
    assert [part.shape for part in shapes] == [(5, 2), *[(6, 2)] * 5]
    anchors = make_anchors(MAPS, (300, 300))
    np.testing.assert_allclose(anchors[5 * 7 : 5 * 8, 2:], shapes[0])
    np.testing.assert_allclose(anchors[-6:, 2:], shapes[-1])


@pytest.mark.parametrize("head", ["ssd", "gluoncv_300"])
@pytest.mark.parametrize("size", [(300, 300), (512, 320)])
def test_explicit_layout_has_the_positions_of_the_head(head: str, size: Any) -> None:
    layout = LAYOUTS[head].anchors
    before = make_anchors(MAPS, size, layout)
    shapes = shapes_of(before, MAPS, layout)
    same = make_anchors(MAPS, size, explicit_layout(layout, shapes, size))
    np.testing.assert_allclose(same, before, rtol=1e-5, atol=1e-3)
    fewer = make_anchors(MAPS, size, explicit_layout(layout, [part[:2] for part in shapes], size))
    assert len(fewer) == 2 * sum(columns * rows for columns, rows in MAPS)


def test_clusters_are_found() -> None:
    """Boxes of five shapes, a little jittered, of which every map gets those of its size."""
    generator = np.random.default_rng(1)
    shapes = np.array([(20, 30), (30, 20), (40, 60), (60, 20), (25, 25.0)])
    sizes = np.repeat(shapes, 20, axis=0) * generator.uniform(0.97, 1.03, (100, 2))
    found = cluster_shapes(default_shapes(), sizes)
    np.testing.assert_array_equal(np.concatenate(found[1:]), np.concatenate(default_shapes()[1:]))
    assert mean_overlap(sizes, found[:1]) > 0.9 > mean_overlap(sizes, default_shapes())


@settings(max_examples=60, deadline=None)
@given(some_sizes)
def test_any_boxes_give_as_many_shapes_within_their_range(sizes: np.ndarray) -> None:
    before = default_shapes()
    found = cluster_shapes(before, sizes)
    assert [part.shape for part in found] == [part.shape for part in before]
    for part, old in zip(found, before):
        assert np.isfinite(part).all()
        if not np.array_equal(part, old):
            assert (part >= sizes.min(axis=0) - 1e-9).all()
            assert (part <= sizes.max(axis=0) + 1e-9).all()
            assert (np.diff(part.prod(axis=1)) >= 0).all()
    explicit_layout(LAYOUTS["ssd"].anchors, found, (300, 300))
    np.testing.assert_array_equal(np.concatenate(cluster_shapes(before, sizes)), np.concatenate(found))


def test_overlaps_by_hand() -> None:
    found = overlaps(np.array([(10.0, 20.0), (4.0, 4.0)]), np.array([(20.0, 10.0), (10.0, 20.0)]))
    np.testing.assert_allclose(found, [[100 / 300, 1], [16 / 200, 16 / 200]])


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "shapes.yaml"
    path.write_text("- [[20, 30], [40, 25.5]]\n- [[80, 80]]\n")
    first, second = read_shapes(str(path), 2)
    assert (first.tolist(), second.tolist()) == ([[20, 30], [40, 25.5]], [[80, 80]])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"- 1", b"- [1, 2]", b"- [[1, 2], [3]]\n- [[1, 2]]", b"- [[0, 2]]\n- [[1, 2]]", b"a: b", b"[",
        b"\xff", b"- [[1, -2]]\n- [[1, 2]]", b"- [[.nan, 2]]\n- [[1, 2]]", b"- [[a, 2]]\n- [[1, 2]]",
        b"- []\n- [[1, 2]]", b"- [[1, 2]]", b"- [[1, 2]]\n- [[1, 2]]\n- [[1, 2]]",
        b"- [[[1, 2]]]\n- [[1, 2]]",
    ],
)  # fmt: skip
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "shapes.yaml"
    path.write_bytes(content)
    with pytest.raises(OptionError, match="shapes.yaml"):
        read_shapes(str(path), 2)
    with pytest.raises(OptionError, match="none.yaml"):
        read_shapes(str(tmp_path / "none.yaml"), 2)


def test_too_many_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="many"):
        explicit_layout(LAYOUTS["ssd"].anchors, [np.ones((65, 2))] * 6, (300, 300))
