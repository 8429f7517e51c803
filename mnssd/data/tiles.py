"""Tiles of a large image: overlapping windows, in which a network sees small objects larger.

Imports only the standard library, as the options of `mnssd detect` need it.
"""

from __future__ import annotations

import math
import re
from typing import Any, List, NamedTuple, Optional, Tuple

from ..errors import OptionError
from ..options import Size

NONE, AUTO = "none", "auto"

OVERLAP = 0.2
"""Part of a window that its neighbor sees, too. A smaller object lies whole in one of them."""

AUTO_SIDE = 16
"""Side in pixels of the image of the smallest objects that ``auto`` looks for."""

MATCH_IOU = 0.5
"""IoU of an object with the smallest anchor from which ``auto`` expects that it is detected."""

MOST_TILES = 64
"""Most rows and columns: 4096 windows take minutes."""

LEAST_SIDE = 32
"""Smallest side of a window in pixels; smaller images are divided into fewer windows."""

COARSER = 2
"""Rows and columns of a grid, divided by those of the next coarser one.

An object that is larger than the overlap may be cut in all windows of a grid. It has to be large enough to
be detected in the next one: with the anchors of the SSD paper at least .07 of a window's side (see
`choose_grid`). A box counts as cut within .02 of the side from an edge (`inference.tile_merge.EDGE`). So
windows may grow by up to (.2 - 2 x .02) / .07 = 2.3 from one grid to the next; with half of the rows and
columns, they grow by 2 or less.
"""

Grid = Tuple[int, int]
"""Rows and columns."""


class Window(NamedTuple):
    """Columns ``left`` to ``right - 1`` and rows ``top`` to ``bottom - 1`` of an image.

    `level` is 0 for the finest grid, 1 for the next coarser one, and so on.
    """

    left: int
    top: int
    right: int
    bottom: int
    level: int = 0

    @property
    def size(self) -> Size:
        """``(width, height)``."""
        return self.right - self.left, self.bottom - self.top


def parse_tiles(text: str) -> str:
    """Parse ``none``, ``auto`` or rows and columns such as ``2x3``; raises ValueError for anything else.

    Returns the text in its shortest form; ``1x1`` is ``none``.
    """
    short = text.strip().lower()
    if short in (NONE, AUTO):
        return short
    grid = _parse_grid(short)
    if grid is None:
        raise ValueError(
            f"expected none, auto, or rows and columns from 1 to {MOST_TILES} such as 2x3, got {text!r}"
        )
    return NONE if grid == (1, 1) else f"{grid[0]}x{grid[1]}"


def check_tiles(value: Any) -> str:
    """The value of an argument ``tiles``, as `parse_tiles`; raises OptionError."""
    try:
        return parse_tiles(value if isinstance(value, str) else f"({value!r})")
    except ValueError as error:
        raise OptionError(f"tiles: {error}") from error


def choose_grid(tiles: str, size: Size, net_size: Size, smallest_anchor: Optional[float] = None) -> Grid:
    """Rows and columns for an image of `size` = ``(width, height)``.

    ``auto`` chooses the largest windows in which objects with a side of `AUTO_SIDE` pixels match the smallest
    anchor: resized to the network's input, a square of this side has an IoU of at least `MATCH_IOU` with the
    anchor. Windows have about the aspect ratio of the input. An image that is no larger than such a window
    is not divided.

    Parameters
    ----------
    tiles : str
        As returned by `parse_tiles`.
    net_size : (int, int)
        ``(width, height)`` of the network's input.
    smallest_anchor : float, optional
        Side of the network's smallest anchor in pixels of its input, which ``auto`` needs.

    Raises
    ------
    OptionError
        If ``auto`` has no `smallest_anchor`.
    """
    if tiles == NONE:
        return 1, 1
    if tiles != AUTO:
        grid = _parse_grid(tiles)
        assert grid
        return grid
    if smallest_anchor is None:
        raise OptionError("tiles: the anchors of the detector are unknown to auto; give a grid such as 2x2")
    reduction = AUTO_SIDE / (smallest_anchor * math.sqrt(MATCH_IOU))
    columns, rows = (_count(side, net_side * reduction) for side, net_side in zip(size, net_size))
    return rows, columns


def make_windows(size: Size, grid: Grid) -> List[Window]:
    """Windows of an image of `size` = ``(width, height)``: the grid, coarser grids, and the whole image.

    Each coarser grid has half of the rows and columns, see `COARSER`; the last window is the whole image.
    Windows of a grid have the same size, and neighbors overlap by `OVERLAP` of it, up to a pixel.
    """
    rows, columns = (min(count, max(1, side // LEAST_SIDE)) for count, side in zip(grid, size[::-1]))
    windows: List[Window] = []
    level = 0
    while True:
        for top, bottom in _spans(size[1], rows):
            windows += [Window(left, top, right, bottom, level) for left, right in _spans(size[0], columns)]
        if rows == columns == 1:
            return windows
        rows, columns, level = math.ceil(rows / COARSER), math.ceil(columns / COARSER), level + 1


def _parse_grid(text: str) -> Optional[Grid]:
    match = re.fullmatch(r"0*([1-9][0-9]?)x0*([1-9][0-9]?)", text)
    grid = (int(match[1]), int(match[2])) if match else None
    return grid if grid and max(grid) <= MOST_TILES else None


def _count(length: int, side: float) -> int:
    """Windows of at most `side` pixels that cover `length` pixels, with their overlap."""
    if length <= side:
        return 1
    return min(MOST_TILES, math.ceil((length / side - OVERLAP) / (1 - OVERLAP)))


def _spans(length: int, count: int) -> List[Tuple[int, int]]:
    """Starts and ends of `count` windows of one size that cover `length` pixels."""
    side = min(length, math.ceil(length / (count - (count - 1) * OVERLAP)))
    starts = [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]
    return [(start, start + side) for start in starts]
