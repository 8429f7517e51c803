"""Running the passes: a block's graph, rewritten, over the block's own parameters."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter, SymbolBlock
from mxnet.gluon.parameter import ParameterDict

from .batchnorm_relu import fuse_batchnorm_relu, fuse_batchnorm_relu6
from .channels import pad_channels
from .symbol_graph import Graph

Pass = Callable[[Graph], int]

TRAINING_PASSES: Sequence[Tuple[str, Pass]] = (
    ("pad channels", pad_channels),
    ("BatchNorm + ReLU6", fuse_batchnorm_relu6),
    ("BatchNorm + ReLU", fuse_batchnorm_relu),
)
"""In the order in which they run. Padding first: it works on the plain operators."""


class FastBlock(SymbolBlock):
    """A block's rewritten graph; call it as the block itself.

    Attributes
    ----------
    rewritten : dict of str to int
        What each pass changed, by its name.
    """

    rewritten: Mapping[str, int]


def fast_block(block: Any, passes: Sequence[Tuple[str, Pass]] = TRAINING_PASSES) -> FastBlock:
    """Trace `block`, run `passes` over its graph, and return a block that shares its parameters.

    Training the result trains `block`: weights, gradients and running statistics are the same arrays,
    so what is saved is the plain network.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        Of one input, with all shapes known (run it once).
    passes : sequence of (name, pass)
        Each changes the graph in place and returns how many places it changed.
    """
    traced = block(mx.sym.var("data"))
    own = block.collect_params()
    shapes = {name: parameter.shape for name, parameter in own.items()}
    graph = Graph(traced if isinstance(traced, mx.sym.Symbol) else mx.sym.Group(list(traced)), shapes)
    rewritten = {name: rewrite(graph) for name, rewrite in passes}
    shared = ParameterDict()
    shared.update(own)
    context = next(iter(own.values())).list_ctx()
    for name, value in graph.constants.items():
        shared.update({name: _frozen(name, value, context)})
    for name, (statistic, length) in graph.lengthened.items():
        shared.update({name: _lengthened(name, own[statistic], length, context)})
    fast = FastBlock(graph.symbol(), [mx.sym.var("data")], params=shared)
    fast.rewritten = rewritten
    return fast


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
