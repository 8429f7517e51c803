"""The ONNX model of a web page."""

from __future__ import annotations

from ..network import ExportedNetwork
from ..onnx_model import finish_model, to_onnx


def model_of(network: ExportedNetwork) -> bytes:
    """A model that takes pixels and returns ``network.tensors``.

    The heads are outputs, too, so that the parity check runs the page's own model. ONNX Runtime computes only
    the outputs that it is asked for.
    """
    model = to_onnx(*network.graph(raw_heads=True), network.size, network.head_shapes())
    heads = list(model.graph.output)
    network.append_onnx_outputs(model)
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([*heads, *outputs])
    finish_model(model, "the network of the page", network.size, pixels=True)
    return bytes(model.SerializeToString())
