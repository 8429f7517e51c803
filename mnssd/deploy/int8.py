"""Networks whose convolutions compute with 8-bit integers: MXNet's through oneDNN, and ONNX models.

Both are calibrated on photographs: what the tensors between the layers hold decides the scales.
Weights have one for each output channel. What is no convolution (decoding, suppression, concatenation)
stays in floating point.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..errors import ExportError
from ..graph.quantize import LARGEST, fuse_for_int8, int8_convolutions, quantize, tensors_to_calibrate
from .calibrate import find_ranges, watch
from .packing import pack_int8, unpack_arrays
from .sidecar import INPUT_NAME

if TYPE_CHECKING:
    import onnx


CORRECTION_IMAGES = 16
"""On which means are compared: each is one of thousands of numbers an image."""

HISTOGRAM_IMAGES = 16
"""So many at most for ``percentile`` and ``entropy`` of ONNX Runtime's quantizer: it keeps all tensors of all
of them, 100 MB each at 300 x 300 pixels."""


class Calibration(NamedTuple):
    """How to calibrate (one of `formats.CALIBRATIONS`), and on what: pixels at the size of the input."""

    method: str
    images: Sequence[np.ndarray]

    def as_dict(self) -> Dict[str, Any]:
        """For the sidecar."""
        return {"method": self.method, "images": len(self.images)}


def int8_graph(
    symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], calibration: Calibration, ctx: Any
) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """A graph for oneDNN in 8 bits, and its arrays as `packing.pack_int8` gives them.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        As from `graph.inference.fold`.
    parameters : mapping of str to numpy.ndarray
    calibration : Calibration
    ctx : mxnet.Context

    Raises
    ------
    ExportError
        Where nothing in the graph can be computed in 8 bits.
    """
    fused = fuse_for_int8(symbol)
    tensors = tensors_to_calibrate(fused)
    if not tensors:
        raise ExportError(
            "nothing in this network can be computed in 8 bits: oneDNN is not there, or switched off"
        )
    ranges = find_ranges(fused, parameters, tensors, calibration.images, calibration.method, ctx)
    quantized = quantize(fused, ranges)
    weights = [f"arg:{convolution.weight}" for convolution in int8_convolutions(quantized)]
    packed = pack_int8(parameters, weights)
    # From what is in the file: oneDNN rounds the weights that it is given once more.
    corrected = correct_biases(fused, quantized, parameters, unpack_arrays(packed), calibration.images, ctx)
    biases = {name: value for name, value in corrected.items() if name in packed and name not in weights}
    return quantized, {**packed, **biases}


def correct_biases(
    fused: mx.sym.Symbol,
    quantized: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    rounded: Mapping[str, np.ndarray],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> Dict[str, np.ndarray]:
    """The rounded parameters with biases that bring each channel's mean back to what it was before rounding.

    Rounding moves means, and a moved mean moves all that reads it. Nagel et al. 2019 ("Data-Free
    Quantization Through Weight Equalization and Bias Correction"), section 4.2; measured on photographs
    here, layer by layer, for what is corrected first changes what comes after.

    Parameters
    ----------
    fused, quantized : mxnet.symbol.Symbol
        From `graph.quantize.fuse_for_int8` and, of that, `graph.quantize.quantize`.
    parameters, rounded : mapping of str to numpy.ndarray
        Those of `fused`, and those that `quantized` will run with.
    images : sequence of numpy.ndarray
        The first `CORRECTION_IMAGES` are used.
    ctx : mxnet.Context
    """
    images, corrected = images[:CORRECTION_IMAGES], dict(rounded)
    convolutions = [convolution for convolution in int8_convolutions(quantized) if convolution.bias]
    names = [f"{convolution.before}_output" for convolution in convolutions]
    before = dict(zip(convolutions, _channel_means(fused, parameters, names, images, ctx)))
    for level in sorted({convolution.level for convolution in convolutions}):
        here = [convolution for convolution in convolutions if convolution.level == level]
        names = [f"{convolution.name}_output" for convolution in here]
        for convolution, mean in zip(here, _channel_means(quantized, corrected, names, images, ctx)):
            bias = f"arg:{convolution.bias}"
            corrected[bias] = (corrected[bias] + before[convolution] - mean).astype(np.float32)
    return corrected


def _channel_means(
    symbol: mx.sym.Symbol,
    parameters: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    images: Sequence[np.ndarray],
    ctx: Any,
) -> List[np.ndarray]:
    """``(channels,)`` of each output, in numbers also where it holds integers."""
    there = set(symbol.get_internals().list_outputs())
    ranges = {name: [f"{name}_min", f"{name}_max"] for name in outputs if f"{name}_min" in there}
    tensors = [tensor for name in outputs for tensor in [name, *ranges.get(name, [])]]
    sums = [np.zeros(1) for _ in outputs]
    for batch in watch(symbol, parameters, tensors, images, ctx):
        for index, name in enumerate(outputs):
            values = batch[name]
            total = values.astype(np.float32).mean(axis=(2, 3)).sum(axis=0)
            if name in ranges:
                largest = max(abs(float(batch[edge].item())) for edge in ranges[name])
                total = total * (largest / LARGEST[str(values.dtype)])
            sums[index] = sums[index] + total
    return [total / len(images) for total in sums]


def int8_onnx(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """An ONNX model with its convolutions in 8 bits, by ONNX Runtime's quantizer, as QuantizeLinear pairs.

    Raises
    ------
    ExportError
        When the quantizer cannot do it.
    """
    import onnx as onnx_package
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "naive": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    images = calibration.images[: None if calibration.method == "naive" else HISTOGRAM_IMAGES]
    logging.getLogger().addFilter(_without_advice)
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            onnx_package.save(model, str(before))
            quantize_static(
                before, after, _reader(images), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Add"], per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, calibrate_method=methods[calibration.method],
            )  # fmt: skip
            return onnx_package.load(str(after))
    except (ValueError, RuntimeError, KeyError) as error:
        raise ExportError(
            f"ONNX Runtime's quantizer failed ({error}); leave out --format onnx-int8"
        ) from error
    finally:
        logging.getLogger().removeFilter(_without_advice)


def _without_advice(record: logging.LogRecord) -> bool:
    """Whether a log record is not the quantizer's advice to do what `fold` has done."""
    return "pre-process" not in record.getMessage()


def _reader(images: Sequence[np.ndarray]) -> Any:
    """The images as ONNX Runtime's quantizer asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        """Gives each image once; None when there is none left."""

        def __init__(self) -> None:
            self._inputs = _inputs(images)

        def get_next(self) -> Optional[Dict[str, np.ndarray]]:
            """See above."""
            return next(self._inputs, None)

    return Reader()


def _inputs(images: Sequence[np.ndarray]) -> Iterator[Dict[str, np.ndarray]]:
    """One at a time: the quantizer's histograms want inputs of one shape."""
    for image in images:
        yield {INPUT_NAME: to_network_input([image])}
