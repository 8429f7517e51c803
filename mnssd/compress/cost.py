"""Parameters and multiply-adds of every layer, counted from a Symbol graph.

Counted as in the papers (Howard et al. 2017, section 3.1): one multiply-add is one multiplication and one
addition in a convolution or dense layer; normalization, activations, pooling and additions are free.
Parameters are weights, biases, gammas and betas, not running statistics.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import prod
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx

from ..graph.symbol_graph import trace
from .cost_operators import FORMULAS, FREE, Item, Shape, channels_last, kind_of


@dataclass(frozen=True)
class Layer:
    """An operator, with the normalization and activation after it that have no other reader.

    Attributes
    ----------
    name : str
        Name of the operator in the graph.
    kind : str
        Description: ``depthwise 3x3 s2, BatchNorm, ReLU6``.
    input, output : tuple of int, optional
        Shapes without the batch: ``(C, H, W)``. None if they cannot be inferred.
    parameters, multiply_adds : int, optional
        None if they cannot be counted; `Costs.not_counted` has the reason.
    """

    name: str
    kind: str
    input: Optional[Shape]
    output: Optional[Shape]
    parameters: Optional[int]
    multiply_adds: Optional[int]


@dataclass(frozen=True)
class Separable:
    """Costs of a depthwise separable convolution and of the standard convolution it replaces.

    ``kernel * M + M * N`` weights instead of ``kernel * M * N``, a ratio of ``1 / N + 1 / kernel`` (paper,
    section 3.1).
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
        """Ratio of the multiply-adds."""
        return self.multiply_adds / self.standard_multiply_adds


@dataclass(frozen=True)
class Costs:
    """Costs of a network.

    Attributes
    ----------
    layers : list of Layer
    separable : list of Separable
    parameters, multiply_adds : int
        Sums over the layers.
    not_counted : list of str
        A line for each layer that could not be counted; if there are any, the sums are lower bounds.
    """

    layers: List[Layer]
    separable: List[Separable] = field(default_factory=list)
    parameters: int = 0
    multiply_adds: int = 0
    not_counted: List[str] = field(default_factory=list)


def count_block(block: Any, shape: Shape) -> Costs:
    """Costs of a Gluon block with one input, which need not be initialized.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
    shape : tuple of int
        Input shape with a batch of 1: ``(1, 3, 224, 224)``.
    """
    return count_json(trace(block).tojson(), {"data": shape})


