"""Images with more objects than a network returns: non-maximum suppression over all of its boxes.

A network returns at most 200 detections from its 1,000 best boxes. These are the best of all detections.
Where there may be more, the class scores and box offsets of every anchor are decoded here.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Tuple

import numpy as np

from .. import zoo
from ..boxes import class_scores, decode, iou
from ..export.engines import Engine, MXNetEngine
from ..export.load import load_export
from ..nn.spec import SCORE_FLOOR, DetectorSpec

_OBJECTS = 16
"""Detections from which the boxes that enter NMS, 400 in older exports, may be too few: an object rarely has
more than 25."""

Outputs = Tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ids and scores ``(K, 1)``, boxes ``(K, 4)`` in pixels of the network's input, best score first."""


class DenseDetector:
    """All detections of a network; its heads are loaded when they are first needed.

    Parameters
    ----------
    load : callable
        Returns the engine of the heads, with the outputs ``cls_preds`` and ``box_preds``, and the anchors
        ``(A, 4)`` as center and size.
    nms_thresh, score_floor : float
        Those of the network.
    scores : str
        What makes class scores of its logits, see `boxes.class_scores`.
    """

    def __init__(
        self,
        load: Callable[[], Tuple[Engine, np.ndarray]],
        nms_thresh: float,
        score_floor: float,
        scores: str = "softmax",
    ) -> None:
        self._load, self._nms_thresh, self._score_floor = load, nms_thresh, score_floor
        self._scores = scores
        self._loaded: Optional[Tuple[Engine, np.ndarray]] = None
        self._lock = threading.Lock()

    @staticmethod
    def may_find_more(scores: np.ndarray, min_score: float, wanted: int) -> bool:
        """Whether an image may have more detections of `min_score` than those with `scores` ``(K, 1)``.

        The network's detections are complete down to the lowest score among them. `wanted` is the number of
        detections that are enough; negative for all.
        """
        found = scores[scores > 0]
        is_enough = 0 <= wanted <= len(found)
        return not is_enough and len(found) >= min(_OBJECTS, len(scores)) and bool(found.min() >= min_score)

    def __call__(self, image: np.ndarray, found: Outputs, min_score: float) -> Outputs:
        """The detections `found` by the network, followed by the others.

        `image` is ``(height, width, 3)`` RGB uint8 of the network's input size.
        """
        with self._lock:
            self._loaded = self._loaded or self._load()
        engine, anchors = self._loaded
        logits, offsets = (output[0] for output in engine([image]))
        scores = class_scores(logits, self._scores)[:, 1:]
        boxes = decode(offsets, anchors)
        ids, _, kept = found
        more: List[Tuple[float, int, int]] = []
        for label in range(scores.shape[1]):
            own = scores[:, label]
            rows = np.flatnonzero((own > self._score_floor) & (own >= min_score))
            rows = rows[np.argsort(-own[rows], kind="stable")]
            for box in kept[ids[:, 0] == label]:
                rows = self._beside(rows, boxes, box)
            while len(rows):
                more.append((float(own[rows[0]]), label, int(rows[0])))
                rows = self._beside(rows[1:], boxes, boxes[rows[0]])
        more.sort(key=lambda entry: -entry[0])
        table = np.array(more, np.float32).reshape(-1, 3)
        rest = table[:, 1:2], table[:, :1], boxes[[anchor for _, _, anchor in more]].reshape(-1, 4)
        ids, scores, boxes = (np.concatenate(pair) for pair in zip(found, rest))
        return ids, scores, boxes

    def _beside(self, rows: np.ndarray, boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Those of the `rows` of `boxes` that `box` does not suppress."""
        return rows[iou(boxes[rows], box) <= self._nms_thresh]


def dense_network(net: Any, ctx: Any) -> DenseDetector:
    """All detections of an `mnssd.nn.SSD`."""
    from ..graph.inference import inference_block

    def load() -> Tuple[Engine, np.ndarray]:
        return MXNetEngine(inference_block(net.heads, net.size, ctx), ctx), net.anchors

    return DenseDetector(load, net.nms_thresh, SCORE_FLOOR, net.heads.layout.scores)


def dense_export(folder: Path, sidecar: Mapping[str, Any], ctx: Any, engine: str) -> DenseDetector:
    """All detections of an export, which is read again for them; `engine` as of `load_export`."""
    spec, thresholds = DetectorSpec.from_dict(sidecar["detector"]), sidecar["thresholds"]

    def load() -> Tuple[Engine, np.ndarray]:
        export = load_export(folder, "detection", ctx, engine, ("cls_preds", "box_preds"))
        assert export is not None
        return export.engine, zoo.build_detector(spec).anchors

    scores = spec.layout.scores if spec.layout else "softmax"
    return DenseDetector(load, thresholds["nms_iou"], thresholds["score"], scores)
