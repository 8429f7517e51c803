"""Export format ``web-file``: a page that runs the network in the browser, in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import List

from . import ExportFormat, export_formats
from .web import WebFormat


class WebFileFormat(WebFormat):
    """``NAME.html``, which also contains the network, ONNX Runtime Web and its license."""

    name = "web-file"
    description = "the same page as one HTML file"
    engine = "chromium-file"
    priority = 21
    files = {"web_file": ".html"}  # noqa: RUF012

    def new_paths(self, folder: Path, name: str) -> List[Path]:
        return ExportFormat.new_paths(self, folder, name)


export_formats.register("web-file", WebFileFormat())
