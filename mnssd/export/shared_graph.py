"""Sharing the weights of a network, with biases corrected on calibration images."""

from __future__ import annotations

from typing import Any, Container, Dict, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..errors import ExportError
from ..graph.symbol_graph import Graph, Node
from .calibrate import tensor_values
from .network import SymbolAndArrays
from .shared_weights import SharedWeights, share_weights, to_half
from .symbol_quantize import CORRECTION_IMAGES

Arrays = Mapping[str, np.ndarray]


def share_network(
    graph: SymbolAndArrays, axes: Container[int], bits: int, images: Sequence[np.ndarray], ctx: Any
) -> Tuple[Dict[str, np.ndarray], Dict[str, SharedWeights]]:
    """Share the weights of each layer of a graph from `graph.inference.fold`.

    Parameters
    ----------
    axes : container of int
        Numbers of axes of the arrays that are weights.
    bits : int
        Bits per code; see `share_weights`.
    images : sequence of numpy.ndarray
        Pixels ``(height, width, 3)`` at the size of the input; the first `CORRECTION_IMAGES` are used.

    Returns
    -------
    plain, shared : dict
        The other arrays, with corrected biases and rounded by `to_half`, and the layers, by the names of
        `graph`.

    Raises
    ------
    ExportError
        If weights are not finite.
    """
    symbol, arrays = graph
    plain = {name: value for name, value in arrays.items() if value.ndim not in axes}
    shared = {}
    for name, value in arrays.items():
        if name in plain:
            continue
        if not np.isfinite(value).all():
            raise ExportError(f"{name}: its weights are not finite, so the network is broken; train it again")
        shared[name] = share_weights(value, bits)
    errors = {name: arrays[name] - layer.expand() for name, layer in shared.items()}
    corrected = correct_means(symbol, arrays, errors, images[:CORRECTION_IMAGES], ctx)
    return {name: to_half(value) for name, value in {**plain, **corrected}.items()}, shared


class _Layer(NamedTuple):
    """A convolution or dense layer: its input in the graph, its groups, names of its parameters."""

    tensor: str
    groups: int
    weight: str
    bias: str


def correct_means(
    symbol: mx.sym.Symbol, arrays: Arrays, errors: Arrays, images: Sequence[np.ndarray], ctx: Any
) -> Dict[str, np.ndarray]:
    """Biases that keep the mean of each channel, by name.

    Rounded weights shift the mean of a channel by their errors times the means of the inputs, and a shifted
    mean shifts everything after it. Nagel et al. 2019 ("Data-Free Quantization Through Weight Equalization
    and Bias Correction"), section 4.2, with means measured on images. Zeros around a feature map are not
    counted.

    Parameters
    ----------
    errors : mapping of str to numpy.ndarray
        Weights minus rounded weights, by name.
    """
    layers = [layer for layer in _layers(symbol) if layer.weight in errors]
    tensors = sorted({layer.tensor for layer in layers})
    sums: Dict[str, Any] = dict.fromkeys(tensors, 0)
    for batch in tensor_values(symbol, arrays, tensors, images, ctx):
        for name, values in batch.items():
            axes = tuple(range(2, values.ndim))
            sums[name] = sums[name] + values.astype(np.float64).mean(axis=axes).sum(axis=0)
    corrected: Dict[str, np.ndarray] = {}
    for layer in layers:
        error, means = errors[layer.weight], sums[layer.tensor] / len(images)
        totals = error.reshape(*error.shape[:2], -1).sum(axis=2)
        per_group = len(error) // layer.groups
        shift = (totals * np.repeat(means.reshape(layer.groups, -1), per_group, axis=0)).sum(axis=1)
        corrected[layer.bias] = (arrays[layer.bias] + shift).astype(np.float32)
    return corrected


def _layers(symbol: mx.sym.Symbol) -> Sequence[_Layer]:
    """Layers with a bias of their own whose input has a name."""
    tensors = set(symbol.get_internals().list_outputs())
    layers: Dict[str, _Layer] = {}
    for node in Graph(symbol, {}).nodes():
        if node.op not in ("Convolution", "FullyConnected") or len(node.inputs) < 3:
            continue
        (source, _), (weight, _), (bias, _) = node.inputs
        tensor = _tensor_name(source)
        if weight.op == bias.op == "null" and tensor in tensors:
            groups = int(node.attrs.get("num_group", "1"))
            layers.setdefault(bias.name, _Layer(tensor, groups, f"arg:{weight.name}", f"arg:{bias.name}"))
    return list(layers.values())


def _tensor_name(node: Node) -> str:
    return node.name if node.op == "null" else f"{node.name}_output"
