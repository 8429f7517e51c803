"""Channel pruning: remove the channels with the least importance per multiply-add.

Channels that must be removed together form a group: those of a convolution, of the BatchNorm and depthwise
convolution after it, and of everything added to them. Importance is either a channel's magnitude, its squared
gammas times the squared weights that read it, as a share of the group (Liu et al. 2017, "Network slimming",
and Li et al. 2017, "Pruning filters", combined); or, with gradients, the squared first-order change of the
loss when the channel is scaled, averaged over batches (Molchanov et al. 2019, "Importance Estimation for
Neural Network Pruning").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np

from ..graph.channels import is_depthwise, is_norm, is_plain, tie_channels
from ..graph.inference import read_arrays
from ..graph.symbol_graph import Edge, Graph, Node, trace
from .cost import Shape, count_block

STEP, WIDE_STEP, WIDE = 8, 32, 96
"""Channels removed at a time: a vector of AVX2, half a vector of AVX-512. In groups of at least `WIDE`
channels `WIDE_STEP`, as oneDNN's convolutions are slower with other counts (benchmarks/PRUNING.md)."""

TRAFFIC = 64.0
"""Multiply-adds that take as long as writing and reading one value; large maps with few channels take longer
than their multiply-adds suggest. (A depthwise 3x3 convolution of 32 channels at 150x150, batch 8, takes 0.7
ns per value; pointwise convolutions do 80 multiply-adds per nanosecond, benchmarks/RESULTS.md.)"""

MIN_SHARE = 0.25
"""Smallest share of a group that is kept: a layer with fewer channels does not recover in training."""


@dataclass
class Group:
    """Channels that are kept or removed together.

    `writers` and `followers` are parameters sliced along their first axis: weights of the convolutions that
    write the channels; depthwise weights, biases and BatchNorm parameters. `readers` are weights sliced along
    their second axis, of the convolutions that read the channels.
    """

    channels: int
    writers: List[str] = field(default_factory=list)
    followers: List[str] = field(default_factory=list)
    readers: List[str] = field(default_factory=list)
    gammas: List[str] = field(default_factory=list)


@dataclass
class _Layer:
    """Cost model of a convolution; `inputs` and `outputs` are groups, or None for channels that stay."""

    kernel: int
    positions: int
    inputs: Optional[int]
    outputs: Optional[int]
    in_channels: int
    out_channels: int

    def multiply_adds(self, sizes: List[int]) -> int:
        inputs = self.in_channels if self.inputs is None else sizes[self.inputs]
        return self.kernel * self.positions * inputs * self._outputs(sizes)

    def time(self, sizes: List[int]) -> float:
        """In multiply-adds."""
        return self.multiply_adds(sizes) + TRAFFIC * self.positions * self._outputs(sizes)

    def _outputs(self, sizes: List[int]) -> int:
        return self.out_channels if self.outputs is None else sizes[self.outputs]


@dataclass(frozen=True)
class Pruned:
    """Result of pruning.

    `arrays` are parameters and running statistics by structural name, as ``save_parameters`` writes them;
    `channels` the output channels of every pruned convolution, by the name of its weight; `before` and
    `after` multiply-adds.
    """

    arrays: Dict[str, np.ndarray]
    channels: Dict[str, int]
    before: int
    after: int


def prune(block: Any, shape: Shape, keep: float, gradients: Optional[Iterable[object]] = None) -> Pruned:
    """Remove channels until a share `keep` of the multiply-adds is left. `block` is not changed.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        A trained block with one input.
    shape : tuple of int
        Input shape with a batch of 1.
    keep : float
        Above 0 and below 1.
    gradients : iterable, optional
        After each step the block's parameters hold the gradients of the loss of another batch, with unchanged
        weights. Without it importance is magnitude.

    Raises
    ------
    ValueError
        If that many channels cannot be removed.
    """
    outputs = trace(block)
    values = read_arrays(block)
    parameters = block._collect_params_with_prefix()
    names = {parameter.name: name for name, parameter in parameters.items()}
    arrays = {names[name]: value for name, value in values.items()}
    graph = Graph(outputs, {name: value.shape for name, value in values.items()})
    groups, layers = _read(graph, _positions(outputs, shape), names)
    if gradients is None:
        importance = [_magnitude(group, arrays) for group in groups]
    else:
        importance = _first_order_change(groups, arrays, parameters, gradients)
    before = count_block(block, shape).multiply_adds
    rest = before - _total(layers, [group.channels for group in groups])  # dense layers are not pruned
    sizes = _choose(groups, layers, importance, keep * before - rest)
    channels: Dict[str, int] = {}
    for group, scores, size in zip(groups, importance, sizes):
        if size == group.channels:
            continue
        kept = np.sort(np.argsort(-scores, kind="stable")[:size])
        for name in [*group.writers, *group.followers]:
            arrays[name] = arrays[name][kept]
            if arrays[name].ndim > 1:
                channels[name] = size
        for name in group.readers:
            arrays[name] = arrays[name][:, kept]
    return Pruned(arrays, channels, before, rest + _total(layers, sizes))


def _positions(outputs: mx.sym.Symbol, shape: Shape) -> Dict[str, int]:
    """Positions of the first output's feature map by node name."""
    internals = outputs.get_internals()
    _, shapes, _ = internals.infer_shape(data=shape)
    positions = {}
    for name, output in zip(internals.list_outputs(), shapes):
        positions[name[: -len("_output")] if name.endswith("_output") else name] = prod(output[2:])
    return positions


