"""Decoding and non-maximum suppression in NumPy, for engines whose files end with the heads of a detector."""

from __future__ import annotations

from typing import Any, List, Mapping, NamedTuple, Sequence

import cv2
import numpy as np

from ..boxes import class_scores, decode
from ..errors import ExportError
from ..nn.head_layouts import SCORES
from .detection_parity import Suppression
from .engines import Engine

_FARTHEST = 1e6
"""Limit of coordinates, so that boxes of several classes do not meet if one is not finite."""

HEADS, OUTPUTS = ("cls_preds", "box_preds"), ("ids", "scores", "bboxes")


class Decoder(NamedTuple):
    """What makes detections of heads, as in `nn.SSD`.

    Attributes
    ----------
    anchors : numpy.ndarray
        ``(A, 4)`` center x, center y, width, height in pixels of the input.
    scores : str
        What makes class scores of the logits, see `boxes.class_scores`.
    classes : int
        Number of classes without the background.
    suppression : Suppression
    """

    anchors: np.ndarray
    scores: str
    classes: int
    suppression: Suppression

    def __call__(self, logits: np.ndarray, offsets: np.ndarray) -> List[np.ndarray]:
        """Ids and scores ``(K, 1)`` and boxes ``(K, 4)`` of one image: best first, padded with -1."""
        limits, count = self.suppression, len(self.anchors)
        rows = count * self.classes
        kept = min(limits.post_nms, rows)
        candidates = rows if limits.nms_topk < 0 else min(max(limits.nms_topk, kept), rows)
        flat = class_scores(logits, self.scores)[:, 1:].T.reshape(-1)  # (C * A,), as in `nn.SSD`
        above = np.flatnonzero(flat > limits.score_floor)
        best = above[np.argsort(-flat[above], kind="stable")[:candidates]]
        ids, anchor = np.divmod(best, count)
        corners = decode(offsets[anchor], self.anchors[anchor])
        chosen = suppress(ids, corners, limits.nms_thresh, kept)
        outputs = [np.full((kept, width), -1, np.float32) for width in (1, 1, 4)]
        for output, values in zip(outputs, (ids[:, None], flat[best][:, None], corners)):
            output[: len(chosen)] = values[chosen]
        return outputs


def suppress(ids: np.ndarray, boxes: np.ndarray, threshold: float, most: int) -> np.ndarray:
    """Indices of at most `most` of the boxes ``(N, 4)``, best first.

    A box is dropped if its IoU with a better one of the same class is above the threshold. OpenCV compares
    them; boxes of different classes are moved apart. (In NumPy, 1,000 boxes took five times as long.)
    """
    if not len(ids):
        return np.zeros(0, np.intp)
    finite = np.clip(np.nan_to_num(boxes.astype(np.float64)), -_FARTHEST, _FARTHEST)
    extent = float(finite.max() - finite.min()) + 1
    rectangles = np.hstack([finite[:, :2], finite[:, 2:] - finite[:, :2]])
    rectangles[:, 0] += ids * extent
    ranks = np.arange(len(ids), 0, -1, np.float32)  # the order as scores, which may be equal
    kept = cv2.dnn.NMSBoxes(rectangles, ranks, 0.0, threshold)  # type: ignore[arg-type]  # any (N, 4)
    return np.asarray(kept, np.intp)[:most]


def read_decoder(sidecar: Mapping[str, Any], section: str, name: str) -> Decoder:
    """The decoder that a format's section of a sidecar describes; ExportError that names the file `name`."""
    try:
        limits, function = sidecar["thresholds"], sidecar[section]["scores"]
        anchors = np.array(sidecar[section]["anchors"], np.float32)
        suppression = Suppression(
            float(limits["score"]), float(limits["nms_iou"]), int(limits["nms_candidates"]),
            int(limits["max_detections"]),
        )  # fmt: skip
        if anchors.ndim != 2 or anchors.shape[1] != 4 or not len(anchors) or function not in SCORES:
            raise ValueError("anchors or score function")
        shapes = [entry["shape"] for entry in sidecar["heads"]]
        if shapes != [[None, len(anchors), len(sidecar["classes"]) + 1], [None, len(anchors), 4]]:
            raise ValueError("shapes of the heads")
        if not np.isfinite(anchors).all() or anchors[:, 2:].min() <= 0:
            raise ValueError("anchors")
        if not (0 <= suppression.score_floor < 1 and 0 < suppression.nms_thresh <= 1):
            raise ValueError("thresholds")
        if suppression.post_nms < 1:
            raise ValueError("thresholds")
        return Decoder(anchors, function, len(sidecar["classes"]), suppression)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ExportError(f"{name}: its description is damaged ({error!r}); export it again") from error


class DecodingEngine(Engine):
    """An engine that returns the heads, with decoding and suppression behind it.

    `tensors` are those to return, of `HEADS` and `OUTPUTS`.
    """

    def __init__(self, heads: Engine, decoder: Decoder, tensors: Sequence[str] = OUTPUTS) -> None:
        self._heads, self._decoder, self._tensors = heads, decoder, tensors
        self.takes_pixels = heads.takes_pixels

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        found = dict(zip(HEADS, self._heads.run(x)))
        if set(OUTPUTS) & set(self._tensors):
            images = [self._decoder(*heads) for heads in zip(found["cls_preds"], found["box_preds"])]
            found.update({name: np.stack(parts) for name, parts in zip(OUTPUTS, zip(*images))})
        return [found[name] for name in self._tensors]
