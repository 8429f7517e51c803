"""Channel pruning: a network with fewer channels where it misses them least.

Channels that must go together are one group: those of a convolution, of the BatchNorm and the depthwise
convolution behind it, of everything that is added to them. How much a channel matters is told either by
its magnitude, what leaves it: the square of its gammas times that of the weights that read it (Liu et al.
2017, "Network slimming", and Li et al. 2017, "Pruning filters", taken together), as a share of the whole
group; or by gradients: the square of what the loss would change, to first order, were it multiplied by a
little less, meant over batches (Molchanov et al. 2019, "Importance Estimation for Neural Network
Pruning"). What matters least for each multiply-add goes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np

from ..graph.channels import is_depthwise, is_norm, is_plain, tie_channels
from ..graph.symbol_graph import Edge, Graph, Node
from .cost import Shape, count_block

STEP, WIDE_STEP, WIDE = 8, 32, 96
"""Channels are taken away by so many: a vector of AVX2, half a vector of AVX-512; from `WIDE` channels on
by four vectors of AVX2, for oneDNN's convolutions are slower with other counts (benchmarks/PRUNING.md)."""

TRAFFIC = 64.0
"""A number that is written and read again takes the time of about so many multiply-adds: what a channel
saves is counted with it, for large maps with few channels take longer than their multiply-adds say.
(A depthwise 3x3 of 32 channels at 150x150, batch 8, takes 0.7 ns a number; pointwise convolutions make 80
multiply-adds in a nanosecond, benchmarks/RESULTS.md.)"""

LEAST = 0.25
"""Share of a group that stays at least: a layer that is nearly gone cannot be trained back."""


@dataclass
class Group:
    """Channels that stay or go together.

    Attributes
    ----------
    channels : int
    out, along : list of str
        Parameters cut along their first axis: the weights of convolutions that make the channels; and what
        goes along with them (depthwise weights, biases, BatchNorm).
    read : list of str
        Weights cut along their second axis: of convolutions that read the channels.
    gammas : list of str
        Of the BatchNorms among them.
    """

    channels: int
    out: List[str] = field(default_factory=list)
    along: List[str] = field(default_factory=list)
    read: List[str] = field(default_factory=list)
    gammas: List[str] = field(default_factory=list)


@dataclass
class _Layer:
    """A convolution in the sum of costs: multiply-adds a pair of channels, the groups it lies between, and
    the places of its output's map."""

    each: int
    places: int
    inputs: Optional[int]
    outputs: Optional[int]
    in_channels: int
    out_channels: int


@dataclass(frozen=True)
class Pruned:
    """What is left.

    Attributes
    ----------
    arrays : dict of str to numpy.ndarray
        Parameters and statistics, by the names that were given.
    channels : dict of str to int
        Outputs of every convolution that has fewer, by the name of its weight.
    before, after : int
        Multiply-adds.
    """

    arrays: Dict[str, np.ndarray]
    channels: Dict[str, int]
    before: int
    after: int


def prune(block: Any, shape: Shape, keep: float, gradients: Optional[Iterable[object]] = None) -> Pruned:
    """Take channels away until only a share `keep` of the multiply-adds is left. The block stays as it is.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        Of one input, trained.
    shape : tuple of int
        Of the input, with a batch of 1.
    keep : float
        Above 0 and below 1.
    gradients : iterable, optional
        Each step of it leaves the gradients of the loss on other images in the block's parameters, and
        the weights as they are. The channels are chosen by them; without it by their magnitude.

    Returns
    -------
    Pruned
        With structural names, as ``save_parameters`` writes them.

    Raises
    ------
    ValueError
        When so much cannot be taken away; it says how many multiply-adds stay at least.
    """
    traced = block(mx.sym.var("data"))
    outputs = traced if isinstance(traced, mx.sym.Symbol) else mx.sym.Group(list(traced))
    mx.nd.waitall()
    parameters = block._collect_params_with_prefix()
    structural = {id(p): name for name, p in parameters.items()}
    names = {name: structural[id(p)] for name, p in block.collect_params().items()}
    arrays = {names[name]: p.data().asnumpy() for name, p in block.collect_params().items()}
    graph = Graph(outputs, {name: p.shape for name, p in block.collect_params().items()})
    groups, layers = _read(graph, _places(outputs, shape), names)
    if gradients is None:
        importance = [_magnitude(group, arrays) for group in groups]
    else:
        importance = _felt_by_loss(groups, arrays, parameters, gradients)
    before = count_block(block, shape).multiply_adds
    rest = before - _total(layers, [group.channels for group in groups])  # dense layers: nothing goes there
    sizes = _choose(groups, layers, importance, keep * before - rest)
    channels: Dict[str, int] = {}
    for group, weights, size in zip(groups, importance, sizes):
        if size == group.channels:
            continue
        kept = np.sort(np.argsort(-weights, kind="stable")[:size])
        for name in [*group.out, *group.along]:
            arrays[name] = arrays[name][kept]
        for name in group.read:
            arrays[name] = arrays[name][:, kept]
        for name in [*group.out, *group.along]:
            if arrays[name].ndim > 1:
                channels[name] = size
    return Pruned(arrays, channels, before, rest + _total(layers, sizes))


def _places(outputs: mx.sym.Symbol, shape: Shape) -> Dict[str, int]:
    """For each node the number of places in its first output's map."""
    inside = outputs.get_internals()
    _, shapes, _ = inside.infer_shape(data=shape)
    found = {}
    for name, output in zip(inside.list_outputs(), shapes):
        found[name[: -len("_output")] if name.endswith("_output") else name] = prod(output[2:])
    return found


