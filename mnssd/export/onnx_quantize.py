"""ONNX models with 8-bit convolutions, by ONNX Runtime's quantizer.

The quantizer calibrates on images and inserts QuantizeLinear and DequantizeLinear around 8-bit tensors. It
does not correct biases, so this module does, like `export.symbol_quantize.correct_biases`.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from ..data.image import to_network_input
from ..errors import ExportError
from .calibrate import Calibration
from .onnx_model import with_outputs
from .sidecar import INPUT_NAME
from .symbol_quantize import CORRECTION_IMAGES

HISTOGRAM_IMAGES = 16
"""Most images for the methods ``percentile`` and ``entropy``: ONNX Runtime's quantizer keeps all tensors of
all images in memory, 100 MB per image at 300x300."""

_LARGEST_BIAS = 2**30
"""A channel with weights near 0 has a tiny step, so its bias may not fit in 32 bits."""

QUANTIZED_OPERATORS = ("Conv", "Add", "Clip", "Relu")
"""Operators to quantize. Activations are included so that the quantizer merges them into the convolution: its
output integers then cover 0 to 6 instead of the full range before the activation, in smaller steps."""

INTEGERS, STEP, ROUNDED = "_quantized", "_quantized_scale", "_DequantizeLinear_Output"
"""Suffixes that the quantizer appends to the name of a bias, for its integers and for their scale, and to the
name of a tensor, for its rounded values."""


def int8_onnx(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """An ONNX model with 8-bit convolutions and corrected biases.

    Raises
    ------
    ExportError
        If the quantizer fails.
    """
    shifts = _mean_shifts(model, _quantize(model, calibration), calibration.images[:CORRECTION_IMAGES])
    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    for tensor in corrected.graph.initializer:
        if tensor.name in shifts:
            bias = numpy_helper.to_array(tensor) - shifts[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(bias.astype(np.float32), tensor.name))
    return _quantize(corrected, calibration)


def _mean_shifts(
    model: onnx.ModelProto, quantized: onnx.ModelProto, images: Sequence[np.ndarray]
) -> Dict[str, np.ndarray]:
    """How far each channel's mean is too large in the quantized model, by the name of the convolution's bias.

    Measured layer by layer, with the layers before corrected in `quantized`, which is changed in place.
    """
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    tensor_names = {name for node in model.graph.node for name in node.output}
    levels: Dict[int, List[onnx.NodeProto]] = {}
    depth: Dict[str, int] = {}
    for node in quantized.graph.node:
        level = max((depth.get(name, 0) for name in node.input), default=0)
        has_bias = node.op_type == "Conv" and len(node.input) == 3 and node.output[0] in tensor_names
        if has_bias and f"{node.input[2]}{INTEGERS}" in tensors:
            levels.setdefault(level, []).append(node)
            level += 1
        depth.update(dict.fromkeys(node.output, level))
    outputs = [node.output[0] for nodes in levels.values() for node in nodes]
    expected = _channel_means(model, outputs, images)
    # The rounded tensor has saturated as in inference; the convolution's own output has not.
    rounded = {name: name + ROUNDED if name + ROUNDED in depth else name for name in outputs}
    shifts: Dict[str, np.ndarray] = {}
    for level in sorted(levels):
        actual = _channel_means(quantized, [rounded[node.output[0]] for node in levels[level]], images)
        for node in levels[level]:
            bias = node.input[2]
            shifts[bias] = actual[rounded[node.output[0]]] - expected[node.output[0]]
            integers, step = tensors[bias + INTEGERS], numpy_helper.to_array(tensors[bias + STEP])
            corrected = numpy_helper.to_array(integers) - np.rint(shifts[bias] / step)
            corrected = np.clip(corrected, -_LARGEST_BIAS, _LARGEST_BIAS).astype(np.int32)
            integers.CopyFrom(numpy_helper.from_array(corrected, integers.name))
    return shifts


def _channel_means(
    model: onnx.ModelProto, tensors: Sequence[str], images: Sequence[np.ndarray]
) -> Dict[str, np.ndarray]:
    """``(channels,)`` mean of each named tensor ``(batch, channels, height, width)`` inside a model."""
    import onnxruntime

    serialized = with_outputs(model, tensors)
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    sums = {name: np.zeros(1) for name in tensors}
    for inputs in _inputs(images):
        for name, values in zip(tensors, session.run(list(tensors), inputs)):
            sums[name] = sums[name] + values.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / len(images) for name, total in sums.items()}


def _quantize(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """The model with 8-bit activations, and weights of 7 bits: -64 to 64.

    Without VNNI, processors add two products in 16 bits, which saturate if weights have 8 bits. NNCF has 7 by
    default, too. See the fault: ``benchmarks/EXPORTS.md``, "All formats".
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "naive": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    images = calibration.images[: None if calibration.method == "naive" else HISTOGRAM_IMAGES]
    logging.getLogger().addFilter(_is_not_preprocess_hint)
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            onnx.save(model, str(before))
            quantize_static(
                before, after, _Reader(images), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED_OPERATORS), per_channel=True, reduce_range=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=methods[calibration.method],
            )  # fmt: skip
            return onnx.load(str(after))
    except (ValueError, RuntimeError, KeyError) as error:
        raise ExportError(
            f"ONNX Runtime's quantizer failed ({error}); export without the format onnx-int8"
        ) from error
    finally:
        logging.getLogger().removeFilter(_is_not_preprocess_hint)


def _is_not_preprocess_hint(record: logging.LogRecord) -> bool:
    """False for the quantizer's hint to preprocess the model: BatchNorm is folded already."""
    return "pre-process" not in record.getMessage()


class _Reader:
    """The images as a ``CalibrationDataReader`` of ONNX Runtime, which ends with None."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._inputs = _inputs(images)

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        return next(self._inputs, None)


def _inputs(images: Sequence[np.ndarray]) -> Iterator[Dict[str, np.ndarray]]:
    """One image at a time: the quantizer's histograms need inputs of equal shape."""
    for image in images:
        yield {INPUT_NAME: to_network_input([image])}
