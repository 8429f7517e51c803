"""Symbol files back to a network, and the network as fast as MXNet can run it on this machine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Tuple

import mxnet as mx

from ..errors import ExportError
from .sidecar import INPUT_NAME


def import_symbol(symbol_path: Path, params_path: Path, ctx: Any = None) -> Any:
    """`SymbolBlock.imports`, as anybody would call it, without its warning about the unknown input type.

    Raises
    ------
    ExportError
        When MXNet cannot make a network of the files.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Cannot decide type")
            return mx.gluon.SymbolBlock.imports(str(symbol_path), [INPUT_NAME], str(params_path), ctx=ctx)
    except (mx.MXNetError, AssertionError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1:] or [repr(error)]
        raise ExportError(
            f"{symbol_path}: MXNet cannot load it ({reason[0]}); export the detector again"
        ) from error


def fuse(block: Any, size: Tuple[int, int], ctx: Any) -> None:
    """Let oneDNN fuse convolutions with what follows them, in place.

    Neither `hybridize` nor `imports` does so: `clip`, which is no oneDNN operator, then takes most of the
    time. The backend is called MKLDNN in MXNet 1.9.1, where 'ONEDNN' is silently ignored. Any batch size
    may be run afterwards, but only by one thread at a time. Nothing happens on a GPU, or where MXNet was
    built without oneDNN.
    """
    if ctx.device_type == "cpu" and mx.runtime.Features().is_enabled("MKLDNN"):
        x = mx.nd.zeros((1, 3, size[1], size[0]), ctx=ctx)
        # Memory planned once: a tenth to a quarter faster for one image, for 130 MB at 300x300.
        block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)
