"""Export format ``shared``: MXNet's graph, and weights that share few values per layer, Huffman-coded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from . import INT8, ExportFormat, Tolerance, export_formats

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork
    from ..options import ExportOptions


class SharedFormat(ExportFormat):
    """``NAME-shared-symbol.json`` and ``NAME-shared.safetensors``, see `export.shared_file`.

    The smallest files. The weights become float32 when they are loaded, so the network is as fast and needs
    as much memory as that of ``symbol``.
    """

    name = "shared"
    description = "MXNet graph, 4 to 8 bits per weight (k-means), the smallest files"
    engine = "mxnet-shared"
    priority = 7
    files = {"shared_symbol": "-shared-symbol.json", "shared_params": "-shared.safetensors"}  # noqa: RUF012
    needs_calibration = True

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..options import DEFAULT_SHARED_BITS
        from ..shared_file import write_shared
        from ..shared_graph import share_network
        from ..symbol_files import save_graph

        options, paths = network.options, self.new_paths(folder, name)
        bits = options.shared_bits or DEFAULT_SHARED_BITS
        symbol, parameters = network.graph(network.raw_heads)
        images = network.calibration.images
        plain, shared = share_network((symbol, parameters), network.large_axes, bits, images, network.ctx)
        plain = dict(save_graph((symbol, plain), paths[0], options.pixels))
        _minify(paths[0])
        write_shared(paths[1], plain, shared, options.huffman)
        return network.describe_format("_output", weights="shared", bits=bits, huffman=options.huffman)

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        from ..shared_file import read_shared
        from ..symbol_files import load_symbol

        return load_symbol(self.paths(folder, sidecar), sidecar, self.section, ctx, tensors, read=read_shared)

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return INT8


def _minify(path: Path) -> None:
    """Write a JSON file again without spaces, which are a third of MXNet's graphs."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


export_formats.register("shared", SharedFormat())
