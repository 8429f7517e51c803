"""Training on a rewritten graph that shares the parameters of a block."""

from __future__ import annotations

import os
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter, SymbolBlock
from mxnet.gluon.parameter import ParameterDict

from ..runtime import processor
from .batchnorm_relu import fuse_batchnorm_relu, fuse_batchnorm_relu6
from .channels import pad_channels, pad_outputs
from .join_predictors import join_predictors
from .symbol_graph import Graph, trace

Pass = Callable[[Graph], int]

TRAINING_PASSES: Sequence[Tuple[str, Pass]] = (
    ("pad channels", pad_channels),
    ("join predictors", join_predictors),
    ("pad predictors", pad_outputs),
    ("BatchNorm + ReLU6", fuse_batchnorm_relu6),
    ("BatchNorm + ReLU", fuse_batchnorm_relu),
)
"""Passes for oneDNN, in order. Padding comes first because it handles only the plain operators."""


class FastBlock(SymbolBlock):
    """Rewritten graph of a block, called like the block.

    Attributes
    ----------
    rewritten : dict of str to int
        Number of changes by the name of the pass.
    """

    rewritten: Mapping[str, int]


def fast_block(block: Any, passes: Optional[Sequence[Tuple[str, Pass]]] = None) -> FastBlock:
    """Trace `block`, run `passes` over its graph, and return a block that shares its parameters.

    Training the result trains `block`: weights, gradients and running statistics are the same arrays. Make a
    new one after anything that replaces the arrays or the structure of `block`: another context, forced
    initialization, `SSD.reset_class`, or a second fast block, which takes over the running statistics.

    Call ``mx.nd.waitall()`` between a backward pass and reading or setting running statistics: the fused
    operator of MXNet 1.9.1 writes them in its backward pass without telling the engine, which may run a
    reader first.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        One float32 input; initialized, with all shapes known (run it once).
    passes : sequence of (name, pass), optional
        Each changes the graph in place and returns the number of changes. Defaults to `TRAINING_PASSES` if
        oneDNN runs the block on a processor with AVX2, else to none: without AVX2 the fused operator is seven
        times slower than the plain ones, and the same rewriting without fusion no faster (4.7 against 4.4 s
        per step).

    Raises
    ------
    ValueError
        If shapes are not known yet.
    """
    symbol, own = trace(block), block.collect_params()
    shapes = {name: parameter.shape for name, parameter in own.items()}
    missing = [name for name, parameter in own.items() if parameter._data is None]
    if missing:
        raise ValueError(f"{missing[0]} has no array yet; initialize the block and run it once")
    context = next((parameter.list_ctx() for parameter in own.values()), [mx.current_context()])
    if passes is None:
        helps = runs_in_onednn(context) and processor.fuses_batchnorm_relu()
        passes = TRAINING_PASSES if helps else ()
    graph = Graph(symbol, shapes)
    rewritten = {name: rewrite(graph) for name, rewrite in passes}
    shared = ParameterDict()
    shared.update(own)
    for name, value in graph.constants.items():
        shared.update({name: _frozen(name, value, context)})
    for name, (statistic, length) in graph.padded_statistics.items():
        shared.update({name: _padded_statistic(name, own[statistic], length, context)})
    # SymbolBlock warns without the type.
    fast = FastBlock(graph.symbol(), [mx.sym.var("data", dtype="float32")], params=shared)
    fast.rewritten = rewritten
    return fast


def runs_in_onednn(contexts: Sequence[mx.Context]) -> bool:
    """Whether MXNet runs operators through oneDNN: on the CPU, built with it, and not disabled."""
    on_cpu = all(context.device_type == "cpu" for context in contexts)
    built_in = bool(mx.runtime.Features().is_enabled("MKLDNN"))
    return on_cpu and built_in and os.environ.get("MXNET_MKLDNN_ENABLED", "1") != "0"


def _frozen(name: str, value: np.ndarray, context: Any) -> Parameter:
    parameter = Parameter(name, grad_req="null", shape=value.shape)
    parameter._load_init(mx.nd.array(value), context)
    return parameter


def _padded_statistic(name: str, statistic: Parameter, length: int, context: Any) -> Parameter:
    """Padded running statistic; the block's own array becomes a view of its beginning.

    Reading or setting the block's statistic (evaluation, checkpoints) then needs no copy.
    """
    own_length = statistic.shape[0]
    value = np.zeros(length, np.float32)
    value[:own_length] = statistic.data().asnumpy()
    padded = _frozen(name, value, context)
    statistic._data = [array[:own_length] for array in padded._data]
    return padded
