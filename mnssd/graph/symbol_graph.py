"""A Symbol as a graph that passes can change, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

import mxnet as mx
import numpy as np

from ..runtime import processor


@dataclass(eq=False)
class Node:
    """One operator, or a variable where `op` is ``'null'``; attributes are texts as in the Symbol's JSON."""

    op: str
    name: str
    inputs: List[Edge] = field(default_factory=list)
    attrs: Dict[str, str] = field(default_factory=dict)

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean attribute; MXNet writes True, true or 1."""
        return self.attrs.get(name, str(default)) in ("True", "true", "1")


Edge = Tuple[Node, int]
"""A tensor: the node that makes it and which of its outputs it is."""


class Graph:
    """The nodes that the outputs need, changeable in place.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
    shapes : mapping of str to tuple of int
        Shape of every parameter.

    Attributes
    ----------
    channel_block : int
        Channels that oneDNN keeps side by side on this machine, see `processor.channel_block`.
    outputs : list of (Node, int)
    constants : dict of str to numpy.ndarray
        Values of the variables that passes have added: they are no parameters of the block.
    lengthened : dict of str to (str, int)
        Running statistics that a pass made longer: the new variable -> the block's own array, new length.
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
        self.lengthened: Dict[str, Tuple[str, int]] = {}
        self._longer: Dict[str, Node] = {}
        self._shapes = dict(shapes)
        self._attrs = parsed["attrs"]

    def nodes(self) -> List[Node]:
        """All nodes the outputs need, each after its inputs."""
        order: List[Node] = []
        seen: Set[int] = set()
        # An explicit stack: a deep network would exhaust Python's.
        stack: List[Tuple[Node, Iterator[Edge]]] = []

        def enter(node: Node) -> None:
            if id(node) not in seen:
                seen.add(id(node))
                stack.append((node, iter(node.inputs)))

        for output, _ in self.outputs:
            enter(output)
            while stack:
                node, inputs = stack[-1]
                following = next(inputs, None)
                if following is None:
                    order.append(node)
                    stack.pop()
                else:
                    enter(following[0])
        return order

    def readers(self) -> Dict[int, List[Tuple[Optional[Node], int]]]:
        """For each node (by ``id``) its readers: ``(node, position in its inputs)``; None for an output."""
        found: Dict[int, List[Tuple[Optional[Node], int]]] = {}
        for node in self.nodes():
            for position, (source, _) in enumerate(node.inputs):
                found.setdefault(id(source), []).append((node, position))
        for source, _ in self.outputs:
            found.setdefault(id(source), []).append((None, 0))
        return found

    def replace(self, substitute: Callable[[Edge], Edge]) -> None:
        """Pass every edge of the graph, outputs included, through `substitute`."""
        for node in self.nodes():
            node.inputs = [substitute(edge) for edge in node.inputs]
        self.outputs = [substitute(edge) for edge in self.outputs]

    def constant(self, name: str, value: np.ndarray) -> Node:
        """A new variable that holds `value`; where `name` is taken it gets a number behind it."""
        unused, number = name, 0
        while unused in self._shapes:
            number += 1
            unused = f"{name}_{number}"
        name = unused
        self.constants[name] = value
        self._shapes[name] = value.shape
        return Node("null", name)

    def lengthen(self, statistic: str, length: int) -> Node:
        """A variable that takes the place of the running statistic `statistic`, `length` long."""
        name = f"{statistic}_to_{length}"
        if name not in self.lengthened:
            self.lengthened[name] = (statistic, length)
            self._shapes[name] = (length,)
            self._longer[name] = Node("null", name)
        return self._longer[name]

    def has_shape(self, node: Node) -> bool:
        """Whether `shape` knows it."""
        if node.op == "Concat":
            return all(self.has_shape(source) for source, _ in node.inputs)
        return node.op == "null" and node.name in self._shapes

    def shape(self, node: Node) -> Tuple[int, ...]:
        """Shape of a parameter, or of what passes have made of one.

        Raises
        ------
        ValueError
            When it is not known.
        """
        if node.op == "null" and node.name in self._shapes:
            return self._shapes[node.name]
        if node.op == "Concat":
            shapes = [self.shape(source) for source, _ in node.inputs]
            axis = int(node.attrs["dim"])
            return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
        raise ValueError(f"{node.name}: shape unknown; run the block once before its graph is rewritten")

    def symbol(self) -> mx.sym.Symbol:
        """The graph as a Symbol."""
        order = self.nodes()
        number = {id(node): index for index, node in enumerate(order)}
        nodes: List[Dict[str, Any]] = []
        for node in order:
            raw: Dict[str, Any] = {"op": node.op, "name": node.name}
            if node.attrs:
                raw["attrs"] = node.attrs
            raw["inputs"] = [[number[id(source)], index, 0] for source, index in node.inputs]
            nodes.append(raw)
        graph = {
            "nodes": nodes,
            "arg_nodes": [index for index, node in enumerate(order) if node.op == "null"],
            "node_row_ptr": list(range(len(order) + 1)),
            "heads": [[number[id(source)], index, 0] for source, index in self.outputs],
            "attrs": self._attrs,
        }
        return mx.sym.load_json(json.dumps(graph))
