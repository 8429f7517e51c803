"""Export format ``web``: a page that runs the network in the browser."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

from . import ExportFormat, export_formats
from .onnx import OnnxFormat

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork

_log = logging.getLogger(__name__)


class WebFormat(ExportFormat):
    """``index.html``, with the network, ONNX Runtime Web and its license in files beside it."""

    name = "web"
    description = "web page that runs the network in the browser"
    engine = "chromium"
    priority = 20
    files: Mapping[str, str] = {
        "web_page": ".html", "web_model": "-web.js", "web_runtime": ".js", "web_license": ".txt",
    }  # fmt: skip
    requirements = OnnxFormat.requirements
    in_all = needs_mxnet = False

    def new_paths(self, folder: Path, name: str) -> List[Path]:
        """The page is what servers show for its folder; only the network's file is called `name`."""
        from ..web.runtime import LICENSE_FILE

        names = ("index.html", f"{name}-web.js", "onnxruntime-web.js", LICENSE_FILE)
        return [folder / file for file in names]

    def prepare(self) -> None:
        """Download ONNX Runtime Web unless the cache has it."""
        from ..web.runtime import fetch_archive

        fetch_archive()

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..onnx_model import OPSET
        from ..sidecar import describe_format_input
        from ..web.model import model_of
        from ..web.page import write_page
        from ..web.runtime import VERSION, read_runtime

        section = network.describe_format(opset=OPSET, runtime=f"onnxruntime-web {VERSION}")
        section["input"] = describe_format_input(network.size, pixels=True)
        paths = self.new_paths(folder, name)
        write_page(paths, name, network.describe(), section, model_of(network), read_runtime())
        return section

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """See `ExportFormat.load`; runs in Chromium on the CPU whatever `ctx` is."""
        from ..web.check import ChromiumEngine

        return ChromiumEngine(self.paths(folder, sidecar)[0], tensors or sidecar[self.section]["outputs"])

    def engines_to_check(
        self, network: ExportedNetwork, folder: Path, sidecar: Mapping[str, Any]
    ) -> Dict[str, Engine]:
        """The page in Chromium; without one, the network in the page, after a warning."""
        from ..engines import OnnxEngine
        from ..web.check import ChromiumEngine, check_reading, find_chromium
        from ..web.page import read_model

        paths = self.paths(folder, sidecar)
        if find_chromium() is None:
            _log.warning(
                f"{paths[0].name}: not checked in a browser (no Chromium); only its network is checked"
            )
            return {f"{self.section}_model": OnnxEngine(read_model(paths), takes_pixels=True)}
        engine = ChromiumEngine(paths[0], network.tensors)
        check_reading(engine, network, network.images)
        return {self.section: engine}


export_formats.register("web", WebFormat())
