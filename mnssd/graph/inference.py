"""Fast inference: folding, padding and oneDNN fusion of a trained network."""

from __future__ import annotations

import gc
from typing import Any, Dict, Mapping, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from ..runtime.settings import wait_all
from .channels import pad_channels, pad_outputs
from .fast import runs_in_onednn
from .fold_batchnorm import fold_batchnorm
from .fold_concat import fold_concat
from .join_predictors import join_predictors
from .symbol_graph import Graph, trace


def fold(
    graph: Graph, arrays: Mapping[str, np.ndarray], pad: bool = False
) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """Fold BatchNorm into convolutions and join predictors, changing `graph` in place.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        Parameters and running statistics by name.
    pad : bool
        Also pad channel counts, see `channels`: larger arrays, for oneDNN only. Skipped if a BatchNorm
        remains, whose statistics cannot be padded here.

    Returns
    -------
    symbol : mxnet.symbol.Symbol
    parameters : dict of str to numpy.ndarray
        By the names of a parameter file: ``arg:NAME`` and ``aux:NAME``.
    """
    fold_batchnorm(graph, arrays)
    pad = pad and not any(node.op == "BatchNorm" for node in graph.nodes())
    if pad:
        pad_channels(graph)
    join_predictors(graph)
    if pad:
        pad_outputs(graph)
    fold_concat(graph, arrays)
    symbol = graph.symbol()
    values = {**arrays, **graph.constants}
    arguments = {f"arg:{key}": values[key] for key in symbol.list_arguments() if key in values}
    return symbol, {**arguments, **{f"aux:{key}": values[key] for key in symbol.list_auxiliary_states()}}


def read_arrays(block: Any) -> Dict[str, np.ndarray]:
    """Copies of the parameters and running statistics of a block, by name."""
    wait_all()
    return {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}


def fuse(block: Any, size: Tuple[int, int], ctx: mx.Context, takes_pixels: bool = False) -> None:
    """Fuse convolutions with the operators after them, in place, if oneDNN runs the block.

    Without it, after `hybridize` or `imports`, `clip` takes most of the time, as it is not a oneDNN operator.
    The block then takes any batch size, from one thread at a time.

    MXNet 1.9.1: the backend is called MKLDNN; 'ONEDNN' is ignored without an error. To see it, measure with
    both.
    """
    if runs_in_onednn([ctx]):
        shape = (1, size[1], size[0], 3) if takes_pixels else (1, 3, size[1], size[0])
        x = mx.nd.zeros(shape, ctx=ctx, dtype="uint8" if takes_pixels else "float32")
        # Static memory is 10 to 25 % faster for one image and takes 130 MB at 300x300.
        block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)


def free_dropped_blocks() -> None:
    """Free the memory of unreferenced Gluon blocks.

    Gluon blocks are in reference cycles, so they are freed only by the garbage collector, which in training
    may not run for hours. To see it, train without this call: each validation of a detector at 300x300 adds
    125 MB.
    """
    gc.collect()


def inference_block(net: Any, size: Tuple[int, int], ctx: mx.Context) -> Any:
    """Inference copy of `net` with its present weights, several times faster.

    Call it from one thread at a time, and `free_dropped_blocks` after dropping it.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        One float32 input ``(N, 3, height, width)``; initialized, with all shapes known.
    size : (int, int)
        ``(width, height)`` of the input.
    ctx : mxnet.Context
    """
    arrays = read_arrays(net)
    graph = Graph(trace(net), {name: value.shape for name, value in arrays.items()})
    symbol, parameters = fold(graph, arrays, pad=runs_in_onednn([ctx]))
    block = load_block(symbol, parameters, ctx)
    fuse(block, size, ctx)
    return block


def load_block(symbol: mx.sym.Symbol, parameters: Mapping[str, np.ndarray], ctx: Any) -> SymbolBlock:
    """A block from a graph with the input ``data`` and its arrays (``arg:NAME``, ``aux:NAME``)."""
    block = SymbolBlock(symbol, [mx.sym.var("data", dtype="float32")])  # which warns without the type
    for name, parameter in block.collect_params().items():
        value = parameters[f"arg:{name}" if f"arg:{name}" in parameters else f"aux:{name}"]
        parameter.grad_req, parameter.shape, parameter.dtype = "null", value.shape, value.dtype
        # As `Block.load_parameters` does; `initialize` and `set_data` would write each array twice.
        parameter._load_init(mx.nd.array(value, dtype=value.dtype), ctx)
    return block
