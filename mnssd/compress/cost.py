"""Parameters and multiply-adds of every layer, counted from a Symbol graph.

Counted as in the papers (Howard et al. 2017, section 3.1): one multiply-add is one multiplication and one
addition in a convolution or dense layer; normalization, activations, pooling and additions are free.
Parameters are weights, biases, gammas and betas, not running statistics.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx

from ..graph.symbol_graph import trace
from .cost_operators import FORMULAS, FREE, Item, Shape, is_depthwise, kind_of

NORMALIZATIONS = ("BatchNorm", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm")
"""Operators whose fourth and fifth input are running statistics."""

ABSORBED = ("BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "_contrib_BatchNormWithReLU")
"""Operators that `Layer` joins with the layer before."""


@dataclass(frozen=True)
class Layer:
    """An operator, with the normalization and activation after it that have no other reader.

    Attributes
    ----------
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
    """Costs of a network: the layers and their sums.

    `not_counted` has a line for each layer that could not be counted; if there are any, the sums are lower
    bounds.
    """

    layers: List[Layer]
    separable: List[Separable]
    parameters: int
    multiply_adds: int
    not_counted: List[str]


def count_block(block: Any, shape: Shape) -> Costs:
    """Costs of a Gluon block with one input of `shape`, with a batch of 1; it need not be initialized."""
    parameters = block.collect_params().items()
    # Of constants, such as those of `nn.input_layer`, no operator tells the shape, and none is trained.
    constants = {name: p.shape for name, p in parameters if isinstance(p, mx.gluon.Constant)}
    return count_json(trace(block).tojson(), {"data": shape, **constants})


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
    return _Counter(_parse(text), inputs, arrays or {}).costs()


def _parse(text: str) -> List[Item]:
    items: List[Item] = []
    try:
        graph = json.loads(text)
        for raw in graph["nodes"]:
            attrs = dict(raw.get("attrs", raw.get("attr", raw.get("param", {}))))
            inputs = [(items[entry[0]], entry[1]) for entry in raw["inputs"]]
            items.append(Item(raw["op"], raw["name"], attrs, inputs))
            for source, _ in inputs:
                source.readers.append(items[-1])
        for head in graph["heads"]:
            items[head[0]].readers.append(None)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a graph in MXNet's JSON ({error!r})") from error
    return items


