"""Symbol files back to a network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Sequence

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
        raise ExportError(f"{symbol_path}: MXNet cannot load it ({reason[0]}); export it again") from error


def block_with(block: Any, names: Sequence[str]) -> Any:
    """The graph of an imported block again, with other tensors of it as outputs; over the same parameters."""
    _, outputs = block._cached_graph
    inside = outputs.get_internals()
    wanted = mx.sym.Group([inside[f"{name}_output"] for name in names])
    data = mx.sym.var(INPUT_NAME, dtype="float32")  # without a type MXNet warns
    return mx.gluon.SymbolBlock(wanted, [data], params=block.collect_params())
