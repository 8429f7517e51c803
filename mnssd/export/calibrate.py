"""Calibration: value ranges of a network's tensors on images, for 8-bit integers."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..graph.equalize import Equalizer
from ..graph.inference import load_block
from .engines import outputs_of
from .options import CALIBRATIONS

BINS = 8001
"""Bins of a histogram from -t to t, as in MXNet; its `calibrate_entropy` requires an odd number."""

PERCENTILE = 99.99
"""Share of a tensor's absolute values that the method ``percentile`` covers. (ONNX Runtime's own percentile
calibration uses 99.999.)"""

BATCH = 4
"""Images per batch: all tensors of the network are in memory at once."""

Range = Tuple[float, float]


class Calibration(NamedTuple):
    """Method, one of `options.CALIBRATIONS`, and pixels at the size of the network's input."""

    method: str
    images: Sequence[np.ndarray]

    def as_dict(self) -> Dict[str, Any]:
        """Description for the sidecar."""
        return {"method": self.method, "images": len(self.images)}


def tensor_values(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    tensors: Sequence[str],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> Iterator[Dict[str, np.ndarray]]:
    """Values of named tensors inside a graph, for each batch of images ``(height, width, 3)``."""
    inner = symbol.get_internals()
    block = load_block(mx.sym.Group([inner[name] for name in tensors]), parameters, ctx)
    block.hybridize()
    for start in range(0, len(images), BATCH):
        x = mx.nd.array(to_network_input(images[start : start + BATCH]), ctx=ctx)
        yield {name: output.asnumpy() for name, output in zip(tensors, outputs_of(block, x))}


def equalized(
    symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], images: Sequence[np.ndarray], ctx: Any
) -> Dict[str, np.ndarray]:
    """Parameters of a graph scaled by `graph.equalize`, with the ranges of channels on images."""
    equalizer = Equalizer(symbol, parameters)
    ranges: Dict[str, np.ndarray] = {}
    if equalizer.tensors:
        for batch in tensor_values(symbol, parameters, equalizer.tensors, images, ctx):
            for name, values in batch.items():
                largest = np.abs(values).max(axis=(0, 2, 3))
                ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return equalizer.equalized(ranges)


def find_ranges(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    tensors: Sequence[str],
    images: Sequence[np.ndarray],
    method: str,
    ctx: Any,
) -> Dict[str, Range]:
    """Range of each named tensor that 8-bit integers cover; values outside saturate.

    Parameters
    ----------
    method : str
        ``naive``: from the smallest to the largest value. ``percentile``: `PERCENTILE` of the absolute
        values. ``entropy``: the range with the lowest KL divergence between the distributions of the integers
        and of the values (MXNet's `calibrate_entropy`).
    """
    if method not in CALIBRATIONS:
        raise ValueError(f"method must be one of {', '.join(CALIBRATIONS)}, not {method!r}")
    ranges: Dict[str, Range] = {}
    for batch in tensor_values(symbol, parameters, tensors, images, ctx):
        for name, values in batch.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    if method == "naive":
        return ranges
    histograms: Dict[str, np.ndarray] = {}
    limits = {name: max(map(abs, ranges[name])) or 1.0 for name in tensors}
    for batch in tensor_values(symbol, parameters, tensors, images, ctx):
        for name, values in batch.items():
            counts, _ = np.histogram(values, bins=BINS, range=(-limits[name], limits[name]))
            histograms[name] = histograms.get(name, 0) + counts
    for name, (low, high) in ranges.items():
        if method == "percentile":
            threshold = _percentile(histograms[name], limits[name])
        else:
            threshold = _entropy(histograms[name], limits[name], low >= 0)
        ranges[name] = (max(low, -threshold), min(high, threshold))
    return ranges


def _percentile(counts: np.ndarray, limit: float) -> float:
    """The absolute value that `PERCENTILE` of the values do not exceed."""
    half = BINS // 2
    by_size = counts[half:] + np.append(0, counts[:half][::-1])
    passed = np.cumsum(by_size) >= PERCENTILE / 100 * np.sum(by_size)
    return float((int(np.argmax(passed)) + 0.5) * 2 * limit / BINS)


def _entropy(counts: np.ndarray, limit: float, positive: bool) -> float:
    """As in `mxnet.contrib.quantization`: 255 integers, or 511 over both halves if one half is empty."""
    threshold, _ = mx.nd.contrib.calibrate_entropy(
        hist=mx.nd.array(counts),
        hist_edges=mx.nd.array(np.linspace(-limit, limit, BINS + 1)),
        num_quantized_bins=511 if positive else 255,
    )
    return float(threshold.asscalar())
