"""Export format ``int8``: MXNet's files with 8-bit convolutions, which oneDNN computes on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from . import INT8, ExportFormat, Tolerance, export_formats

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork
    from ..options import ExportOptions


class Int8Format(ExportFormat):
    """``NAME-int8-symbol.json`` and ``NAME-int8-0000.params``, packed as in `export.packing`."""

    name = "int8"
    description = "MXNet graph and parameters, 8-bit convolutions"
    engine = "mxnet-int8"
    priority = 3
    files = {"int8_symbol": "-int8-symbol.json", "int8_params": "-int8-0000.params"}  # noqa: RUF012
    needs_calibration = needs_vnni = True

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..symbol_files import save_symbol
        from ..symbol_quantize import int8_graph

        symbol, parameters = network.equalized_graph(network.raw_heads)
        graph = int8_graph(symbol, parameters, network.calibration, network.ctx, network.heads)
        save_symbol(graph, self.new_paths(folder, name), network.options.pixels)
        calibration = network.calibration.as_dict()
        return network.describe_format("_output", weights="int8", calibration=calibration)

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        from ..symbol_files import load_symbol

        return load_symbol(self.paths(folder, sidecar), sidecar, self.section, ctx, tensors, is_int8=True)

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return INT8


export_formats.register("int8", Int8Format())
