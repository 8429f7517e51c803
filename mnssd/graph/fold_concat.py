"""Inference pass: fold a Concat of constants into one constant."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np

from .symbol_graph import Graph, Node


def fold_concat(graph: Graph, arrays: Mapping[str, np.ndarray]) -> int:
    """Replace every Concat whose inputs are all in `arrays`, or constants of the graph; returns how many.

    Weights that `pad_channels` pads are then padded once, not for every image.
    """
    folded: Dict[Node, Node] = {}
    for node in graph.nodes():
        sources = [folded.get(source, source) for source, _ in node.inputs]
        values = {**arrays, **graph.constants}
        if node.op == "Concat" and all(source.op == "null" and source.name in values for source in sources):
            parts = [values[source.name] for source in sources]
            folded[node] = graph.constant(node.name, np.concatenate(parts, int(node.attrs["dim"])))
    graph.replace(folded)
    return len(folded)
