"""Export format ``symbol``: MXNet's own graph and parameter files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from . import FLOAT16, ExportFormat, Tolerance, export_formats

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork
    from ..options import ExportOptions


class SymbolFormat(ExportFormat):
    """``NAME-symbol.json`` and ``NAME-0000.params``, which plain MXNet loads.

    The graph consists of MXNet's own operators, with BatchNorm folded into the convolutions;
    ``mx.gluon.SymbolBlock.imports(symbol, ['data'], params)`` loads it, and the block's
    ``optimize_for(x, backend='MKLDNN')`` doubles its speed on a CPU.
    """

    name = "symbol"
    description = "MXNet graph and parameters"
    engine = "mxnet"
    priority = 0
    files = {"symbol": "-symbol.json", "params": "-0000.params"}  # noqa: RUF012 - a class has one

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..packing import pack_float16
        from ..symbol_files import save_symbol

        symbol, parameters = network.graph(network.raw_heads)
        half = network.options.fp16_weights
        if half:
            large = [name for name, value in parameters.items() if value.ndim in network.large_axes]
            parameters = pack_float16(parameters, large)
        save_symbol((symbol, parameters), self.new_paths(folder, name), network.options.pixels)
        return network.describe_format("_output", weights="float16" if half else "float32")

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        from ..symbol_files import load_symbol

        return load_symbol(self.paths(folder, sidecar), sidecar, self.section, ctx, tensors)

    def engines_to_check(
        self, network: ExportedNetwork, folder: Path, sidecar: Mapping[str, Any]
    ) -> Dict[str, Engine]:
        """``plain``: the files as MXNet loads them; ``fused``: optimized, as `Detector` runs them."""
        from ..symbol_files import load_plain

        paths = self.paths(folder, sidecar)
        plain = load_plain(paths, sidecar, network.ctx, network.heads, whole=not network.raw_heads)
        return {"plain": plain, "fused": self.load(folder, sidecar, network.ctx, network.tensors)}

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        """Rounded weights need a tolerance."""
        return FLOAT16 if options.fp16_weights else None


export_formats.register("symbol", SymbolFormat())
