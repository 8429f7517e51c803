"""An export's files back to a network, whatever it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from .. import zoo
from ..errors import ExportError, OptionError
from ..graph.inference import fuse
from .engines import ENGINES, Engine, MXNetEngine, OnnxEngine
from .sidecar import PIXELS_NAME, TASKS, find_sidecars, read_export
from .symbol import import_symbol


class LoadedExport(NamedTuple):
    """A network as fast as it runs here, its sidecar, and ``(width, height)`` of its input."""

    engine: Engine
    sidecar: Dict[str, Any]
    size: Tuple[int, int]


def load_export(path: Path, task: str, ctx: Any, engine: str = "auto") -> Optional[LoadedExport]:
    """Load the export in a folder; None where `path` is a run, or a file in one.

    Parameters
    ----------
    path : Path
    task : str
        A key of `sidecar.TASKS`, which it must be for.
    ctx : mxnet.Context
        For MXNet.
    engine : str
        One of `engines.ENGINES`.

    Raises
    ------
    OptionError
        For an engine that is unknown, or has no files there.
    ExportError
        When the export is damaged, incomplete, for another version or another task.
    """
    if engine not in ENGINES:
        raise OptionError(f"engine is one of {', '.join(ENGINES)}, not {engine!r}")
    if not path.is_dir() or (path / zoo.CONFIG_FILE).exists():
        if engine == "onnxruntime":
            raise OptionError(f"{path}: ONNX Runtime runs exports; make one with: mnssd export --format onnx")
        return None
    if not find_sidecars(path):
        raise ExportError(f"{path}: holds neither an export nor a run ({zoo.CONFIG_FILE})")
    found, sidecar = read_export(path)
    actual, wanted = TASKS[sidecar["task"]], TASKS[task]
    if actual != wanted:
        raise ExportError(f"{found}: a {actual.noun}, not a {wanted.noun}; use {actual.use}")
    width, height = sidecar["input"]["size"]
    files = {kind: path / entry["file"] for kind, entry in sidecar["files"].items()}
    needed, name = ("onnx", "ONNX") if engine == "onnxruntime" else ("symbol", "symbol")
    if engine != "auto" and needed not in files:
        raise OptionError(
            f"{path}: holds no {name} file for {engine}; export it again with --format {needed}"
        )
    if "symbol" in files and needed == "symbol":
        block = import_symbol(files["symbol"], files["params"], ctx)
        fuse(block, (width, height), ctx)
        return LoadedExport(MXNetEngine(block, ctx), sidecar, (width, height))
    section = sidecar["onnx"]
    if "anchors" in section:
        raise ExportError(f"{found}: its ONNX file answers raw heads, for other runtimes; export one without")
    takes_pixels = section["input"]["name"] == PIXELS_NAME
    return LoadedExport(OnnxEngine(files["onnx"], takes_pixels), sidecar, (width, height))
