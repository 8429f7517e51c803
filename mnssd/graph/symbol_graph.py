"""Conversion of Symbols to graphs that passes can change, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

import mxnet as mx
import numpy as np

from ..runtime import processor


@dataclass(eq=False)
class Node:
    """An operator, or a variable if `op` is ``'null'``; attributes are strings as in the Symbol's JSON."""

    op: str
    name: str
    inputs: List[Edge] = field(default_factory=list)
    attrs: Dict[str, str] = field(default_factory=dict)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean attribute; MXNet writes True, true or 1."""
        return self.attrs.get(name, str(default)) in ("True", "true", "1")


Edge = Tuple[Node, int]
"""A tensor: the node that outputs it, and the index of the output."""


def trace(block: Any) -> mx.sym.Symbol:
    """Symbol of a Gluon block with one input, ``data``; several outputs are grouped."""
    outputs = block(mx.sym.var("data"))
    return outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))


class Graph:
    """Mutable graph of a Symbol; `shapes` are those of all parameters.

    Attributes
    ----------
    channel_block : int
        Channels per block in oneDNN's layouts on this machine, see `processor.channel_block`.
    constants : dict of str to numpy.ndarray
        Values of the variables that passes have added.
    padded_statistics : dict of str to (str, int)
        The block's running statistic and the padded length, by the name of the variable that replaces it.
    """

    def __init__(self, symbol: mx.sym.Symbol, shapes: Mapping[str, Tuple[int, ...]]) -> None:
        self.channel_block = processor.channel_block()
        parsed = json.loads(symbol.tojson())
        nodes: List[Node] = []
        for raw in parsed["nodes"]:
            inputs = [(nodes[entry[0]], entry[1]) for entry in raw["inputs"]]
            nodes.append(Node(raw["op"], raw["name"], inputs, dict(raw.get("attrs", {}))))
        self.outputs: List[Edge] = [(nodes[head[0]], head[1]) for head in parsed["heads"]]
        self.constants: Dict[str, np.ndarray] = {}
        self.padded_statistics: Dict[str, Tuple[str, int]] = {}
        self._padded: Dict[str, Node] = {}
        self._shapes = dict(shapes)
        self._attrs = parsed["attrs"]

    def nodes(self) -> List[Node]:
        """All nodes that the outputs depend on, in topological order."""
        order: List[Node] = []
        seen: Set[Node] = set()
        # Not recursive: a deep network would exceed Python's stack.
        stack: List[Tuple[Node, Iterator[Edge]]] = []

        def enter(node: Node) -> None:
            if node not in seen:
                seen.add(node)
                stack.append((node, iter(node.inputs)))

        for output, _ in self.outputs:
            enter(output)
            while stack:
                node, inputs = stack[-1]
                edge = next(inputs, None)
                if edge is None:
                    order.append(node)
                    stack.pop()
                else:
                    enter(edge[0])
        return order

    def readers(self) -> Dict[Node, List[Optional[Node]]]:
        """Readers of each node, once per edge; None for an output of the graph."""
        readers: Dict[Node, List[Optional[Node]]] = {}
        for node in self.nodes():
            for source, _ in node.inputs:
                readers.setdefault(source, []).append(node)
        for source, _ in self.outputs:
            readers.setdefault(source, []).append(None)
        return readers

    def replace(self, new: Mapping[Node, Node]) -> None:
        """Let all readers of some nodes read others instead; a new node may read the one it replaces."""

        def replaced(edges: List[Edge], reader: Optional[Node] = None) -> List[Edge]:
            sources = [new.get(source, source) for source, _ in edges]
            return [edge if source is reader else (source, edge[1]) for source, edge in zip(sources, edges)]

        for node in [*self.nodes(), *new.values()]:
            node.inputs = replaced(node.inputs, node)
        self.outputs = replaced(self.outputs)

    def constant(self, name: str, value: np.ndarray) -> Node:
        """Add a variable with a value; a number is appended to a name that is taken."""
        unused, number = name, 0
        while unused in self._shapes:
            number += 1
            unused = f"{name}_{number}"
        self.constants[unused], self._shapes[unused] = value, value.shape
        return Node("null", unused)

    def pad_statistic(self, statistic: str, length: int) -> Node:
        """Variable that replaces a running statistic, with the given length."""
        name = f"{statistic}_to_{length}"
        if name not in self.padded_statistics:
            self.padded_statistics[name] = (statistic, length)
            self._shapes[name] = (length,)
            self._padded[name] = Node("null", name)
        return self._padded[name]

    def has_shape(self, node: Node) -> bool:
        """Whether `shape` returns a shape."""
        if node.op == "Concat":
            return all(self.has_shape(source) for source, _ in node.inputs)
        return node.op == "null" and node.name in self._shapes

    def shape(self, node: Node) -> Tuple[int, ...]:
        """Shape of a parameter, or of a Concat of parameters; ValueError if it is unknown."""
        if node.op == "null" and node.name in self._shapes:
            return self._shapes[node.name]
        if node.op == "Concat":
            shapes = [self.shape(source) for source, _ in node.inputs]
            axis = int(node.attrs["dim"])
            return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
        raise ValueError(f"{node.name}: shape unknown; run the block once before rewriting its graph")

    def symbol(self) -> mx.sym.Symbol:
        """The graph as a Symbol."""
        order = self.nodes()
        number = {node: index for index, node in enumerate(order)}
        nodes: List[Dict[str, Any]] = []
        for node in order:
            raw: Dict[str, Any] = {"op": node.op, "name": node.name}
            if node.attrs:
                raw["attrs"] = node.attrs
            raw["inputs"] = [[number[source], index, 0] for source, index in node.inputs]
            nodes.append(raw)
        graph = {
            "nodes": nodes,
            "arg_nodes": [index for index, node in enumerate(order) if node.op == "null"],
            "node_row_ptr": list(range(len(order) + 1)),
            "heads": [[number[source], index, 0] for source, index in self.outputs],
            "attrs": self._attrs,
        }
        return mx.sym.load_json(json.dumps(graph))
