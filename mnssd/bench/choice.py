"""The engine that `mnssd bench export` chooses for ``--engine auto``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from ..export.formats import ExportFormat, format_of_engine
from ..export.options import ExportOptions
from ..export.sidecar import read_export
from ..export.speed import speed_path, write_speed
from .exports import NETWORK, ExportRow
from .options import BenchOptions


def choose(rows: Sequence[ExportRow], sidecar: Mapping[str, Any], max_loss: float) -> Optional[ExportRow]:
    """The fastest engine, at batch size 1, that is accurate enough; None if none is.

    Engines that compute in float32 are: their parity check has shown that they compute the same. Another one
    is if `max_loss` is above 0 and its mAP is at most that much below the best.
    """
    engines = [row for row in rows if row.engine != NETWORK]
    best = max((row.map for row in rows if row.map is not None), default=None)
    accurate = [
        row for row in engines
        if _computes_in_float32(format_of_engine(row.engine), sidecar)
        or (max_loss > 0 and best is not None and row.map is not None and row.map >= best - max_loss)
    ]  # fmt: skip
    return min(accurate, key=lambda row: row.total[1], default=None)


def store_choice(folder: Path, rows: Sequence[ExportRow], options: BenchOptions) -> str:
    """Store the choice beside the export (`export.speed`); returns a line for the user."""
    sidecar_path, sidecar = read_export(folder)
    chosen = choose(rows, sidecar, options.max_loss)
    if chosen is None:
        return "--engine auto: unchanged, as no engine is accurate enough; allow a loss with --max-loss"
    data = {name: getattr(options, name) for name in ("dataset", "data_root", "splits", "metric")}
    try:
        write_speed(sidecar_path, chosen.engine, options.max_loss, list(map(_as_dict, rows)), data)
    except OSError as error:
        path = speed_path(sidecar_path)
        return f"--engine auto: unchanged, as {path} cannot be written ({error.strerror})"
    time = f"{chosen.total[1]:.2f} ms per image"
    return f"--engine auto on this machine: {chosen.engine} ({time}), stored in {speed_path(sidecar_path)}"


def _computes_in_float32(entry: ExportFormat, sidecar: Mapping[str, Any]) -> bool:
    """Whether neither weights nor activations were rounded."""
    is_exact = entry.tolerance(ExportOptions((entry.name,))) is None
    return is_exact and sidecar[entry.section].get("weights", "float32") == "float32"


def _as_dict(row: ExportRow) -> Dict[str, Any]:
    return {"engine": row.engine, "milliseconds": round(row.total[1], 3), "map": row.map}
