"""What a network costs: parameters and multiply-adds of every layer, counted from its Symbol graph.

As the papers count (Howard et al. 2017, section 3.1): one multiply-add is one multiplication and one addition
of a convolution or a dense layer; normalisation, activations, pooling and additions count nothing. Parameters
are what is learned: weights, biases, gammas and betas, not the running statistics.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import prod
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx

from .cost_operators import FORMULAS, FREE, Item, Shape, channels_last, kind_of


@dataclass(frozen=True)
class Layer:
    """One operator, with the normalisation and the activation behind it that nobody else reads.

    Attributes
    ----------
    name : str
        Of the operator in the graph.
    kind : str
        For people: ``depthwise 3x3 s2, BatchNorm, ReLU6``.
    input, output : tuple of int, optional
        Shapes of one image's tensors, without the batch: ``(C, H, W)``. None where they cannot be inferred.
    parameters, multiply_adds : int, optional
        None where they cannot be counted; `Costs.not_counted` says why.
    """

    name: str
    kind: str
    input: Optional[Shape]
    output: Optional[Shape]
    parameters: Optional[int]
    multiply_adds: Optional[int]


@dataclass(frozen=True)
class Separable:
    """A depthwise convolution and the pointwise one behind it, against the standard one in their place.

    The standard one has ``kernel * M * N`` weights; they have ``kernel * M + M * N``, a share of
    ``1 / N + 1 / kernel`` (paper, section 3.1).
    """

    name: str
    kernel: Shape
    channels: Tuple[int, int]
    weights: int
    standard_weights: int
    multiply_adds: int
    standard_multiply_adds: int

    @property
    def ratio(self) -> float:
        """Of the multiply-adds."""
        return self.multiply_adds / self.standard_multiply_adds


@dataclass(frozen=True)
class Costs:
    """A whole network's.

    Attributes
    ----------
    layers : list of Layer
    separable : list of Separable
    parameters, multiply_adds : int
        Of all that can be counted.
    not_counted : list of str
        A line for each layer that could not be; when there are any, the sums are lower bounds.
    """

    layers: List[Layer]
    separable: List[Separable] = field(default_factory=list)
    parameters: int = 0
    multiply_adds: int = 0
    not_counted: List[str] = field(default_factory=list)


def count_block(block: Any, shape: Shape) -> Costs:
    """Count a Gluon block of one input; nothing is computed and no array is needed.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
    shape : tuple of int
        Of the input, with a batch of 1: ``(1, 3, 224, 224)``.
    """
    outputs = block(mx.sym.var("data"))
    symbol = outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))
    return count_json(symbol.tojson(), {"data": shape})


def count_json(text: str, inputs: Mapping[str, Shape], arrays: Optional[Mapping[str, Shape]] = None) -> Costs:
    """Count a graph in MXNet's JSON, even one with operators that this MXNet does not have.

    Parameters
    ----------
    text : str
        As in a ``-symbol.json`` file.
    inputs : mapping of str to tuple of int
        Shapes of the inputs, with a batch of 1.
    arrays : mapping of str to tuple of int, optional
        Shapes of the parameters, as from a parameter file; others' are inferred.

    Raises
    ------
    ValueError
        When it is no such JSON.
    """
    return _Counter(text, inputs, arrays or {}).costs()


class _Counter:
    def __init__(self, text: str, inputs: Mapping[str, Shape], arrays: Mapping[str, Shape]) -> None:
        try:
            graph = json.loads(text)
            self.items = [
                Item(raw["op"], raw["name"], dict(raw.get("attrs", raw.get("attr", raw.get("param", {})))),
                      [(entry[0], entry[1]) for entry in raw["inputs"]])
                for raw in graph["nodes"]
            ]  # fmt: skip
            heads = [head[0] for head in graph["heads"]]
            for item in self.items:
                for source, _ in item.inputs:
                    self.items[source].readers.append(id(item))
            for head in heads:
                self.items[head].readers.append(0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a graph in MXNet's JSON ({error!r})") from error
        self.registered: Set[str] = set(mx.operator.get_all_registered_operators())
        # Without its version, MXNet takes a graph for one of long ago, and says so on stderr.
        self.version: Any = json.loads(mx.sym.var("data").tojson())["attrs"]
        self.not_counted: List[str] = []
        self.inputs, self.arrays = set(inputs), set(arrays)
        known = {**arrays, **inputs}
        for item in self.items:
            if item.op == "null":
                item.shapes = [tuple(known[item.name]) if item.name in known else None]
            else:
                self._infer(item)

    def shape(self, edge: Tuple[int, int]) -> Optional[Shape]:
        """Of a tensor, batch included; None if unknown."""
        shapes = self.items[edge[0]].shapes
        return shapes[edge[1]] if edge[1] < len(shapes) else None

    def _infer(self, item: Item) -> None:
        """The shapes of its outputs, and of the parameters that it reads: by MXNet, from this node alone."""
        if item.op not in self.registered or item.op == "Custom" or "subgraph" in item.attrs:
            return
        names = [f"in{i}" for i in range(len(item.inputs))]
        nodes: List[Dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in names]
        own = [[i, 0, 0] for i in range(len(names))]
        nodes.append({"op": item.op, "name": "node", "attrs": item.attrs, "inputs": own})
        one: Dict[str, Any] = {
            "nodes": nodes,
            "arg_nodes": list(range(len(names))),
            "heads": [[len(names), 0, 0]],
        }
        one["attrs"] = self.version
        known = {name: self.shape(edge) for name, edge in zip(names, item.inputs)}
        try:
            symbol = mx.sym.load_json(json.dumps(one)).get_internals()
            arguments, outputs, states = symbol.infer_shape_partial(
                **{name: shape for name, shape in known.items() if shape}
            )
        except (mx.MXNetError, ValueError, TypeError):
            return
        if outputs is None:
            return
        listed = [*zip(symbol.list_arguments(), arguments), *zip(symbol.list_auxiliary_states(), states)]
        inferred = dict(listed)
        for name, (source, index) in zip(names, item.inputs):
            variable = self.items[source]
            if variable.op == "null" and variable.shapes[index] is None:
                variable.shapes = [_whole(inferred.get(name))]
        outside = set(names)
        item.shapes = [
            _whole(shape) for name, shape in zip(symbol.list_outputs(), outputs) if name not in outside
        ]

    def costs(self) -> Costs:
        """The layers, each with what belongs to it."""
        by_id = {id(item): item for item in self.items}
        absorbed: Set[int] = set()
        layers: List[Layer] = []
        ends: Dict[int, Item] = {}
        seen: Set[int] = set()
        for item in self.items:
            if item.op == "null" or id(item) in absorbed:
                continue
            chain = [item]
            while _takes_in(item) and len(chain[-1].readers) == 1:
                following = by_id.get(chain[-1].readers[0])
                if following is None or not _may_follow(following) or self._first(following) is not chain[-1]:
                    break
                chain.append(following)
                absorbed.add(id(following))
            ends[id(item)] = chain[-1]
            layers.append(self._layer(chain, seen))
        separable = [pair for item in self.items for pair in self._separable(item, ends, by_id)]
        return Costs(
            layers,
            separable,
            sum(layer.parameters or 0 for layer in layers),
            sum(layer.multiply_adds or 0 for layer in layers),
            self.not_counted,
        )

    def _first(self, item: Item) -> Optional[Item]:
        return self.items[item.inputs[0][0]] if item.inputs else None

    def _layer(self, chain: Sequence[Item], seen: Set[int]) -> Layer:
        head, end = chain[0], chain[-1]
        parameters: Optional[int] = 0
        for item in chain:
            for edge in self._parameters(item):
                if edge[0] in seen:  # shared with a layer before
                    continue
                seen.add(edge[0])
                shape = self.shape(edge)
                if shape is None:
                    self.not_counted.append(
                        f"{self.items[edge[0]].name}: the shape of this parameter of {head.name} is unknown"
                    )
                parameters = None if shape is None or parameters is None else parameters + prod(shape)
        inputs = self.shape(head.inputs[0]) if head.inputs else None
        output = end.shapes[0] if end.shapes else None
        return Layer(
            head.name,
            ", ".join(self._kind(item) for item in chain),
            inputs[1:] if inputs else None,
            output[1:] if output else None,
            parameters,
            self._multiply_adds(head),
        )

    def _parameters(self, item: Item) -> List[Tuple[int, int]]:
        """Edges to the variables that `item` reads and somebody learns."""
        statistics = (
            (3, 4) if item.op in ("BatchNorm", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm") else ()
        )
        found = []
        for position, edge in enumerate(item.inputs):
            source = self.items[edge[0]]
            if source.op != "null" or source.name in self.inputs or position in statistics:
                continue
            if position > 0 or source.name in self.arrays:  # what stands first is data, unless it is known
                found.append(edge)
        return found

    def _multiply_adds(self, item: Item) -> Optional[int]:
        if item.op in FREE:
            return 0
        if item.op not in FORMULAS:
            why = (
                "this MXNet does not have it" if item.op not in self.registered
                else "its cost is not known to mnssd"
            )  # fmt: skip
            self.not_counted.append(f"{item.name}: operator {item.op}, {why}")
            return None
        count = FORMULAS[item.op](item, [self.shape(edge) for edge in item.inputs])
        if count is None:
            self.not_counted.append(f"{item.name}: {item.op} of an input whose shape cannot be inferred")
        return count

    def _kind(self, item: Item) -> str:
        return kind_of(item, [self.shape(edge) for edge in item.inputs])

    def _separable(self, item: Item, ends: Mapping[int, Item], by_id: Mapping[int, Item]) -> List[Separable]:
        """The pair that begins with `item`, if it is a depthwise convolution followed by a pointwise one."""
        if item.op != "Convolution" or id(item) not in ends:
            return []
        end = ends[id(item)]
        following = [by_id[reader] for reader in end.readers if reader in by_id]
        if len(following) != 1 or following[0].op != "Convolution" or self._first(following[0]) is not end:
            return []
        pointwise = following[0]
        first, second = self.shape(item.inputs[1]), self.shape(pointwise.inputs[1])
        if first is None or second is None or not item.shapes or item.shapes[0] is None:
            return []
        depthwise = int(item.attrs.get("num_group", 1)) == first[0] > 1 and first[1] == 1
        plain = int(pointwise.attrs.get("num_group", 1)) == 1
        if not depthwise or not plain or prod(pointwise.ints("kernel", (0,))) != 1 or channels_last(item):
            return []
        kernel, places = item.ints("kernel", ()), prod(item.shapes[0][2:])
        m, n = first[0], second[0]
        weights, standard = prod(kernel) * m + m * n, prod(kernel) * m * n
        return [Separable(item.name, kernel, (m, n), weights, standard, weights * places, standard * places)]


def _whole(shape: Optional[Shape]) -> Optional[Shape]:
    """The shape if all of it is known: MXNet writes 0 or -1 for what is not."""
    return tuple(shape) if shape and all(side > 0 for side in shape) else None


def _takes_in(item: Item) -> bool:
    return item.op in ("Convolution", "Deconvolution", "FullyConnected")


def _may_follow(item: Item) -> bool:
    return item.op in ("BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "_contrib_BatchNormWithReLU")
