"""What a detector is asked to answer for one image: a class and a box offset for every anchor.

Plain NumPy, so that the loader's threads can do it beside the training step. Boxes here are
corners ``xmin, ymin, xmax, ymax`` in pixels of the NETWORK INPUT; anchors are centres and sizes
``cx, cy, w, h`` in the same pixels. All widths are plain differences (no ``+ 1``), as SSD has it.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

# Divides the offsets so that their spread is about one: "variances" 0.1 (centre) and 0.2 (size) of
# the SSD paper's code (Liu et al. 2016, layers/prior_box), GluonCV's default stds.
STDS = (0.1, 0.1, 0.2, 0.2)

# Below this an overlap is none: no anchor is forced onto a box that it does not touch.
_NO_OVERLAP = 1e-12


class TargetAssigner:
    """Match the boxes of an image to the anchors and write down what the heads should answer.

    SSD's rule (Liu et al. 2016, section 2.2, "Matching strategy"), with the answers of GluonCV's
    ``SSDTargetGenerator(negative_mining_ratio=-1)``: first every box takes the anchor that overlaps
    it most (greedily from the highest overlap, no anchor twice; anchors that tie with a box's best
    one follow it), then every anchor left takes the box it overlaps most if that is `iou_threshold`
    or more. The others are background: which of them count is the loss's decision.

    Parameters
    ----------
    anchors : numpy.ndarray
        ``(A, 4)`` cx, cy, w, h in pixels of the network input.
    iou_threshold : float
        The overlap from which an anchor is positive, 0.5 in the paper.
    stds : sequence of float
        The four numbers that divide the offsets, see `encode`.
    """

    def __init__(self, anchors: np.ndarray, iou_threshold: float = 0.5, stds: Sequence[float] = STDS) -> None:
        self.anchors = np.ascontiguousarray(anchors, np.float32).reshape(-1, 4)
        self.iou_threshold = iou_threshold
        self.stds = tuple(stds)
        centre, size = self.anchors[:, :2], self.anchors[:, 2:]
        # Four contiguous rows: each is read whole for every box.
        self._corners = np.ascontiguousarray(np.hstack([centre - size / 2, centre + size / 2]).T)
        # From the rounded corners, as GluonCV has it: nearly equal overlaps then tie as they do there.
        left, top, right, bottom = self._corners
        self._areas = (right - left) * (bottom - top)

    def __call__(self, boxes: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """The targets of one image.

        Parameters
        ----------
        boxes : numpy.ndarray
            ``(M, 4)`` corners in pixels of the network input. M may be 0. A box with no area, or
            outside every anchor, is given to no anchor.
        labels : numpy.ndarray
            ``(M,)`` class indices from 0.

        Returns
        -------
        cls_target : numpy.ndarray
            ``(A,)`` int32: 0 for background, label + 1 for an anchor with an object.
        box_target : numpy.ndarray
            ``(A, 4)`` float32: `encode` of the matched box; zeros for background.
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        labels = np.asarray(labels)
        cls_target = np.zeros(len(self.anchors), np.int32)
        box_target = np.zeros((len(self.anchors), 4), np.float32)
        if len(boxes) == 0:
            return cls_target, box_target
        matches = self._match(self.overlaps(boxes))
        positive = np.flatnonzero(matches >= 0)
        matched = matches[positive]
        cls_target[positive] = labels[matched] + 1
        box_target[positive] = encode(boxes[matched], self.anchors[positive], self.stds)
        return cls_target, box_target

    def overlaps(self, boxes: np.ndarray) -> np.ndarray:
        """``(M, A)`` float32 IoU of every box with every anchor."""
        left, top, right, bottom = self._corners
        xmin, ymin, xmax, ymax = boxes.T[:, :, None]
        width = np.minimum(right, xmax)
        width -= np.maximum(left, xmin)
        height = np.minimum(bottom, ymax)
        height -= np.maximum(top, ymin)
        np.maximum(width, 0, out=width)
        np.maximum(height, 0, out=height)
        common = np.multiply(width, height, out=width)
        areas = np.maximum(xmax - xmin, 0) * np.maximum(ymax - ymin, 0)
        union = np.subtract(self._areas + areas, common, out=height)
        return np.divide(common, union, out=common, where=union > 0)

    def _match(self, overlaps: np.ndarray) -> np.ndarray:
        """``(A,)`` the index of each anchor's box, or -1, from ``(M, A)`` overlaps."""
        boxes_anchor = overlaps.argmax(axis=1)
        boxes_best = overlaps[np.arange(len(overlaps)), boxes_anchor]
        anchors_box, anchors_best = _largest_of_rows(overlaps)
        # An anchor as good for its box as the box's best one is positive too, whatever the
        # threshold, or two equal answers would be taught as object and as background.
        limit = np.where(boxes_best > _NO_OVERLAP, np.minimum(boxes_best, self.iou_threshold), np.inf)
        matches = np.where(anchors_best >= limit[anchors_box], anchors_box, -1)
        for box, anchor in _bipartite(overlaps, boxes_anchor, boxes_best):
            matches[anchor] = box
        return matches


