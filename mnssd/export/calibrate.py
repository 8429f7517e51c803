"""What the tensors of a network hold when it looks at images, and the ranges to keep of it in 8 bits."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from ..data.image import to_network_input
from .options import CALIBRATIONS
from .sidecar import INPUT_NAME

BINS = 8001
"""Of a histogram from -t to t; odd, as MXNet's `calibrate_entropy` wants it, and as many as MXNet takes."""

PERCENTILE = 99.99
"""Of the absolute values of a tensor, kept by the method ``percentile``. (ONNX Runtime's quantizer, which
calibrates by itself, takes 99.999.)"""

BATCH = 4
"""Images at a time: all tensors of the network are in memory at once."""

Range = Tuple[float, float]


def load_block(symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], ctx: Any) -> SymbolBlock:
    """A block of a graph and its arrays (``arg:NAME``, ``aux:NAME``)."""
    block = SymbolBlock(symbol, [mx.sym.var(INPUT_NAME, dtype="float32")])
    for name, parameter in block.collect_params().items():
        value = parameters[f"arg:{name}" if f"arg:{name}" in parameters else f"aux:{name}"]
        parameter.grad_req, parameter.shape = "null", value.shape
        parameter.initialize(mx.init.Zero(), ctx=ctx)
        parameter.set_data(mx.nd.array(value, dtype=value.dtype))
    return block


def watch(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    tensors: Sequence[str],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> Iterator[Dict[str, np.ndarray]]:
    """What named outputs inside a graph hold, for each batch of pixels ``(height, width, 3)``."""
    inside = symbol.get_internals()
    block = load_block(mx.sym.Group([inside[name] for name in tensors]), parameters, ctx)
    block.hybridize()
    for start in range(0, len(images), BATCH):
        x = mx.nd.array(to_network_input(images[start : start + BATCH]), ctx=ctx)
        outputs = block(x)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        yield {name: output.asnumpy() for name, output in zip(tensors, outputs)}


def largest_by_channel(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    nodes: Sequence[str],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> Dict[str, np.ndarray]:
    """``(channels,)`` largest absolute value of each channel of the first output of each node."""
    found: Dict[str, np.ndarray] = {}
    for batch in watch(symbol, parameters, [f"{name}_output" for name in nodes], images, ctx):
        for name, values in zip(nodes, batch.values()):
            largest = np.abs(values).max(axis=(0, 2, 3))
            found[name] = np.maximum(found[name], largest) if name in found else largest
    return found


def find_ranges(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    tensors: Sequence[str],
    images: Sequence[np.ndarray],
    method: str,
    ctx: Any,
) -> Dict[str, Range]:
    """The range of each tensor that 8 bits are to cover; what is outside is cut off.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
    parameters : mapping of str to numpy.ndarray
    tensors : sequence of str
        Names of outputs inside the graph.
    images : sequence of numpy.ndarray
        Pixels at the size of the network's input.
    method : str
        ``naive``: all that was met. ``percentile``: `PERCENTILE` of it. ``entropy``: what makes the
        distribution of the integers most like that of the numbers (MXNet's `calibrate_entropy`).
    ctx : mxnet.Context

    Returns
    -------
    dict of str to (float, float)
    """
    if method not in CALIBRATIONS:
        raise ValueError(f"method is one of {', '.join(CALIBRATIONS)}, not {method!r}")
    ranges: Dict[str, Range] = {}
    for batch in watch(symbol, parameters, tensors, images, ctx):
        for name, values in batch.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    if method == "naive":
        return ranges
    histograms: Dict[str, np.ndarray] = {}
    for batch in watch(symbol, parameters, tensors, images, ctx):
        for name, values in batch.items():
            edge = max(map(abs, ranges[name])) or 1.0
            counts, _ = np.histogram(values, bins=BINS, range=(-edge, edge))
            histograms[name] = histograms.get(name, 0) + counts
    narrowed = {"percentile": _percentile, "entropy": _entropy}[method]
    return {name: _cut(ranges[name], histograms[name], narrowed) for name in tensors}


def _cut(whole: Range, counts: np.ndarray, narrowed: Callable[[np.ndarray, float, bool], float]) -> Range:
    edge = max(map(abs, whole)) or 1.0
    kept = narrowed(counts, edge, whole[0] >= 0)
    return max(whole[0], -kept), min(whole[1], kept)


def _percentile(counts: np.ndarray, edge: float, positive: bool) -> float:
    """The absolute value that `PERCENTILE` of the numbers do not exceed."""
    half = BINS // 2
    by_size: List[float] = [counts[half], *(counts[half + 1 :] + counts[:half][::-1])]
    passed = np.cumsum(by_size) >= PERCENTILE / 100 * np.sum(by_size)
    return float((int(np.argmax(passed)) + 0.5) * 2 * edge / BINS)


def _entropy(counts: np.ndarray, edge: float, positive: bool) -> float:
    """As `mxnet.contrib.quantization`: 255 integers, or 511 over both halves where half is empty."""
    threshold, _ = mx.nd.contrib.calibrate_entropy(
        hist=mx.nd.array(counts),
        hist_edges=mx.nd.array(np.linspace(-edge, edge, BINS + 1)),
        num_quantized_bins=511 if positive else 255,
    )
    return float(threshold.asscalar())
