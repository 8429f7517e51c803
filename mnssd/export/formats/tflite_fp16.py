"""Export format ``tflite-fp16``: a TensorFlow Lite model with weights in half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import FLOAT16, Tolerance, export_formats
from .tflite import TFLiteFormat

if TYPE_CHECKING:
    from ..options import ExportOptions


class TFLiteFloat16Format(TFLiteFormat):
    """``NAME-fp16.tflite``: the weights of convolutions as float16, made float32 by DEQUANTIZE operators.

    Processors compute in float32; TensorFlow Lite's GPU delegates in float16.
    """

    name = "tflite-fp16"
    description = "TensorFlow Lite model, float16 weights"
    engine = "tflite-fp16"
    priority = 10
    files = {"tflite_fp16": "-fp16.tflite"}  # noqa: RUF012
    weights = "float16"

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return FLOAT16


export_formats.register("tflite-fp16", TFLiteFloat16Format())