class _Counter:
    def __init__(self, items: List[Item], inputs: Mapping[str, Shape], arrays: Mapping[str, Shape]) -> None:
        self.items, self.inputs, self.arrays = items, set(inputs), set(arrays)
        self.registered: Set[str] = set(mx.operator.get_all_registered_operators())
        # Without a version MXNet assumes an old graph, with a warning on stderr.
        self.version: Any = json.loads(mx.sym.var("data").tojson())["attrs"]
        self.not_counted: List[str] = []
        self.counted_parameters: Set[Item] = set()
        shapes = {**arrays, **inputs}
        for item in items:
            if item.op == "null":
                item.shapes = [tuple(shapes[item.name]) if item.name in shapes else None]
            else:
                self._infer(item)

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
        shapes = {name: item.input_shape(position) for position, name in enumerate(names)}
        known = {name: shape for name, shape in shapes.items() if shape}
        try:
            symbol = mx.sym.load_json(json.dumps(graph)).get_internals()
            arguments, outputs, states = symbol.infer_shape_partial(**known)
        except (mx.MXNetError, ValueError, TypeError):
            return
        if outputs is None:
            return
        inferred = dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + states))
        for name, (variable, index) in zip(names, item.inputs):
            if variable.op == "null" and variable.shapes[index] is None:
                variable.shapes = [_if_known(inferred.get(name))]
        own_outputs = zip(symbol.list_outputs(), outputs)
        item.shapes = [_if_known(shape) for name, shape in own_outputs if name not in names]

    def costs(self) -> Costs:
        absorbed: Set[Item] = set()
        layers: List[Layer] = []
        separable: List[Separable] = []
        for item in self.items:
            if item.op == "null" or item in absorbed:
                continue
            chain = _chain(item)
            absorbed.update(chain)
            layers.append(self._layer(chain))
            pair = _separable(item, chain[-1])
            separable += [pair] if pair else []
        parameters = sum(layer.parameters or 0 for layer in layers)
        multiply_adds = sum(layer.multiply_adds or 0 for layer in layers)
        return Costs(layers, separable, parameters, multiply_adds, self.not_counted)

    def _layer(self, chain: Sequence[Item]) -> Layer:
        first = chain[0]
        parameters: Optional[int] = 0
        for parameter in (variable for item in chain for variable in self._parameters(item)):
            if parameter in self.counted_parameters:  # shared with another layer
                continue
            self.counted_parameters.add(parameter)
            shape = parameter.output_shape
            if shape is None:
                self.not_counted.append(f"{parameter.name}: parameter of {first.name} with unknown shape")
            parameters = None if shape is None or parameters is None else parameters + prod(shape)
        kind = ", ".join(map(kind_of, chain))
        shapes = [shape[1:] if shape else None for shape in (first.input_shape(0), chain[-1].output_shape)]
        return Layer(first.name, kind, shapes[0], shapes[1], parameters, self._multiply_adds(first))

    def _parameters(self, item: Item) -> List[Item]:
        """The trainable variables that `item` reads."""
        statistics = (3, 4) if item.op in NORMALIZATIONS else ()
        # The first input is data unless it is in `arrays`.
        return [
            source
            for position, (source, _) in enumerate(item.inputs)
            if source.op == "null" and source.name not in self.inputs and position not in statistics
            if position > 0 or source.name in self.arrays
        ]

    def _multiply_adds(self, item: Item) -> Optional[int]:
        if item.op in FREE:
            return 0
        if item.op not in FORMULAS:
            why = "missing in this MXNet" if item.op not in self.registered else "cost unknown"
            self.not_counted.append(f"{item.name}: operator {item.op}, {why}")
            return None
        count = FORMULAS[item.op](item)
        if count is None:
            self.not_counted.append(f"{item.name}: {item.op} with an input of unknown shape")
        return count


def _chain(item: Item) -> List[Item]:
    """A node; for a layer with weights, also the normalization and activations that alone read it."""
    chain = [item]
    while item.op in ("Convolution", "Deconvolution", "FullyConnected") and len(chain[-1].readers) == 1:
        (reader,) = chain[-1].readers
        if reader is None or reader.op not in ABSORBED or reader.inputs[0][0] is not chain[-1]:
            break
        chain.append(reader)
    return chain


def _separable(depthwise: Item, end: Item) -> Optional[Separable]:
    """The pair of a depthwise convolution, whose layer ends with `end`, and a pointwise one."""
    readers = [reader for reader in end.readers if reader is not None]
    if depthwise.op != "Convolution" or len(readers) != 1 or readers[0].op != "Convolution":
        return None
    pointwise = readers[0]
    first, second = depthwise.input_shape(1), pointwise.input_shape(1)
    output = depthwise.output_shape
    if pointwise.inputs[0][0] is not end or first is None or second is None or output is None:
        return None
    is_plain = int(pointwise.attrs.get("num_group", 1)) == 1 and prod(pointwise.ints("kernel", (0,))) == 1
    m, n = first[0], second[0]
    if not is_depthwise(depthwise) or int(depthwise.attrs["num_group"]) != m or not is_plain:
        return None
    kernel, positions = depthwise.ints("kernel", ()), prod(output[2:])
    weights, standard = prod(kernel) * m + m * n, prod(kernel) * m * n
    name = depthwise.name
    return Separable(name, kernel, (m, n), weights, standard, weights * positions, standard * positions)


def _if_known(shape: Optional[Shape]) -> Optional[Shape]:
    """The shape, or None if a side is unknown, for which MXNet writes 0 or -1."""
    return tuple(shape) if shape and all(side > 0 for side in shape) else None
