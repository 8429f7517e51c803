"""Export format ``ncnn-fp16``: an ncnn model with weights in half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import FLOAT16, Tolerance, export_formats
from .ncnn import NcnnFormat

if TYPE_CHECKING:
    from ..options import ExportOptions


class NcnnFloat16Format(NcnnFormat):
    """``NAME-fp16.ncnn.param`` and ``NAME-fp16.ncnn.bin``: the weights of convolutions as float16.

    ncnn computes in float16 on ARM processors that can, in float32 on others.
    """

    name = "ncnn-fp16"
    description = "ncnn model, float16 weights"
    engine = "ncnn-fp16"
    priority = 14
    files = {"ncnn_fp16_param": "-fp16.ncnn.param", "ncnn_fp16_bin": "-fp16.ncnn.bin"}  # noqa: RUF012
    weights = "float16"

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return FLOAT16


export_formats.register("ncnn-fp16", NcnnFloat16Format())