def _read(
    graph: Graph, positions: Mapping[str, int], names: Mapping[str, str]
) -> Tuple[List[Group], List[_Layer]]:
    """Channel groups and convolutions of a graph; `names` maps parameter names to structural names."""
    tied = tie_channels(graph)
    groups: List[Group] = []
    number: Dict[Edge, int] = {}

    def group_of(edge: Edge) -> Optional[int]:
        """Index of a tensor's group; None if its channels cannot be removed."""
        root, count = tied.find(edge), tied.count(edge)
        if count is None:
            return None
        if root not in number:
            number[root] = len(groups)
            groups.append(Group(count))
        return number[root]

    layers: List[_Layer] = []
    for node in graph.nodes():
        if is_plain(node) or is_depthwise(graph, node):
            layers.append(_add_convolution(node, graph, groups, group_of, positions, names))
        elif is_norm(node):
            index = group_of((node, 0))
            if index is not None:
                groups[index].followers += [names[source.name] for source, _ in node.inputs[1:]]
                groups[index].gammas.append(names[node.inputs[1][0].name])
    # A parameter may be listed twice: shared by layers, or reading a group twice.
    for group in groups:
        group.writers, group.followers, group.readers = (
            list(dict.fromkeys(part)) for part in (group.writers, group.followers, group.readers)
        )
    return groups, layers


def _add_convolution(
    node: Node,
    graph: Graph,
    groups: List[Group],
    group_of: Callable[[Edge], Optional[int]],
    positions: Mapping[str, int],
    names: Mapping[str, str],
) -> _Layer:
    weight, *bias = (names[source.name] for source, _ in node.inputs[1:])
    out_channels, in_channels, *kernel = graph.shape(node.inputs[1][0])
    inputs = group_of(node.inputs[0]) if is_plain(node) else None
    outputs = group_of((node, 0))
    if outputs is not None:
        groups[outputs].followers += bias if is_plain(node) else [weight, *bias]
    if is_plain(node):
        if outputs is not None:
            groups[outputs].writers.append(weight)
        if inputs is not None:
            groups[inputs].readers.append(weight)
    return _Layer(prod(kernel), positions[node.name], inputs, outputs, in_channels, out_channels)


def _magnitude(group: Group, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Importance ``(channels,)`` of a group's channels; the sum is 1."""
    weights = np.ones(group.channels)
    if group.gammas:
        weights *= np.mean([_share(arrays[name].astype(np.float64) ** 2) for name in group.gammas], axis=0)
    if group.readers:
        norms = [
            (arrays[name].astype(np.float64) ** 2).sum(axis=(0, *range(2, arrays[name].ndim)))
            for name in group.readers
        ]
        weights *= np.mean([_share(norm) for norm in norms], axis=0)
    return _share(weights)


def _first_order_change(
    groups: List[Group],
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
    gradients: Iterable[object],
) -> List[np.ndarray]:
    """Importance ``(channels,)`` of each group: mean squared derivative of the loss by a channel's factor.

    A channel is used only through the weights that read it: the derivative is the sum of those weights times
    their gradients.
    """
    squares = [np.zeros(group.channels) for group in groups]
    batches = 0
    for _ in gradients:
        batches += 1
        for group, square in zip(groups, squares):
            factor = np.zeros(group.channels)
            for name in group.readers:
                changes = arrays[name] * parameters[name].grad().asnumpy()
                factor += changes.sum(axis=(0, *range(2, changes.ndim)), dtype=np.float64)
            square += factor**2
    if not batches:
        raise ValueError("gradients: expected at least one batch")
    return [square / batches for square in squares]


def _share(values: np.ndarray) -> np.ndarray:
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), 1 / len(values))


def _total(layers: List[_Layer], sizes: List[int]) -> int:
    return sum(layer.multiply_adds(sizes) for layer in layers)


def _choose(
    groups: List[Group], layers: List[_Layer], importance: List[np.ndarray], limit: float
) -> List[int]:
    """Channels to keep in each group, so that at most `limit` multiply-adds are left."""
    sizes = [group.channels for group in groups]
    ordered = [np.sort(values) for values in importance]
    layers_of = [
        [layer for layer in layers if index in (layer.inputs, layer.outputs)] for index in range(len(groups))
    ]
    left = _total(layers, sizes)
    while left > limit:
        best: Optional[Tuple[float, int, int]] = None
        for index, group in enumerate(groups):
            step = WIDE_STEP if group.channels >= WIDE else STEP
            smaller = sizes[index] - (sizes[index] % step or step)
            if smaller < max(step, MIN_SHARE * group.channels):
                continue
            removed = group.channels - sizes[index]
            lost = float(ordered[index][removed : group.channels - smaller].sum())
            time_now = sum(layer.time(sizes) for layer in layers_of[index])
            new_sizes = [*sizes[:index], smaller, *sizes[index + 1 :]]
            saved = time_now - sum(layer.time(new_sizes) for layer in layers_of[index])
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = (lost / saved, index, smaller)
        if best is None:
            raise ValueError(f"no channel can be removed below {left / 1e6:.1f} million multiply-adds")
        sizes[best[1]] = best[2]
        left = _total(layers, sizes)
    return sizes
