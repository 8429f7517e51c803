"""Graphs for other inputs and outputs, and symbol files back to a network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np

from ...data.image import IMAGENET_MEAN, IMAGENET_STD
from ...errors import ExportError
from ...graph.fast import runs_in_onednn
from ...graph.inference import fuse
from ...weights import read_params
from ..packing import is_packed, unpack
from ..sidecar import INPUT_NAME, PIXELS_NAME
from ..symbol_check import check_symbol

SymbolAndArrays = Tuple[mx.sym.Symbol, Mapping[str, np.ndarray]]
"""A graph and its arrays under the names of a parameter file, ``arg:NAME`` and ``aux:NAME``."""


def take_pixels(graph: SymbolAndArrays) -> SymbolAndArrays:
    """The same for ``(batch, height, width, 3)`` uint8 RGB; its normalisation becomes part of it."""
    symbol, parameters = graph
    scale = 1 / (255 * np.array(IMAGENET_STD))
    shift = -np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
    constants = {
        f"{PIXELS_NAME}_{name}": value.astype(np.float32).reshape(1, 3, 1, 1)
        for name, value in (("scale", scale), ("shift", shift))
    }
    scale_of, shift_of = (mx.sym.var(name, shape=value.shape) for name, value in constants.items())
    planes = mx.sym.transpose(mx.sym.cast(mx.sym.var(PIXELS_NAME), dtype="float32"), axes=(0, 3, 1, 2))
    normalised = mx.sym.broadcast_add(mx.sym.broadcast_mul(planes, scale_of), shift_of, name=INPUT_NAME)
    whole = symbol(**{INPUT_NAME: normalised})
    return whole, {**parameters, **{f"arg:{name}": value for name, value in constants.items()}}


def import_symbol(symbol_path: Path, params_path: Path, ctx: Any = None, input_name: str = INPUT_NAME) -> Any:
    """`SymbolBlock.imports`, as anybody would call it, without its warning about the unknown input type.

    Weights in fewer bits are unpacked first.

    Raises
    ------
    WeightsError
        When the parameter file is damaged.
    ExportError
        When MXNet cannot make a network of the files.
    """
    check_symbol(symbol_path)
    read_params(str(params_path))  # every length checked: MXNet's reader may end the process
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Cannot decide type")
            stored = mx.nd.load(str(params_path))
            if not is_packed(stored):
                return mx.gluon.SymbolBlock.imports(str(symbol_path), [input_name], str(params_path), ctx=ctx)
            block = mx.gluon.SymbolBlock(mx.sym.load(str(symbol_path)), [mx.sym.var(input_name)])
            block.collect_params().load_dict(
                unpack(stored), ctx, filename=str(params_path), cast_dtype=True, dtype_source="saved"
            )
    except (mx.MXNetError, AssertionError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1:] or [repr(error)]
        raise ExportError(f"{symbol_path}: MXNet cannot load it ({reason[0]}); export it again") from error
    return block


def make_fast(block: Any, size: Tuple[int, int], ctx: Any, is_int8: bool, takes_pixels: bool) -> None:
    """Prepare an imported block for running, in place.

    Raises
    ------
    ExportError
        For 8 bits elsewhere than on a CPU: they are oneDNN's.
    """
    if not is_int8:
        fuse(block, size, ctx, takes_pixels)
        return
    if not runs_in_onednn([ctx]):
        raise ExportError(f"8-bit MXNet files run in oneDNN on a CPU, not on {ctx}; use --ctx cpu")
    block.hybridize(static_alloc=True, static_shape=True)


def block_with(block: Any, names: Sequence[str], input_name: str = INPUT_NAME) -> Any:
    """The graph of an imported block again, with other tensors of it as outputs; over the same parameters."""
    _, outputs = block._cached_graph
    inside = outputs.get_internals()
    wanted = mx.sym.Group([inside[f"{name}_output"] for name in names])
    dtype = "uint8" if input_name == PIXELS_NAME else "float32"
    data = mx.sym.var(input_name, dtype=dtype)  # without a type MXNet warns
    return mx.gluon.SymbolBlock(wanted, [data], params=block.collect_params())
