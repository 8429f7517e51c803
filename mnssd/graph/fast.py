"""Running the passes: a block's graph, rewritten, over the block's own parameters."""

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
from .symbol_graph import Graph

Pass = Callable[[Graph], int]

TRAINING_PASSES: Sequence[Tuple[str, Pass]] = (
    ("pad channels", pad_channels),
    ("join predictors", join_predictors),
    ("pad predictors", pad_outputs),
    ("BatchNorm + ReLU6", fuse_batchnorm_relu6),
    ("BatchNorm + ReLU", fuse_batchnorm_relu),
)
"""In the order in which they run. Padding first: it works on the plain operators. For oneDNN only."""


class FastBlock(SymbolBlock):
    """A block's rewritten graph; call it as the block itself.

    Attributes
    ----------
    rewritten : dict of str to int
        What each pass changed, by its name.
    """

    rewritten: Mapping[str, int]


def fast_block(block: Any, passes: Optional[Sequence[Tuple[str, Pass]]] = None) -> FastBlock:
    """Trace `block`, run `passes` over its graph, and return a block that shares its parameters.

    Training the result trains `block`: weights, gradients and running statistics are the same arrays,
    so what is saved is the plain network, and what is set or loaded there is seen here. Whatever gives
    `block` other arrays or another structure parts the two: another context, forced initialization,
    `SSD.reset_class`, a second fast block (it takes the running statistics over). Make a new one then.

    Call ``mx.nd.waitall()`` between a backward pass and reading or setting running statistics: the fused
    operator of MXNet 1.9.1 writes them in its backward pass without telling the engine, which so lets a
    reader go before.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        Of one float32 input, initialized, with all shapes known (run it once).
    passes : sequence of (name, pass), optional
        Each changes the graph in place and returns how many places it changed. By default
        `TRAINING_PASSES` where oneDNN runs the block, on a processor with AVX2, and none elsewhere: below
        that the fused operator is seven times slower than what it replaces, and what replaces it unfused
        (BatchNorm and ReLU apart, twice) no faster than the plain graph (4.7 against 4.4 s a step).

    Raises
    ------
    ValueError
        When shapes are not known yet.
    """
    traced = block(mx.sym.var("data"))
    own = block.collect_params()
    shapes = {name: parameter.shape for name, parameter in own.items()}
    waiting = [name for name, parameter in own.items() if parameter._data is None]
    if waiting:
        raise ValueError(f"{waiting[0]} has no array yet; initialize the block and run it once before")
    context = next((parameter.list_ctx() for parameter in own.values()), [mx.current_context()])
    if passes is None:
        helps = runs_in_onednn(context) and processor.fuses_batchnorm_relu()
        passes = TRAINING_PASSES if helps else ()
    graph = Graph(traced if isinstance(traced, mx.sym.Symbol) else mx.sym.Group(list(traced)), shapes)
    rewritten = {name: rewrite(graph) for name, rewrite in passes}
    shared = ParameterDict()
    shared.update(own)
    for name, value in graph.constants.items():
        shared.update({name: _frozen(name, value, context)})
    for name, (statistic, length) in graph.lengthened.items():
        shared.update({name: _lengthened(name, own[statistic], length, context)})
    # The type is given because SymbolBlock warns when it cannot tell it.
    fast = FastBlock(graph.symbol(), [mx.sym.var("data", dtype="float32")], params=shared)
    fast.rewritten = rewritten
    return fast


def runs_in_onednn(contexts: Sequence[mx.Context]) -> bool:
    """Whether MXNet runs operators through oneDNN there: on the CPU, built with it, not switched off."""
    on_cpu = all(context.device_type == "cpu" for context in contexts)
    built_in = bool(mx.runtime.Features().is_enabled("MKLDNN"))
    return on_cpu and built_in and os.environ.get("MXNET_MKLDNN_ENABLED", "1") != "0"


def _frozen(name: str, value: np.ndarray, context: Any) -> Parameter:
    parameter = Parameter(name, grad_req="null", shape=value.shape)
    parameter.initialize(mx.init.Constant(0), ctx=context)
    parameter.set_data(mx.nd.array(value))
    return parameter


def _lengthened(name: str, statistic: Parameter, length: int, context: Any) -> Parameter:
    """A longer running statistic, whose beginning the block's own array becomes a view of.

    So whoever reads or sets the block's statistic (evaluation, a checkpoint) reads or sets this one:
    nothing has to be copied back.
    """
    known = statistic.shape[0]
    value = np.zeros(length, np.float32)
    value[:known] = statistic.data().asnumpy()
    longer = _frozen(name, value, context)
    statistic._data = [array[:known] for array in longer._data]
    return longer
