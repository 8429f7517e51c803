"""Inference pass: fold a Concat of constants into one constant."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from .symbol_graph import Edge, Graph, Node


def fold_concat(graph: Graph, arrays: Mapping[str, np.ndarray]) -> int:
    """Replace every Concat whose inputs are all in `arrays`, or constants of the graph, by a constant.

    Weights that `pad_channels` pads are then padded once, not for every image.

    Returns
    -------
    int
        Number of nodes replaced.
    """
    folded: Dict[int, Node] = {}

    def substitute(edge: Edge) -> Edge:
        return folded.get(id(edge[0]), edge[0]), edge[1]

    for node in graph.nodes():
        node.inputs = [substitute(edge) for edge in node.inputs]
        values = {**arrays, **graph.constants}
        sources = [source for source, _ in node.inputs]
        if node.op == "Concat" and all(source.op == "null" and source.name in values for source in sources):
            parts = [values[source.name] for source in sources]
            folded[id(node)] = graph.constant(node.name, np.concatenate(parts, int(node.attrs["dim"])))
    graph.replace(substitute)
    return len(folded)