def count_json(text: str, inputs: Mapping[str, Shape], arrays: Optional[Mapping[str, Shape]] = None) -> Costs:
    """Costs of a graph in MXNet's JSON, which may contain unknown operators.

    Parameters
    ----------
    text : str
        Content of a ``-symbol.json`` file.
    inputs : mapping of str to tuple of int
        Input shapes with a batch of 1.
    arrays : mapping of str to tuple of int, optional
        Shapes of parameters; others are inferred.

    Raises
    ------
    ValueError
        If it is not such JSON.
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
        # Without a version MXNet assumes an old graph, with a warning on stderr.
        self.version: Any = json.loads(mx.sym.var("data").tojson())["attrs"]
        self.not_counted: List[str] = []
        self.inputs, self.arrays = set(inputs), set(arrays)
        shapes = {**arrays, **inputs}
        for item in self.items:
            if item.op == "null":
                item.shapes = [tuple(shapes[item.name]) if item.name in shapes else None]
            else:
                self._infer(item)

    def shape(self, edge: Tuple[int, int]) -> Optional[Shape]:
        """Shape of a tensor including the batch; None if unknown."""
        shapes = self.items[edge[0]].shapes
        return shapes[edge[1]] if edge[1] < len(shapes) else None

    def _infer(self, item: Item) -> None:
        """Let MXNet infer the shapes of the outputs and parameters, from this node alone."""
        if item.op not in self.registered or item.op == "Custom" or "subgraph" in item.attrs:
            return
        names = [f"in{i}" for i in range(len(item.inputs))]
        nodes: List[Dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in names]
        own = [[i, 0, 0] for i in range(len(names))]
        nodes.append({"op": item.op, "name": "node", "attrs": item.attrs, "inputs": own})
        graph = {
            "nodes": nodes, "arg_nodes": list(range(len(names))), "heads": [[len(names), 0, 0]],
            "attrs": self.version,
        }  # fmt: skip
        shapes = {name: self.shape(edge) for name, edge in zip(names, item.inputs)}
        try:
            symbol = mx.sym.load_json(json.dumps(graph)).get_internals()
            arguments, outputs, states = symbol.infer_shape_partial(
                **{name: shape for name, shape in shapes.items() if shape}
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
                variable.shapes = [_if_known(inferred.get(name))]
        own_outputs = zip(symbol.list_outputs(), outputs)
        item.shapes = [_if_known(shape) for name, shape in own_outputs if name not in names]

    def costs(self) -> Costs:
        """The layers and their sums."""
        by_id = {id(item): item for item in self.items}
        absorbed: Set[int] = set()
        layers: List[Layer] = []
        ends: Dict[int, Item] = {}
        seen: Set[int] = set()
        for item in self.items:
            if item.op == "null" or id(item) in absorbed:
                continue
            chain = [item]
            while _absorbs(item) and len(chain[-1].readers) == 1:
                following = by_id.get(chain[-1].readers[0])
                if (
                    following is None
                    or not _is_absorbed(following)
                    or self._first(following) is not chain[-1]
                ):
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
                if edge[0] in seen:  # shared with another layer
                    continue
                seen.add(edge[0])
                shape = self.shape(edge)
                if shape is None:
                    self.not_counted.append(
                        f"{self.items[edge[0]].name}: parameter of {head.name} with unknown shape"
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
        """Edges to the trainable variables that `item` reads."""
        statistics = (
            (3, 4) if item.op in ("BatchNorm", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm") else ()
        )
        edges = []
        for position, edge in enumerate(item.inputs):
            source = self.items[edge[0]]
            if source.op != "null" or source.name in self.inputs or position in statistics:
                continue
            if position > 0 or source.name in self.arrays:  # the first input is data unless it is in `arrays`
                edges.append(edge)
        return edges

    def _multiply_adds(self, item: Item) -> Optional[int]:
        if item.op in FREE:
            return 0
        if item.op not in FORMULAS:
            why = "missing in this MXNet" if item.op not in self.registered else "cost unknown"
            self.not_counted.append(f"{item.name}: operator {item.op}, {why}")
            return None
        count = FORMULAS[item.op](item, [self.shape(edge) for edge in item.inputs])
        if count is None:
            self.not_counted.append(f"{item.name}: {item.op} with an input of unknown shape")
        return count

    def _kind(self, item: Item) -> str:
        return kind_of(item, [self.shape(edge) for edge in item.inputs])

    def _separable(self, item: Item, ends: Mapping[int, Item], by_id: Mapping[int, Item]) -> List[Separable]:
        """The pair starting at `item`, if it is a depthwise convolution followed by a pointwise one."""
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
        kernel, positions = item.ints("kernel", ()), prod(item.shapes[0][2:])
        m, n = first[0], second[0]
        weights, standard = prod(kernel) * m + m * n, prod(kernel) * m * n
        return [
            Separable(item.name, kernel, (m, n), weights, standard, weights * positions, standard * positions)
        ]


def _if_known(shape: Optional[Shape]) -> Optional[Shape]:
    """The shape, or None if a side is unknown, for which MXNet writes 0 or -1."""
    return tuple(shape) if shape and all(side > 0 for side in shape) else None


def _absorbs(item: Item) -> bool:
    return item.op in ("Convolution", "Deconvolution", "FullyConnected")


def _is_absorbed(item: Item) -> bool:
    return item.op in ("BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "_contrib_BatchNormWithReLU")
