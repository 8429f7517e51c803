"""A network as fast as MXNet can answer with it on this machine."""

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
from .join_predictors import join_predictors
from .known_concat import join_known
from .symbol_graph import Graph


def fold(
    graph: Graph, arrays: Mapping[str, np.ndarray], pad: bool = False
) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """The graph with BatchNorm folded into the convolutions and predictors joined, and the arrays it needs.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    arrays : mapping of str to numpy.ndarray
        Parameters and running statistics by name.
    pad : bool
        Also fill channel counts up to whole vectors, see `channels`; larger arrays, for oneDNN only. Left
        out where a BatchNorm remains, whose statistics cannot be lengthened here.

    Returns
    -------
    symbol : mxnet.symbol.Symbol
    parameters : dict of str to numpy.ndarray
        Under the names of a parameter file: ``arg:NAME`` and ``aux:NAME``.
    """
    fold_batchnorm(graph, arrays)
    pad = pad and not any(node.op == "BatchNorm" for node in graph.nodes())
    if pad:
        pad_channels(graph)
    join_predictors(graph)
    if pad:
        pad_outputs(graph)
    join_known(graph, arrays)
    symbol = graph.symbol()
    values = {**arrays, **graph.constants}
    arguments = {f"arg:{key}": values[key] for key in symbol.list_arguments() if key in values}
    return symbol, {**arguments, **{f"aux:{key}": values[key] for key in symbol.list_auxiliary_states()}}


def read_arrays(block: Any) -> Dict[str, np.ndarray]:
    """Copies of the parameters and running statistics of a block, by name."""
    wait_all()
    return {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}


def fuse(block: Any, size: Tuple[int, int], ctx: mx.Context, takes_pixels: bool = False) -> None:
    """Let oneDNN fuse convolutions with what follows them, in place.

    Neither `hybridize` nor `imports` does so: `clip`, which is no oneDNN operator, then takes most of the
    time. The backend is called MKLDNN in MXNet 1.9.1, where 'ONEDNN' is silently ignored. Any batch size
    may be run afterwards, but only by one thread at a time. Nothing happens where oneDNN does not run it.
    """
    if runs_in_onednn([ctx]):
        shape = (1, size[1], size[0], 3) if takes_pixels else (1, 3, size[1], size[0])
        x = mx.nd.zeros(shape, ctx=ctx, dtype="uint8" if takes_pixels else "float32")
        # Memory planned once: a tenth to a quarter faster for one image, for 130 MB at 300x300.
        block.optimize_for(x, backend="MKLDNN", static_alloc=True, static_shape=True)


def free_dropped_blocks() -> None:
    """Free the memory of blocks that nobody uses any more.

    A Gluon block is part of reference cycles, so Python frees it, and the memory that MXNet has planned for
    it, at its next full collection only. In training that may be hours away: without this call, memory
    grows by 125 MB with each validation of a detector at 300x300.
    """
    gc.collect()


def inference_block(net: Any, size: Tuple[int, int], ctx: mx.Context) -> Any:
    """A block that answers as `net` does with the weights it has now, several times faster.

    It holds copies: training `net` on does not change it. Call it from one thread at a time. Who makes many
    of them calls `free_dropped_blocks`.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Of one float32 input ``(B, 3, height, width)``, initialized, with all shapes known.
    size : (int, int)
        ``(width, height)`` of that input.
    ctx : mxnet.Context
        Where to compute.
    """
    arrays = read_arrays(net)
    traced = net(mx.sym.var("data"))
    outputs = traced if isinstance(traced, mx.sym.Symbol) else mx.sym.Group(list(traced))
    graph = Graph(outputs, {name: value.shape for name, value in arrays.items()})
    symbol, parameters = fold(graph, arrays, pad=runs_in_onednn([ctx]))
    # The type is given because SymbolBlock warns when it cannot tell it.
    block = SymbolBlock(symbol, [mx.sym.var("data", dtype="float32")])
    for name, parameter in block.collect_params().items():
        auxiliary = f"aux:{name}" in parameters
        value = parameters[f"{'aux' if auxiliary else 'arg'}:{name}"]
        parameter.grad_req, parameter.shape = "null", value.shape
        parameter.initialize(mx.init.Zero(), ctx=ctx)
        parameter.set_data(mx.nd.array(value))
    fuse(block, size, ctx)
    return block
