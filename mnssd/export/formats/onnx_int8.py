"""Export format ``onnx-int8``: an ONNX model with 8-bit convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import INT8, Tolerance, export_formats
from .onnx import OnnxFormat

if TYPE_CHECKING:
    from ..options import ExportOptions


class OnnxInt8Format(OnnxFormat):
    """``NAME-int8.onnx``: weights and activations as QuantizeLinear and DequantizeLinear pairs."""

    name = "onnx-int8"
    description = "ONNX model, 8-bit convolutions"
    engine = "onnxruntime-int8"
    priority = 4
    files = {"onnx_int8": "-int8.onnx"}  # noqa: RUF012
    requirements = {**OnnxFormat.requirements, "ml_dtypes": "ml-dtypes<0.5"}  # noqa: RUF012
    needs_calibration = True

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return INT8


export_formats.register("onnx-int8", OnnxInt8Format())
