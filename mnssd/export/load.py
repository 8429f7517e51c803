"""Loading of exports."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from .. import zoo
from ..errors import ExportError, OptionError
from ..options import Size
from ..runtime import processor, settings
from .engines import Engine
from .formats import ExportFormat, by_priority, format_of_engine
from .sidecar import TASKS, find_sidecars, folder_of_file, may_saturate, read_export
from .speed import read_speed

_log = logging.getLogger(__name__)


class LoadedExport(NamedTuple):
    """A loaded export: engine, sidecar, ``(width, height)`` of the input, and name of the engine."""

    engine: Engine
    sidecar: Dict[str, Any]
    size: Size
    engine_name: str


def load_export(
    path: Path, task: str, ctx: Any, engine: str = "auto", tensors: Sequence[str] = ()
) -> Optional[LoadedExport]:
    """Load the export in a folder; None if `path` is a run folder or a file in one.

    Parameters
    ----------
    path : Path
    task : str
        The task it must be for, a key of `sidecar.TASKS`.
    ctx : str or mxnet.Context
        Device for formats that MXNet runs, or its name as of `settings.pick_context`.
    engine : str
        One of `formats.engine_names`; ``auto`` is the fastest one by `export.speed`, else the first with
        files.
    tensors : sequence of str
        Tensors that the engine returns instead of the outputs, such as the heads.

    Raises
    ------
    OptionError
        If the engine or the device is unknown, or the export has no files for the engine.
    ExportError
        If the export is damaged, incomplete, or for another version or task.
    """
    chosen = None if engine == "auto" else format_of_engine(engine)
    if not path.is_dir() or (path / zoo.CONFIG_FILE).exists():
        folder = folder_of_file(path)
        if folder:
            raise OptionError(f"{path}: a file of an export; give its folder, {folder}")
        if chosen and chosen.name != "symbol":
            raise OptionError(
                f"{path}: {engine} runs exports; make one with: mnssd export --format {chosen.name}"
            )
        return None
    if not find_sidecars(path):
        raise ExportError(f"{path}: neither an export nor a run folder (no {zoo.CONFIG_FILE})")
    sidecar_path, sidecar = read_export(path)
    actual, expected = TASKS[sidecar["task"]], TASKS[task]
    if actual != expected:
        raise ExportError(f"{sidecar_path}: a {actual.noun}, not a {expected.noun}; use {actual.use}")
    available = formats_in(sidecar)
    if chosen and chosen not in available:
        raise OptionError(f"{path}: no files for {engine}; export again with --format {chosen.name}")
    chosen = chosen or _automatic(sidecar_path, sidecar, available)
    if "anchors" in sidecar[chosen.section] and not chosen.decodes_heads:
        raise ExportError(f"{sidecar_path}: exported with --raw-heads, for other runtimes; export without it")
    if chosen.needs_vnni and may_saturate(sidecar, chosen.section) and not processor.has_vnni():
        _log.warning(
            f"{path}: this processor has no VNNI instructions, so {chosen.engine} computes slightly different"
            " results than elsewhere; the float32 engines compute the same everywhere"
        )
    width, height = sidecar["input"]["size"]
    if isinstance(ctx, str):  # importing MXNet takes seconds, which other engines do without
        settings.check_context_name(ctx)
        ctx = settings.pick_context(ctx) if chosen.needs_mxnet else ctx
    loaded = chosen.load(path, sidecar, ctx, tensors)
    return LoadedExport(loaded, sidecar, (width, height), chosen.engine)


def _automatic(
    sidecar_path: Path, sidecar: Dict[str, Any], available: Sequence[ExportFormat]
) -> ExportFormat:
    """The format for ``--engine auto``; a line is logged if there is a choice."""
    folder, choice = sidecar_path.parent, read_speed(sidecar_path)
    chosen = next((entry for entry in available if entry.engine == choice.engine), None)
    if chosen is None and len(available) > 1:
        reason = choice.reason if not choice.engine else ""
        reason = f" ({reason})" if reason else ""
        hint = f"; for the fastest one: mnssd bench export {folder}" if sidecar["task"] == "detection" else ""
        _log.info(f"{folder}: engine {available[0].engine}, the first of its formats{reason}{hint}")
    elif chosen is not None:
        _log.info(f"{folder}: engine {chosen.engine}, {choice.reason}")
    return chosen or available[0]


def formats_in(sidecar: Dict[str, Any]) -> List[ExportFormat]:
    """Formats of an export, the preferred one first."""
    return [entry for entry in by_priority() if set(entry.files) <= set(sidecar["files"])]
