"""Detectors for export: decoding and non-maximum suppression follow class scores and box offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..boxes import STDS
from ..data.preprocess import read_for_network, shrink_for_network
from ..nn.ssd import SCORE_FLOOR
from .detection_parity import DetectionParityCheck, Suppression
from .network import ExportedNetwork, Image, SymbolAndArrays, folded, trace
from .sidecar import describe_input

if TYPE_CHECKING:
    from onnx import ModelProto

OUTPUTS = ("ids", "scores", "bboxes")
HEADS = ("cls_preds", "box_preds")


class ExportedDetector(ExportedNetwork):
    """See `ExportedNetwork`; `net` is a `mnssd.nn.SSD`, `spec` a `zoo.DetectorSpec`."""

    heads, outputs, large_axes = HEADS, OUTPUTS, (4,)

    @property
    def suppression(self) -> Suppression:
        """Settings of the non-maximum suppression."""
        return Suppression(SCORE_FLOOR, self.net.nms_thresh, self.net.nms_topk, self.net.post_nms)

    def describe_format(self, suffix: str = "", **details: Any) -> Dict[str, Any]:
        """See `ExportedNetwork`; raw heads need the anchors."""
        if self.raw_heads:
            details["anchors"] = self.net.anchors.tolist()
        return super().describe_format(suffix, **details)

    def describe(self) -> Dict[str, Any]:
        width, height = self.size
        return {
            "task": "detection",
            "input": describe_input(self.size),
            "outputs": self._describe_outputs(),
            "heads": self._describe_heads(),
            "boxes": (
                f"pixels of the {width}x{height} input, from 0, not clipped; multiply x by image width /"
                f" {width} and y by image height / {height}"
            ),
            "classes": list(self.net.classes),
            "thresholds": {
                "score": SCORE_FLOOR,
                "nms_iou": self.net.nms_thresh,
                "nms_candidates": self.net.nms_topk,
                "max_detections": self.net.post_nms,
            },
            "detector": self.spec.as_dict(),
        }

    def _describe_outputs(self) -> List[Dict[str, Any]]:
        contents = (
            "index into classes, -1: no detection",
            "probability, best first",
            "xmin, ymin, xmax, ymax",
        )
        return [
            {"name": f"{name}_output", "shape": [None, self.net.post_nms, values], "holds": holds}
            for name, values, holds in zip(OUTPUTS, (1, 1, 4), contents)
        ]

    def _describe_heads(self) -> List[Dict[str, Any]]:
        shapes = self.head_shapes()
        return [
            {
                "name": f"{HEADS[0]}_output",
                "shape": [None, *shapes[HEADS[0]]],
                "holds": "class scores before the softmax, background first",
            },
            {
                "name": f"{HEADS[1]}_output",
                "shape": [None, *shapes[HEADS[1]]],
                "holds": "offsets of center and log size from the anchors, divided by stds",
                "stds": list(STDS),
            },
        ]

    def graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        heads = trace(self.net.heads)
        names = {symbol.name: name for symbol, name in zip(heads, HEADS)}
        if raw_heads:
            return folded(mx.sym.Group(heads), self.net.heads, names)
        # The nodes of the heads have the same names here: a block restarts its counter on each call.
        outputs = trace(self.net)
        names.update({symbol.name: name for symbol, name in zip(outputs, OUTPUTS)})
        return folded(mx.sym.Group(outputs), self.net, names)

    def head_shapes(self) -> Dict[str, Sequence[int]]:
        anchors = len(self.net.anchors)
        return {HEADS[0]: (anchors, len(self.net.classes) + 1), HEADS[1]: (anchors, 4)}

    def append_onnx_outputs(self, model: ModelProto) -> None:
        from .onnx_model import append_detections

        append_detections(model, self.net.anchors, self.suppression, OUTPUTS)

    def read(self, image: Image) -> np.ndarray:
        if isinstance(image, np.ndarray):
            return shrink_for_network(image, self.size)
        return read_for_network(image, self.size)[0]

    def run(self, pixels: Sequence[np.ndarray]) -> List[np.ndarray]:
        x = self.network_input(pixels)
        return [array.asnumpy() for array in (*self.net.heads(x), *self.net(x))]

    def exact_check(self) -> DetectionParityCheck:
        return DetectionParityCheck(self.suppression, self._decode)

    def _decode(self, cls_preds: np.ndarray, box_preds: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Class probabilities without the background and corners, as the network itself computes them."""
        logits, offsets = (mx.nd.array(array, ctx=self.ctx) for array in (cls_preds, box_preds))
        corners = self.net.bbox_decoder(offsets, self.net.anchor_boxes.data(self.ctx))
        return mx.nd.softmax(logits, axis=-1)[:, :, 1:].asnumpy(), corners.asnumpy()