def _read(
    graph: Graph, places: Mapping[str, int], names: Mapping[str, str]
) -> Tuple[List[Group], List[_Layer]]:
    tied = tie_channels(graph)
    groups: List[Group] = []
    number: Dict[Any, int] = {}

    def group_of(edge: Edge) -> Optional[int]:
        """The group's number; None where channels may not go."""
        root = tied.find(edge)
        if root in tied.fixed or len(tied.sources.get(root, ())) != 1:
            return None
        if root not in number:
            number[root] = len(groups)
            groups.append(Group(next(iter(tied.sources[root]))))
        return number[root]

    layers: List[_Layer] = []
    for node in graph.nodes():
        if is_plain(node) or is_depthwise(graph, node):
            layers.append(_enter_convolution(node, graph, groups, group_of, places, names))
        elif is_norm(node):
            index = group_of((node, 0))
            if index is not None:
                groups[index].along += [names[source.name] for source, _ in node.inputs[1:]]
                groups[index].gammas.append(names[node.inputs[1][0].name])
    # What reads a group twice, or is shared by two layers, is cut once.
    for group in groups:
        group.out, group.along, group.read = (
            list(dict.fromkeys(part)) for part in (group.out, group.along, group.read)
        )
    return groups, layers


def _enter_convolution(
    node: Node,
    graph: Graph,
    groups: List[Group],
    group_of: Any,
    places: Mapping[str, int],
    names: Mapping[str, str],
) -> _Layer:
    weight = node.inputs[1][0].name
    shape = graph.shape(node.inputs[1][0])
    inputs, outputs = group_of(node.inputs[0]), group_of((node, 0))
    here = places[node.name]
    each = here * prod(shape[2:])
    others = [names[source.name] for source, _ in node.inputs[2:]]
    if not is_plain(node):
        if outputs is not None:
            groups[outputs].along += [names[weight], *others]
        return _Layer(each, here, None, outputs, 1, shape[0])
    if outputs is not None:
        groups[outputs].out.append(names[weight])
        groups[outputs].along += others
    if inputs is not None:
        groups[inputs].read.append(names[weight])
    return _Layer(each, here, inputs, outputs, shape[1], shape[0])


def _magnitude(group: Group, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """``(channels,)``, sum 1."""
    weights = np.ones(group.channels)
    if group.gammas:
        weights *= np.mean([_share(arrays[name].astype(np.float64) ** 2) for name in group.gammas], axis=0)
    if group.read:
        norms = [
            (arrays[name].astype(np.float64) ** 2).sum(axis=(0, *range(2, arrays[name].ndim)))
            for name in group.read
        ]
        weights *= np.mean([_share(norm) for norm in norms], axis=0)
    return _share(weights)


def _felt_by_loss(
    groups: List[Group],
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
    gradients: Iterable[object],
) -> List[np.ndarray]:
    """For each group ``(channels,)``: mean square of the loss's derivative by a factor on the channel.

    Whatever becomes of a channel passes the weights that read it, so the derivative is the sum of those
    weights times their gradients.
    """
    squares = [np.zeros(group.channels) for group in groups]
    batches = 0
    for _ in gradients:
        batches += 1
        for group, square in zip(groups, squares):
            factor = np.zeros(group.channels)
            for name in group.read:
                changes = arrays[name] * parameters[name].grad().asnumpy()
                factor += changes.sum(axis=(0, *range(2, changes.ndim)), dtype=np.float64)
            square += factor**2
    if not batches:
        raise ValueError("no gradients were given")
    return [square / batches for square in squares]


def _share(values: np.ndarray) -> np.ndarray:
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), 1 / len(values))


def _total(layers: List[_Layer], sizes: List[int]) -> int:
    return sum(_cost(layer, sizes) for layer in layers)


def _cost(layer: _Layer, sizes: List[int]) -> int:
    inputs = layer.in_channels if layer.inputs is None else sizes[layer.inputs]
    return layer.each * inputs * _outputs(layer, sizes)


def _time(layer: _Layer, sizes: List[int]) -> float:
    """In multiply-adds."""
    return _cost(layer, sizes) + TRAFFIC * layer.places * _outputs(layer, sizes)


def _outputs(layer: _Layer, sizes: List[int]) -> int:
    return layer.out_channels if layer.outputs is None else sizes[layer.outputs]


def _choose(
    groups: List[Group], layers: List[_Layer], importance: List[np.ndarray], wanted: float
) -> List[int]:
    """Channels that stay in each group, so that at most `wanted` multiply-adds are left."""
    sizes = [group.channels for group in groups]
    ordered = [np.sort(weights) for weights in importance]  # the next to go stand first
    touching = [
        [layer for layer in layers if index in (layer.inputs, layer.outputs)] for index in range(len(groups))
    ]
    left = _total(layers, sizes)
    while left > wanted:
        best: Optional[Tuple[float, int, int]] = None
        for index, group in enumerate(groups):
            step = WIDE_STEP if group.channels >= WIDE else STEP
            smaller = sizes[index] - (sizes[index] % step or step)
            if smaller < max(step, LEAST * group.channels):
                continue
            gone = group.channels - sizes[index]
            lost = float(ordered[index][gone : group.channels - smaller].sum())
            now = sum(_time(layer, sizes) for layer in touching[index])
            then = [*sizes[:index], smaller, *sizes[index + 1 :]]
            saved = now - sum(_time(layer, then) for layer in touching[index])
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = (lost / saved, index, smaller)
        if best is None:
            raise ValueError(
                f"{left / 1e6:.1f} million multiply-adds are left where no layer can do with less"
            )
        sizes[best[1]] = best[2]
        left = _total(layers, sizes)
    return sizes