def _largest_of_rows(table: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """argmax and max over axis 0; by rows it is several times faster than NumPy's on a wide table."""
    which = np.zeros(table.shape[1], np.intp)
    largest = table[0].copy()
    for row in range(1, len(table)):
        which[table[row] > largest] = row
        np.maximum(largest, table[row], out=largest)
    return which, largest


def _bipartite(overlaps: np.ndarray, choice: np.ndarray, value: np.ndarray) -> Sequence[Tuple[int, int]]:
    """Pairs (box, anchor), taken greedily from the highest overlap; each box and anchor at most once.

    `choice` and `value` are each box's best anchor and its overlap; they are used up.
    """
    taken = np.zeros(overlaps.shape[1], bool)
    pairs = []
    for _ in range(len(overlaps)):
        box = int(value.argmax())
        if value[box] <= _NO_OVERLAP:
            break
        anchor = int(choice[box])
        pairs.append((box, anchor))
        taken[anchor], value[box] = True, -1
        for rival in np.flatnonzero((choice == anchor) & (value > _NO_OVERLAP)):
            free = np.where(taken, -1, overlaps[rival])
            choice[rival] = free.argmax()
            value[rival] = free[choice[rival]]
    return pairs


def encode(boxes: np.ndarray, anchors: np.ndarray, stds: Sequence[float] = STDS) -> np.ndarray:
    """The offsets that lead from anchors to boxes (SSD paper, equation 2).

    Parameters
    ----------
    boxes : numpy.ndarray
        ``(N, 4)`` corners with a positive width and height.
    anchors : numpy.ndarray
        ``(N, 4)`` cx, cy, w, h in the same pixels.
    stds : sequence of float
        The four divisors.

    Returns
    -------
    numpy.ndarray
        ``(N, 4)`` float32: shift of the centre in anchor sizes and logarithm of the sizes' ratio,
        each divided by its std.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + size * np.float32(0.5) - anchors[:, :2]) / anchors[:, 2:]
    growth = np.log(size / anchors[:, 2:])
    return (np.hstack([shift, growth]) / np.asarray(stds, np.float32)).astype(np.float32)


def decode(offsets: np.ndarray, anchors: np.ndarray, stds: Sequence[float] = STDS) -> np.ndarray:
    """The boxes that offsets and anchors say: the inverse of `encode`.

    Parameters and result are as there: ``(N, 4)`` offsets to ``(N, 4)`` float32 corners.
    """
    offsets = np.asarray(offsets, np.float32) * np.asarray(stds, np.float32)
    centre = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(offsets[:, 2:]) * anchors[:, 2:] * np.float32(0.5)
    return np.hstack([centre - half, centre + half]).astype(np.float32)
