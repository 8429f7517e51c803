"""MXNet's graph and parameter files: written from a graph, loaded into an engine."""

from __future__ import annotations

import contextlib
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np

from ..errors import ExportError
from ..files import utf8_path, write_error_reason
from ..graph.fast import runs_in_onednn
from ..graph.inference import fuse
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..weights import read_params
from .engines import Engine, JoinedEngine, MXNetEngine, last_line
from .network import SymbolAndArrays
from .packing import is_packed, unpack
from .sidecar import INPUT_NAME, PIXELS_NAME, takes_pixels
from .symbol_check import backbone_operators, check_symbol

ArrayReader = Callable[[Path], Dict[str, np.ndarray]]


def save_symbol(graph: SymbolAndArrays, paths: Sequence[Path], pixels: bool) -> None:
    """Write a graph and its arrays, with the normalization of uint8 pixels in front if `pixels`.

    Raises
    ------
    ExportError
        If the files cannot be written.
    """
    parameters = save_graph(graph, paths[0], pixels)
    with _writing(paths[1]) as path:
        mx.nd.save(path, {key: mx.nd.array(v, dtype=v.dtype) for key, v in parameters.items()})


def save_graph(graph: SymbolAndArrays, path: Path, pixels: bool) -> Mapping[str, np.ndarray]:
    """Write the graph of `save_symbol` only; returns the arrays that belong to it."""
    symbol, parameters = _take_pixels(graph) if pixels else graph
    with _writing(path) as symbol_path:
        symbol.save(symbol_path)
    return parameters


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[str]:
    """A name of the file for MXNet, whose errors become ExportError."""
    try:
        with utf8_path(path) as name:
            yield name
    except mx.MXNetError as error:
        reason = write_error_reason(error, path.parent)
        raise ExportError(f"{path.parent.name}/{path.name}: cannot be written ({reason})") from error


def _take_pixels(graph: SymbolAndArrays) -> SymbolAndArrays:
    """The graph with an input of ``(batch, height, width, 3)`` uint8 RGB, which it normalizes."""
    symbol, parameters = graph
    scale = 1 / (255 * np.array(IMAGENET_STD))
    shift = -np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)
    constants = {
        f"{PIXELS_NAME}_{name}": value.astype(np.float32).reshape(1, 3, 1, 1)
        for name, value in (("scale", scale), ("shift", shift))
    }
    scale_symbol, shift_symbol = (mx.sym.var(name, shape=value.shape) for name, value in constants.items())
    planes = mx.sym.transpose(mx.sym.cast(mx.sym.var(PIXELS_NAME), dtype="float32"), axes=(0, 3, 1, 2))
    scaled = mx.sym.broadcast_mul(planes, scale_symbol)
    normalized = mx.sym.broadcast_add(scaled, shift_symbol, name=INPUT_NAME)
    named_constants = {f"arg:{name}": value for name, value in constants.items()}
    return symbol(**{INPUT_NAME: normalized}), {**parameters, **named_constants}


def load_symbol(
    paths: Sequence[Path],
    sidecar: Mapping[str, Any],
    section: str,
    ctx: Any,
    tensors: Sequence[str] = (),
    is_int8: bool = False,
    read: Optional[ArrayReader] = None,
) -> Engine:
    """Load graph and parameters, optimized for `ctx`; parameters as of `ExportFormat.load`.

    `read` returns the arrays of a parameter file that is not MXNet's.

    Raises
    ------
    WeightsError
        If the parameter file is damaged.
    ExportError
        If the graph is not one of an export, or MXNet cannot load or run the files; for an int8 graph also
        on a device other than a CPU, because only oneDNN runs it.
    """
    pixels = takes_pixels(sidecar, section)
    block = _import(paths, sidecar, ctx, pixels, read)
    if tensors:
        block = _with_outputs(block, tensors, pixels)
    width, height = sidecar["input"]["size"]
    try:
        if not is_int8:
            fuse(block, (width, height), ctx, pixels)
        elif runs_in_onednn([ctx]):
            block.hybridize(static_alloc=True, static_shape=True)
        else:
            raise ExportError(f"int8 files of MXNet run on a CPU only, not on {ctx}; use --ctx cpu")
    except mx.MXNetError as error:
        raise ExportError(f"{paths[0]}: MXNet cannot run it ({last_line(error)}); export it again") from error
    return MXNetEngine(block, ctx, pixels, str(paths[0]))


def load_plain(
    paths: Sequence[Path], sidecar: Mapping[str, Any], ctx: Any, heads: Sequence[str], whole: bool
) -> Engine:
    """The files as `SymbolBlock.imports` loads them, unoptimized: the heads and, if `whole`, the outputs."""
    pixels = takes_pixels(sidecar, "symbol")
    block = _import(paths, sidecar, ctx, pixels)
    inner = MXNetEngine(_with_outputs(block, heads, pixels), ctx, pixels)
    return JoinedEngine(inner, MXNetEngine(block, ctx, pixels)) if whole else inner


def _import(
    paths: Sequence[Path],
    sidecar: Mapping[str, Any],
    ctx: Any,
    pixels: bool,
    read: Optional[ArrayReader] = None,
) -> Any:
    """`SymbolBlock.imports` with checks first, and with packed parameters unpacked; see `load_symbol`."""
    input_name = PIXELS_NAME if pixels else INPUT_NAME
    check_symbol(paths[0], partial(backbone_operators, sidecar))
    if read is None:
        read_params(str(paths[1]))  # checks every length: MXNet's reader may crash the process
    arrays = {name: mx.nd.array(value) for name, value in read(paths[1]).items()} if read else {}
    try:
        with contextlib.ExitStack() as stack:
            symbol_path, params_path = (stack.enter_context(utf8_path(path)) for path in paths)
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="Cannot decide type")
            stored = mx.nd.load(params_path) if read is None else arrays
            if read is None and not is_packed(stored):
                return mx.gluon.SymbolBlock.imports(symbol_path, [input_name], params_path, ctx=ctx)
            block = mx.gluon.SymbolBlock(mx.sym.load(symbol_path), [mx.sym.var(input_name)])
            block.collect_params().load_dict(
                unpack(stored), ctx, filename=params_path, cast_dtype=True, dtype_source="saved"
            )
            return block
    except (mx.MXNetError, AssertionError, ValueError, KeyError) as error:
        raise ExportError(
            f"{paths[0]}: MXNet cannot load it ({last_line(error)}); export it again"
        ) from error


def _with_outputs(block: Any, names: Sequence[str], pixels: bool) -> Any:
    """A block over the same parameters that returns other tensors of an imported block's graph."""
    _, outputs = block._cached_graph
    inner = outputs.get_internals()
    tensors = mx.sym.Group([inner[f"{name}_output"] for name in names])
    name, dtype = (PIXELS_NAME, "uint8") if pixels else (INPUT_NAME, "float32")
    data = mx.sym.var(name, dtype=dtype)  # MXNet warns about an input without a type
    return mx.gluon.SymbolBlock(tensors, [data], params=block.collect_params())
