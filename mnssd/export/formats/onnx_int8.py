"""ONNX models whose convolutions compute with 8-bit integers, by ONNX Runtime's quantizer.

It calibrates on images and writes QuantizeLinear and DequantizeLinear around what is in integers.
What it does not do is done here: biases are corrected, as `export.formats.int8.correct_biases` does.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from ...data.image import to_network_input
from ...errors import ExportError
from ..sidecar import INPUT_NAME
from .int8 import CORRECTION_IMAGES, Calibration

HISTOGRAM_IMAGES = 16
"""So many at most for ``percentile`` and ``entropy`` of ONNX Runtime's quantizer: it keeps all tensors of all
of them, 100 MB each at 300 x 300 pixels."""

_FARTHEST = 2**30

IN_INTEGERS = ("Conv", "Add", "Clip", "Relu")
"""Activations among them, so that the quantizer removes them: the integers behind a convolution then cover 0
to 6, where else they cover all that comes before the activation, in steps several times as large."""

INTEGERS, STEP, ROUNDED = "_quantized", "_quantized_scale", "_DequantizeLinear_Output"
"""What the quantizer puts behind the name of a bias for its integers, and for what they are multiplied by;
and behind that of a tensor for its values after rounding."""


def int8_onnx(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """An ONNX model with its convolutions in 8 bits, as QuantizeLinear pairs.

    Raises
    ------
    ExportError
        When the quantizer cannot do it.
    """
    moved = _moved_means(model, _quantize(model, calibration), calibration.images[:CORRECTION_IMAGES])
    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    for tensor in corrected.graph.initializer:
        if tensor.name in moved:
            bias = numpy_helper.to_array(tensor) - moved[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(bias.astype(np.float32), tensor.name))
    return _quantize(corrected, calibration)


def _moved_means(
    model: onnx.ModelProto, quantized: onnx.ModelProto, images: Sequence[np.ndarray]
) -> Dict[str, np.ndarray]:
    """By the name of a convolution's bias: by how much each channel's mean is too large in the second model.

    Layer by layer, each after those before it were corrected.
    """
    quantized_copy = onnx.ModelProto()
    quantized_copy.CopyFrom(quantized)
    tensors = {tensor.name: tensor for tensor in quantized_copy.graph.initializer}
    made = {name for node in model.graph.node for name in node.output}
    levels: Dict[int, List[onnx.NodeProto]] = {}
    depth: Dict[str, int] = {}
    for node in quantized_copy.graph.node:
        level = max((depth.get(name, 0) for name in node.input), default=0)
        can = node.op_type == "Conv" and len(node.input) == 3 and node.output[0] in made
        if can and f"{node.input[2]}{INTEGERS}" in tensors:
            levels.setdefault(level, []).append(node)
            level += 1
        depth.update(dict.fromkeys(node.output, level))
    outputs = [node.output[0] for nodes in levels.values() for node in nodes]
    before = _channel_means(model, outputs, images)
    # What is read: the convolution's own output where it is rounded is not cut off yet.
    rounded = {name: name + ROUNDED if name + ROUNDED in depth else name for name in outputs}
    moved: Dict[str, np.ndarray] = {}
    for level in sorted(levels):
        now = _channel_means(quantized_copy, [rounded[node.output[0]] for node in levels[level]], images)
        for node in levels[level]:
            bias = node.input[2]
            moved[bias] = now[rounded[node.output[0]]] - before[node.output[0]]
            integers, step = tensors[bias + INTEGERS], numpy_helper.to_array(tensors[bias + STEP])
            changed = numpy_helper.to_array(integers) - np.rint(moved[bias] / step)
            changed = np.clip(changed, -_FARTHEST, _FARTHEST)  # a channel of weights near 0 has tiny steps
            integers.CopyFrom(numpy_helper.from_array(changed.astype(np.int32), integers.name))
    return moved


def _channel_means(
    model: onnx.ModelProto, tensors: Sequence[str], images: Sequence[np.ndarray]
) -> Dict[str, np.ndarray]:
    """``(channels,)`` of each of the named tensors ``(batch, channels, height, width)`` inside a model."""
    import onnxruntime

    inside = onnx.ModelProto()
    inside.CopyFrom(model)
    del inside.graph.output[:]
    inside.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    session = onnxruntime.InferenceSession(inside.SerializeToString(), providers=["CPUExecutionProvider"])
    sums = {name: np.zeros(1) for name in tensors}
    for feed in _inputs(images):
        for name, values in zip(tensors, session.run(list(tensors), feed)):
            sums[name] = sums[name] + values.mean(axis=(0, 2, 3), dtype=np.float64)
    return {name: total / len(images) for name, total in sums.items()}


def _quantize(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
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
            onnx.save(model, str(before))
            quantize_static(
                before, after, _reader(images), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(IN_INTEGERS), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, calibrate_method=methods[calibration.method],
            )  # fmt: skip
            return onnx.load(str(after))
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
