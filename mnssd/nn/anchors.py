"""Anchors (default boxes) of a detector's feature maps, made by GluonCV's generators."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

import numpy as np

from .gluoncv_parts import LiteAnchorGenerator, SSDAnchorGenerator
from .head_layouts import PAPER_ANCHORS, AnchorLayout

Size = Tuple[int, int]


class MapAnchorGenerator(SSDAnchorGenerator):  # type: ignore[misc]
    """Anchors of a feature map of known size, by the SSD paper; see `GENERATORS`.

    As its base class, but `step` is the distance of the centers in x and in y. One anchor per ratio, then a
    square at the geometric mean of the two `sizes`. The finest map (`index` 0) also has a square of half its
    size, as in TensorFlow's ``reduce_boxes_in_lowest_layer``, which however drops the other two squares;
    without them a third of the objects with a fifth of the image's side match no anchor.
    """

    def _generate_anchors(
        self,
        sizes: Sequence[float],
        ratios: Sequence[float],
        step: Tuple[float, float],
        alloc_size: Tuple[int, int],
        offsets: Tuple[float, float],
    ) -> np.ndarray:
        """Anchors ``(1, 1, H, W, K * 4)``; a loop over the positions in the base class, an array here."""
        rows, columns = alloc_size
        shapes = self._map_shapes(sizes, ratios)
        grid = np.empty((rows, columns, len(shapes), 4))
        grid[..., 0] = ((np.arange(columns) + offsets[1]) * step[0])[None, :, None]
        grid[..., 1] = ((np.arange(rows) + offsets[0]) * step[1])[:, None, None]
        grid[..., 2:] = shapes
        return grid.reshape(1, 1, rows, columns, -1)

    def _map_shapes(self, sizes: Sequence[float], ratios: Sequence[float]) -> List[Tuple[float, float]]:
        """Widths and heights of the anchors at a position."""
        shapes = [(sizes[0] * np.sqrt(r), sizes[0] / np.sqrt(r)) for r in ratios]
        return shapes + [(sizes[1], sizes[1])] + [(sizes[0] / 2, sizes[0] / 2)] * (self._index == 0)

    @property
    def num_depth(self) -> int:
        """Number of anchors at each position."""
        return len(self._ratios) + 1 + (self._index == 0)


class ExplicitAnchorGenerator(MapAnchorGenerator):
    """Anchors of given shapes, in their order; `shapes` are widths and heights in pixels."""

    def __init__(
        self,
        index: int,
        im_size: Size,
        shapes: Sequence[Tuple[float, float]],
        step: Tuple[float, float],
        alloc_size: Size,
        clip: bool,
    ) -> None:
        self._shapes, self._limit = tuple(shapes), im_size[::-1] if clip else None
        super().__init__(index, im_size, (1.0, 1.0), (1.0,), step, alloc_size=alloc_size)

    def _generate_anchors(self, *args: Any) -> np.ndarray:
        anchors = super()._generate_anchors(*args)
        if self._limit is None:
            return anchors
        grid = anchors.reshape(*anchors.shape[:4], -1, 4)
        return np.clip(grid, 0, np.tile(self._limit, 2)).reshape(anchors.shape)

    def _map_shapes(self, sizes: Sequence[float], ratios: Sequence[float]) -> List[Tuple[float, float]]:
        return list(self._shapes)

    @property
    def num_depth(self) -> int:
        """Number of anchors at each position."""
        return len(self._shapes)


GENERATORS: Dict[str, Type[Any]] = {
    "map": MapAnchorGenerator,
    "gluoncv": SSDAnchorGenerator,
    "gluoncv_lite": LiteAnchorGenerator,
}
"""Anchor generators by `AnchorLayout.generator`. The last two are GluonCV's, for its pretrained networks;
``'explicit'`` is `ExplicitAnchorGenerator`, which takes other arguments."""


def anchor_sizes(layout: AnchorLayout, input_size: Size) -> List[float]:
    """Sides of the anchors in pixels, as ``gluoncv.model_zoo.SSD`` takes them (`sizes`).

    Fractions are of the geometric mean of the input's sides, so that squares stay square.
    """
    side = _unit(layout, input_size)
    return [size * side for size in layout.sizes]


def _unit(layout: AnchorLayout, input_size: Size) -> float:
    """Pixels of one unit of the layout's sizes and shapes."""
    return 1.0 if layout.steps else float(np.sqrt(input_size[0] * input_size[1]))


