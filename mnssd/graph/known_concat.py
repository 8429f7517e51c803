"""Inference pass: a Concat of arrays that are all known is an array that is known."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from .symbol_graph import Edge, Graph, Node


def join_known(graph: Graph, arrays: Mapping[str, np.ndarray]) -> int:
    """Replace every Concat whose inputs are all in `arrays` or constants of the graph by one constant.

    What `pad_channels` appends to weights is then appended once, and not for every image.

    Returns
    -------
    int
        How many were replaced.
    """
    joined: Dict[int, Node] = {}

    def substitute(edge: Edge) -> Edge:
        return joined.get(id(edge[0]), edge[0]), edge[1]

    for node in graph.nodes():
        node.inputs = [substitute(edge) for edge in node.inputs]
        known = {**arrays, **graph.constants}
        sources = [source for source, _ in node.inputs]
        if node.op == "Concat" and all(source.op == "null" and source.name in known for source in sources):
            parts = [known[source.name] for source in sources]
            joined[id(node)] = graph.constant(node.name, np.concatenate(parts, int(node.attrs["dim"])))
    graph.replace(substitute)
    return len(joined)
