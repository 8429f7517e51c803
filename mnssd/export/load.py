"""An export's files back to a network, whatever it answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx

from .. import zoo
from ..errors import ExportError, OptionError
from ..runtime import processor
from .engines import Engine, MXNetEngine, OnnxEngine, last_line
from .formats.symbol import block_with, import_symbol, make_fast
from .options import ENGINES
from .sidecar import FORMATS, PIXELS_NAME, TASKS, find_sidecars, read_export

_log = logging.getLogger(__name__)


class LoadedExport(NamedTuple):
    """A network as fast as it runs here, its sidecar, and ``(width, height)`` of its input."""

    engine: Engine
    sidecar: Dict[str, Any]
    size: Tuple[int, int]


def load_export(
    path: Path, task: str, ctx: Any, engine: str = "auto", inside: Sequence[str] = ()
) -> Optional[LoadedExport]:
    """Load the export in a folder; None where `path` is a run, or a file in one.

    Parameters
    ----------
    path : Path
    task : str
        A key of `sidecar.TASKS`, which it must be for.
    ctx : mxnet.Context
        For MXNet.
    engine : str
        ``auto``, or one of `formats.ENGINES`.
    inside : sequence of str
        Names of tensors inside the network that it is to answer in place of its outputs.

    Raises
    ------
    OptionError
        For an engine that is unknown, or has no files there.
    ExportError
        When the export is damaged, incomplete, for another version or another task.
    """
    if engine not in ("auto", *ENGINES):
        raise OptionError(f"engine is auto or one of {', '.join(ENGINES)}, not {engine!r}")
    if not path.is_dir() or (path / zoo.CONFIG_FILE).exists():
        if engine not in ("auto", "mxnet"):
            raise OptionError(f"{path}: {engine} runs exports; make one with: mnssd export {_option(engine)}")
        return None
    if not find_sidecars(path):
        raise ExportError(f"{path}: holds neither an export nor a run ({zoo.CONFIG_FILE})")
    found, sidecar = read_export(path)
    actual, wanted = TASKS[sidecar["task"]], TASKS[task]
    if actual != wanted:
        raise ExportError(f"{found}: a {actual.noun}, not a {wanted.noun}; use {actual.use}")
    width, height = sidecar["input"]["size"]
    files = {kind: path / entry["file"] for kind, entry in sidecar["files"].items()}
    there = [name for name, kind in ENGINES.items() if FORMATS[kind][0] in files]
    if engine == "auto":
        engine = there[0]
    kind = ENGINES[engine]
    if engine not in there:
        raise OptionError(f"{path}: holds no files for {engine}; export it again with {_option(engine)}")
    if kind == "int8" and not processor.has_vnni():
        _log.warning(
            "%s: this processor has no instruction for 8-bit integers (VNNI); what %s answers differs here"
            " from elsewhere. The engines in full precision answer the same everywhere",
            path,
            engine,
        )
    section = sidecar[kind]
    if "anchors" in section:
        raise ExportError(
            f"{found}: its files answer raw heads, for other runtimes; export without --raw-heads"
        )
    input_name = section["input"]["name"]
    takes_pixels = input_name == PIXELS_NAME
    if kind in ("onnx", "onnx_int8"):
        model: Union[Path, bytes] = files[kind]
        if inside:
            from .formats.onnx import answering

            model = answering(files[kind], inside)
        return LoadedExport(OnnxEngine(model, takes_pixels), sidecar, (width, height))
    symbol_path, params_path = (files[name] for name in FORMATS[kind])
    block = import_symbol(symbol_path, params_path, ctx, input_name)
    if inside:
        block = block_with(block, inside, input_name)
    try:
        make_fast(block, (width, height), ctx, kind == "int8", takes_pixels)
    except mx.MXNetError as error:
        raise ExportError(
            f"{symbol_path}: MXNet cannot compute it ({last_line(error)}); export it again"
        ) from error
    return LoadedExport(MXNetEngine(block, ctx, takes_pixels, str(symbol_path)), sidecar, (width, height))


def _option(engine: str) -> str:
    """How to export for an engine."""
    return f"--format {ENGINES[engine].replace('_', '-')}"
