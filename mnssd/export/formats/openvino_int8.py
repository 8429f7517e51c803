"""Export format ``openvino-int8``: OpenVINO's intermediate representation with 8-bit convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import INT8, Tolerance, export_formats
from .onnx_int8 import OnnxInt8Format
from .openvino import OpenVINOFormat

if TYPE_CHECKING:
    from ..options import ExportOptions


class OpenVINOInt8Format(OpenVINOFormat):
    """``NAME-int8.xml`` and ``NAME-int8.bin``, made from the ONNX model of ``onnx-int8``.

    OpenVINO runs the convolutions between QuantizeLinear and DequantizeLinear with 8-bit integers.
    """

    name = "openvino-int8"
    description = "OpenVINO IR, 8-bit convolutions"
    engine = "openvino-int8"
    priority = 5
    files = {"openvino_int8_xml": "-int8.xml", "openvino_int8_bin": "-int8.bin"}  # noqa: RUF012
    requirements = {**OnnxInt8Format.requirements, **OpenVINOFormat.requirements}  # noqa: RUF012
    needs_calibration = needs_vnni = True

    def weights(self, options: ExportOptions) -> str:
        return "int8"

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return INT8


export_formats.register("openvino-int8", OpenVINOInt8Format())
