"""Export format ``openvino-bf16``: OpenVINO's intermediate representation, computed in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from ...errors import ExportError
from . import BFLOAT16, Tolerance, export_formats
from .openvino import OpenVINOFormat

if TYPE_CHECKING:
    from ..engines import Engine
    from ..options import ExportOptions

NO_BFLOAT16 = "this processor does not compute in bfloat16 (avx512_bf16, amx_bf16)"


class OpenVINOBfloat16Format(OpenVINOFormat):
    """``NAME-bf16.xml`` and ``NAME-bf16.bin``, for processors that compute in bfloat16 only.

    Weights are stored as float16, which has more digits than bfloat16. It is written on such a processor,
    because elsewhere OpenVINO would compute the parity check in float32 and say nothing.
    """

    name = "openvino-bf16"
    description = "OpenVINO IR, computed in bfloat16 on processors that have it"
    engine = "openvino-bf16"
    priority = 6
    files = {"openvino_bf16_xml": "-bf16.xml", "openvino_bf16_bin": "-bf16.bin"}  # noqa: RUF012
    precision = "bf16"

    def obstacle(self) -> str:
        from ..openvino_model import has_bfloat16

        missing = super().obstacle()
        try:
            return missing or ("" if has_bfloat16() else f"{NO_BFLOAT16}; use --format openvino")
        except ImportError as error:
            return f"OpenVINO cannot be imported ({error})"

    def weights(self, options: ExportOptions) -> str:
        return "float16"

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """See `ExportFormat.load`; raises ExportError on a processor without bfloat16, too."""
        from ..openvino_model import has_bfloat16

        engine = super().load(folder, sidecar, ctx, tensors)
        if not has_bfloat16():
            path = self.paths(folder, sidecar)[0]
            raise ExportError(
                f"{path}: {NO_BFLOAT16}; use another --engine, or export with --format openvino"
            )
        return engine

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return BFLOAT16


export_formats.register("openvino-bf16", OpenVINOBfloat16Format())
