"""Classifiers for export: probabilities follow the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Sequence

import mxnet as mx
import numpy as np

from ..data.preprocess import read_for_classifier
from .network import ExportedNetwork, Image, SymbolAndArrays, folded, trace
from .parity import ClassifierParityCheck
from .sidecar import describe_input

if TYPE_CHECKING:
    from onnx import ModelProto

LOGITS, PROBABILITIES = "logits", "probabilities"


class ExportedClassifier(ExportedNetwork):
    """See `ExportedNetwork`; `spec` is a `zoo.ClassifierSpec`."""

    heads, outputs, large_axes = (LOGITS,), (PROBABILITIES,), (2, 4)

    def describe(self) -> Dict[str, Any]:
        count = len(self.spec.classes)
        probabilities = {"shape": [None, count], "holds": "a probability for each class"}
        return {
            "task": "classification",
            "input": describe_input(self.size, self.spec.val_crop),
            "outputs": [{"name": f"{PROBABILITIES}_output", **probabilities}],
            "heads": [{"name": f"{LOGITS}_output", "shape": [None, count], "holds": "before the softmax"}],
            "classes": list(self.spec.classes),
            "classifier": self.spec.as_dict(),
        }

    def graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        """See `ExportedNetwork`. With `raw_heads` the logits keep the name of their layer."""
        (logits,) = trace(self.net)
        if raw_heads:
            return folded(logits, self.net, {})
        return folded(mx.sym.softmax(logits, name=PROBABILITIES), self.net, {logits.name: LOGITS})

    def head_shapes(self) -> Dict[str, Sequence[int]]:
        return {LOGITS: (len(self.spec.classes),)}

    def append_onnx_outputs(self, model: ModelProto) -> None:
        from .onnx_model import append_softmax

        append_softmax(model, PROBABILITIES)

    def read(self, image: Image) -> np.ndarray:
        return read_for_classifier(image, self.size, self.spec.val_crop)

    def run(self, pixels: Sequence[np.ndarray]) -> List[np.ndarray]:
        logits = self.net(self.network_input(pixels))
        return [logits.asnumpy(), mx.nd.softmax(logits).asnumpy()]

    def exact_check(self) -> ClassifierParityCheck:
        return ClassifierParityCheck()
