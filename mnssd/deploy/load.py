"""An export's files back to a network, whatever it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

from .. import zoo
from ..errors import ExportError
from ..graph.inference import fuse
from .sidecar import TASKS, find_sidecars, read_export
from .symbol import import_symbol


class LoadedExport(NamedTuple):
    """A network as fast as it runs here, its sidecar, and ``(width, height)`` of its input."""

    block: Any
    sidecar: Dict[str, Any]
    size: Tuple[int, int]


def load_export(path: Path, task: str, ctx: Any) -> Optional[LoadedExport]:
    """Load the export in a folder; None where `path` is a run, or a file in one.

    Parameters
    ----------
    path : Path
    task : str
        A key of `sidecar.TASKS`, which it must be for.
    ctx : mxnet.Context

    Raises
    ------
    ExportError
        When the export is damaged, incomplete, for another version or another task.
    """
    if not path.is_dir() or (path / zoo.CONFIG_FILE).exists():
        return None
    if not find_sidecars(path):
        raise ExportError(f"{path}: holds neither an export nor a run ({zoo.CONFIG_FILE})")
    found, sidecar = read_export(path)
    actual, wanted = TASKS[sidecar["task"]], TASKS[task]
    if actual != wanted:
        raise ExportError(f"{found}: a {actual.noun}, not a {wanted.noun}; use {actual.use}")
    symbol, params = (path / sidecar["files"][kind]["file"] for kind in ("symbol", "params"))
    width, height = sidecar["input"]["size"]
    block = import_symbol(symbol, params, ctx)
    fuse(block, (width, height), ctx)
    return LoadedExport(block, sidecar, (width, height))