def anchor_steps(
    layout: AnchorLayout, map_sizes: Sequence[Size], input_size: Size
) -> List[Tuple[float, float]]:
    """Distance in x and in y of the anchors' centers on each map, in pixels (`steps`)."""
    if layout.steps:
        return [(step, step) for step in layout.steps]
    # Not the stride: a 300 pixel input has 19 columns of 15.8 pixels, not of 16.
    return [(input_size[0] / columns, input_size[1] / rows) for columns, rows in map_sizes]


def make_generators(
    map_sizes: Sequence[Size],
    input_size: Size,
    layout: AnchorLayout = PAPER_ANCHORS,
    base_size: Optional[Size] = None,
) -> List[SSDAnchorGenerator]:
    """The anchor generator of each feature map; parameters as for `make_anchors`."""
    steps = anchor_steps(layout, map_sizes, input_size)
    if layout.generator == "explicit":
        unit, places = _unit(layout, base_size or input_size), enumerate(zip(map_sizes, layout.shapes))
        return [
            ExplicitAnchorGenerator(
                index, input_size[::-1], [(width * unit, height * unit) for width, height in shapes],
                steps[index], (rows, columns), layout.clip,
            )
            for index, ((columns, rows), shapes) in places
        ]  # fmt: skip
    sizes, kind = anchor_sizes(layout, base_size or input_size), GENERATORS[layout.generator]
    return [
        kind(
            index, input_size[::-1], sizes[index : index + 2], ratios,
            steps[index][0] if layout.steps else steps[index], alloc_size=(rows, columns),
        )
        for index, ((columns, rows), ratios) in enumerate(zip(map_sizes, layout.ratios))
    ]  # fmt: skip


def make_anchors(
    map_sizes: Sequence[Size],
    input_size: Size,
    layout: AnchorLayout = PAPER_ANCHORS,
    base_size: Optional[Size] = None,
    rotated: bool = False,
) -> np.ndarray:
    """All anchors of a detector, in the order of its predictions: by map, row, column, shape.

    Parameters
    ----------
    map_sizes : sequence of (int, int)
        ``(width, height)`` of the feature maps, finest first.
    input_size : (int, int)
        That of the network's input in pixels.
    layout : AnchorLayout
    base_size : (int, int), optional
        Input size that the network was trained at, if it is not `input_size`. The anchors have their size in
        pixels there, as in GluonCV.
    rotated : bool
        Whether the feature maps show the image turned by 180 degrees: the anchors of each map are then in
        the order of its positions from the last one on.

    Returns
    -------
    numpy.ndarray
        ``(A, 4)`` float32: center x, center y, width, height in input pixels.
    """
    generators = make_generators(map_sizes, input_size, layout, base_size)
    maps = [generator.anchors.value.asnumpy() for generator in generators]
    if rotated:
        maps = [
            part.reshape(*part.shape[2:4], -1, 4)[::-1, ::-1].reshape(-1, 4) for part in maps
        ]  # fmt: skip
    return np.concatenate([part.reshape(-1, 4) for part in maps])


@lru_cache(maxsize=None)
def anchors_per_position(index: int, layout: AnchorLayout = PAPER_ANCHORS) -> int:
    """Number of anchors at each position of feature map `index`."""
    generator: Any = make_generators([(1, 1)] * layout.maps, (1, 1), layout)[index]
    return int(generator.num_depth)
