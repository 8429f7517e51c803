"""Detections in the windows of an image, merged so that each object has one box."""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple

import numpy as np

from ..boxes import iou
from ..data.sample import Detections
from ..data.tiles import Window
from ..options import Size

MERGE_IOU = 0.45
"""IoU from which boxes of a class in two windows are of one object: that of the SSD paper's suppression."""

PART = 0.5
"""Part of a cut box in another box from which it is a part of that object."""

EDGE = 0.02
"""Part of a window's side from its edge within which a box ends at the edge: 6 pixels of an input of 300."""

WEAK = 0.1
"""A whole box with a lower score than this part of a cut box's score does not suppress it."""

_PAIRS_AT_ONCE = 1_000_000  # as metrics.voc: limits the memory


def shifted(detections: Detections, window: Window) -> Detections:
    """Detections in pixels of a window, in pixels of its image."""
    corner = np.array([window.left, window.top] * 2, np.float32)
    return Detections(detections.boxes + corner, detections.labels, detections.scores)


def merge(parts: Sequence[Detections], windows: Sequence[Window], size: Size) -> Detections:
    """The detections of an image of `size` = ``(width, height)``, best score first.

    Parameters
    ----------
    parts : sequence of Detections
        Those of each window, in pixels of the image. Within a window they are free of double boxes already.
    windows : sequence of Window
        Of `tiles.make_windows`.
    """
    if len(windows) == 1:
        return parts[0]
    counts = [len(part.scores) for part in parts]
    boxes, labels, scores = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("boxes", "labels", "scores")
    )
    together = Detections(boxes, labels, scores)
    rows = merged_rows(together, np.repeat(np.arange(len(windows)), counts), windows, size)
    return Detections(boxes[rows], labels[rows], scores[rows])


def merged_rows(
    detections: Detections, window_of: np.ndarray, windows: Sequence[Window], size: Size
) -> np.ndarray:
    """Rows of the detections that remain, best score first.

    A box that ends at an inner edge of its window may be cut there.

    1. It is dropped if another window of its grid sees the place without cutting it.
    2. Of two boxes of a class from different windows, whose IoU is above `MERGE_IOU`, that of lower score is
       dropped; a cut box before a whole one, unless the whole one is `WEAK`.
    3. A cut box that lies in another box of its class from another window, to more than `PART`, is dropped.

    `window_of` ``(N,)`` is the index of each detection's window.
    """
    cut = _touches(detections.boxes, np.array([windows[index][:4] for index in window_of]), size)
    cut_rows = np.flatnonzero(cut)
    seen = _seen_whole(detections.boxes[cut_rows], window_of[cut_rows], windows, size)
    rows = np.setdiff1d(np.arange(len(cut)), cut_rows[seen])
    rows = rows[np.lexsort((-detections.scores[rows], cut[rows]))]  # whole boxes first; stable
    ordered = Detections(detections.boxes[rows], detections.labels[rows], detections.scores[rows])
    kept = rows[_not_suppressed(ordered, window_of[rows], cut[rows])]
    return kept[np.argsort(-detections.scores[kept], kind="stable")]


def _touches(boxes: np.ndarray, corners: np.ndarray, size: Size) -> np.ndarray:
    """``(N,)``: whether a box ends at an inner edge of its window; `corners` ``(N, 4)`` are the windows'."""
    corners = corners.reshape(-1, 4)
    touches = np.zeros(len(boxes), bool)
    for axis in range(2):
        start, end = corners[:, axis], corners[:, axis + 2]
        touches |= ~_clear(boxes, start, end, size, axis)
    return touches


def _clear(boxes: np.ndarray, start: np.ndarray, end: np.ndarray, size: Size, axis: int) -> np.ndarray:
    """Whether boxes lie between the ends of windows along an axis, away from those within the image."""
    margin = np.maximum(1.0, EDGE * (end - start))
    after = (start == 0) | (boxes[..., axis] > start + margin)
    return np.asarray(after & ((end == size[axis]) | (boxes[..., axis + 2] < end - 1 - margin)))


def _seen_whole(
    boxes: np.ndarray, window_of: np.ndarray, windows: Sequence[Window], size: Size
) -> np.ndarray:
    """``(N,)``: whether another window of the same grid sees the place of a box without cutting it."""
    levels = np.array([window.level for window in windows])
    seen = np.zeros(len(boxes), bool)
    for level in np.unique(levels[window_of]):
        own = [window for window in windows if window.level == level]
        rows = np.flatnonzero(levels[window_of] == level)
        seen_along = []
        for axis in range(2):
            # A grid has each of its columns in each of its rows: the axes are independent.
            spans = np.array(sorted({(window[axis], window[axis + 2]) for window in own}))
            seen_along.append(_clear(boxes[rows, None], spans[:, 0], spans[:, 1], size, axis).any(axis=1))
        seen[rows] = seen_along[0] & seen_along[1]
    return seen


def _not_suppressed(detections: Detections, window_of: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """``(N,)``: which boxes remain; each is suppressed only by those before it."""
    first, second = _suppressing_pairs(detections, window_of, cut)
    order = np.argsort(first, kind="stable")
    first, second = first[order], second[order]
    remain = np.ones(len(cut), bool)
    rows, begin = np.unique(first, return_index=True)
    for row, start, end in zip(rows, begin, [*begin[1:], len(first)]):
        if remain[row]:
            remain[second[start:end]] = False
    return remain


def _suppressing_pairs(
    detections: Detections, window_of: np.ndarray, cut: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Pairs of rows, in which the first, unless it is suppressed, suppresses the second, a later row."""
    boxes, scores = detections.boxes.astype(np.float64), detections.scores
    found = [np.zeros((2, 0), np.int64)]
    for a, b in _overlapping(boxes):
        is_pair = (detections.labels[a] == detections.labels[b]) & (window_of[a] != window_of[b])
        a, b = np.minimum(a, b)[is_pair], np.maximum(a, b)[is_pair]
        is_weak = cut[b] & ~cut[a] & (scores[a] < WEAK * scores[b])
        is_double = iou(boxes[a], boxes[b], offset=1) > MERGE_IOU
        is_part = cut[b] & (_part_within(boxes[b], boxes[a]) > PART)
        chosen = (is_double | is_part) & ~is_weak
        found.append(np.stack([a[chosen], b[chosen]]))
    first, second = np.concatenate(found, axis=1)
    return first, second


def _part_within(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``(N,)``: part of the area of each box that lies in the other one, which overlaps it."""
    common = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2]) + 1
    return np.asarray(common.clip(0).prod(axis=1) / (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1))


def _overlapping(boxes: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows whose boxes overlap, each once, some million at a time."""
    order = np.argsort(boxes[:, 0], kind="stable")
    left = boxes[order, 0]
    ends = np.searchsorted(left, boxes[order, 2] + 1, side="left")
    # From a box on, those that begin before its end.
    counts = np.maximum(ends - np.arange(len(left)) - 1, 0)
    before = np.concatenate([[0], np.cumsum(counts)])
    done = 0
    while done < len(left):
        upto = max(done + 1, int(np.searchsorted(before, before[done] + _PAIRS_AT_ONCE, side="right")) - 1)
        own = np.repeat(np.arange(done, upto), counts[done:upto])
        step = np.arange(before[upto] - before[done]) - np.repeat(
            before[done:upto] - before[done], counts[done:upto]
        )
        a, b = order[own], order[own + 1 + step]
        overlaps = (boxes[a, 1] < boxes[b, 3] + 1) & (boxes[b, 1] < boxes[a, 3] + 1)
        yield a[overlaps], b[overlaps]
        done = upto
