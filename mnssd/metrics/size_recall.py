"""Recall by the size of the objects, in pixels of the original image."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np

SIZE_EDGES = (16, 32, 96)
"""Sides in pixels between the sizes: COCO's limits of small and medium objects, areas of 32 x 32 and 96 x 96,
and 16, half of the first."""


class SizeRecall(NamedTuple):
    """Objects of one size that are not difficult, and how many of them a detection matches at any score.

    `name` is the range of the side, which is the root of the box's area. ``'16 to 32'`` is from 16 pixels on
    and below 32.
    """

    name: str
    objects: int
    matched: int

    @property
    def recall(self) -> float:
        """0 to 1; NaN without objects."""
        return self.matched / self.objects if self.objects else math.nan

    def as_dict(self) -> Dict[str, Any]:
        """Plain values for JSON, with NaN as None."""
        return {
            "objects": self.objects,
            "matched": self.matched,
            "recall": self.recall if self.objects else None,
        }


def size_names(edges: Sequence[float] = SIZE_EDGES) -> List[str]:
    """Names of the sizes, smallest first."""
    between = [f"{low:g} to {high:g}" for low, high in zip(edges, edges[1:])]
    return [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and more"]


def recall_by_size(boxes: np.ndarray, matched: np.ndarray) -> List[SizeRecall]:
    """Recall of objects with boxes ``(N, 4)``, inclusive as in `Sample`, of which `matched` ``(N,)`` are."""
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1))
    index = np.searchsorted(SIZE_EDGES, sides, side="right")
    return [
        SizeRecall(name, int((index == number).sum()), int(matched[index == number].sum()))
        for number, name in enumerate(size_names())
    ]
