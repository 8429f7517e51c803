"""Training targets of a detector: a class and a box offset for every anchor.

NumPy only, so that the loader's worker threads compute them beside the training step.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from ..boxes import corners, encode, iou

# IoUs up to this are 0: no anchor is forced onto a box that it does not touch.
_NO_IOU = 1e-12


IGNORED_IOU = 0.4
"""Lowest IoU with a box to ignore at which an anchor is ignored: one that would be positive with the smallest
`match_iou` that is chosen from the data."""


class TargetAssigner:
    """Match boxes to anchors by SSD's rule and encode the targets.

    SSD paper (Liu et al. 2016), section 2.2, "Matching strategy"; same results as GluonCV's
    ``SSDTargetGenerator(negative_mining_ratio=-1)``. First each box takes the anchor of highest IoU (greedily
    from the highest IoU, no anchor twice; anchors that tie with a box's best anchor are positive too). Then
    each remaining anchor takes its box of highest IoU if that is at least `iou_threshold`. All others are
    background, or ignored if they overlap a box to ignore by `IGNORED_IOU`.

    Parameters
    ----------
    anchors : numpy.ndarray
        ``(A, 4)`` center x, center y, width, height in pixels of the network input.
    iou_threshold : float
        IoU threshold for a positive anchor; 0.5 in the paper.
    """

    def __init__(self, anchors: np.ndarray, iou_threshold: float = 0.5) -> None:
        self.anchors = np.ascontiguousarray(anchors, np.float32).reshape(-1, 4)
        self.iou_threshold = iou_threshold
        # (A, 4), stored as four contiguous columns: each is read once per box.
        self._corners = np.ascontiguousarray(corners(self.anchors).T).T

    def __call__(self, boxes: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Targets of one image.

        Parameters
        ----------
        boxes : numpy.ndarray
            ``(M, 4)`` continuous corners xmin, ymin, xmax, ymax in pixels of the network input; M may be 0.
            Boxes without area or outside all anchors match no anchor.
        labels : numpy.ndarray
            ``(M,)`` class indices from 0; -1 for boxes to ignore.

        Returns
        -------
        cls_target : numpy.ndarray
            ``(A,)`` int32: 0 for background, label + 1 for positive anchors, -1 for ignored ones (as in
            GluonCV's targets).
        box_target : numpy.ndarray
            ``(A, 4)`` float32: encoded offsets of the matched box; zeros for background.
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        labels = np.asarray(labels)
        cls_target = np.zeros(len(self.anchors), np.int32)
        box_target = np.zeros((len(self.anchors), 4), np.float32)
        ignored = labels < 0
        if ignored.any():
            cls_target[self.iou(boxes[ignored]).max(axis=0) >= IGNORED_IOU] = -1
            boxes, labels = boxes[~ignored], labels[~ignored]
        if len(boxes) == 0:
            return cls_target, box_target
        matches = self._match(self.iou(boxes))
        positive = np.flatnonzero(matches >= 0)
        matched = matches[positive]
        cls_target[positive] = labels[matched] + 1
        box_target[positive] = encode(boxes[matched], self.anchors[positive])
        return cls_target, box_target

    def iou(self, boxes: np.ndarray) -> np.ndarray:
        """``(M, A)`` IoU of ``(M, 4)`` boxes with the anchors."""
        return iou(boxes[:, None], self._corners)

    def _match(self, ious: np.ndarray) -> np.ndarray:
        """``(A,)`` index of each anchor's box, or -1, from ``(M, A)`` IoUs."""
        anchor_of_box = ious.argmax(axis=1)
        best_of_box = ious[np.arange(len(ious)), anchor_of_box]
        box_of_anchor, best_of_anchor = _max_over_rows(ious)
        # Anchors that tie with a box's best one are positive whatever the threshold; otherwise two equal
        # predictions would be trained as object and as background.
        limit = np.where(best_of_box > _NO_IOU, np.minimum(best_of_box, self.iou_threshold), np.inf)
        matches = np.where(best_of_anchor >= limit[box_of_anchor], box_of_anchor, -1)
        for box, anchor in _bipartite(ious, anchor_of_box, best_of_box):
            matches[anchor] = box
        return matches


def _max_over_rows(table: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """argmax and max over axis 0; row by row this is several times faster than NumPy on a wide table."""
    rows = np.zeros(table.shape[1], np.intp)
    maximum = table[0].copy()
    for row in range(1, len(table)):
        rows[table[row] > maximum] = row
        np.maximum(maximum, table[row], out=maximum)
    return rows, maximum


def _bipartite(ious: np.ndarray, best_anchor: np.ndarray, best_iou: np.ndarray) -> Sequence[Tuple[int, int]]:
    """(box, anchor) pairs, taken greedily from the highest IoU, each box and anchor at most once.

    `best_anchor` and `best_iou` are those of each box; they are modified.
    """
    taken = np.zeros(ious.shape[1], bool)
    pairs = []
    for _ in range(len(ious)):
        box = int(best_iou.argmax())
        if best_iou[box] <= _NO_IOU:
            break
        anchor = int(best_anchor[box])
        pairs.append((box, anchor))
        taken[anchor], best_iou[box] = True, -1
        for rival in np.flatnonzero((best_anchor == anchor) & (best_iou > _NO_IOU)):
            free = np.where(taken, -1, ious[rival])
            best_anchor[rival] = free.argmax()
            best_iou[rival] = free[best_anchor[rival]]
    return pairs
