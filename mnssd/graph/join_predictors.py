"""Inference pass: two convolutions of one tensor are one convolution, cut in two."""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

import numpy as np

from .channels import is_plain
from .symbol_graph import Edge, Graph, Node


def join_predictors(graph: Graph, arrays: Mapping[str, np.ndarray]) -> int:
    """Let one convolution do what several of the same kind do with the same tensor.

    A detector's predictors of classes and of boxes read each map once then, not twice, and their channels
    fill whole vectors together. Run it after `fold_batchnorm`, and before padding.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    arrays : mapping of str to numpy.ndarray
        Parameters by name.

    Returns
    -------
    int
        How many convolutions are left of those that were joined.
    """
    siblings: Dict[Tuple[object, ...], List[Node]] = {}
    known = {**arrays, **graph.constants}
    for node in graph.nodes():
        if is_plain(node) and all(source.name in known for source, _ in node.inputs[1:]):
            attrs = {
                name: value for name, value in node.attrs.items() if name not in ("num_filter", "workspace")
            }
            key = (id(node.inputs[0][0]), node.inputs[0][1], tuple(sorted(attrs.items())))
            siblings.setdefault(key, []).append(node)
    parts: Dict[int, Edge] = {}
    joined = [nodes for nodes in siblings.values() if len(nodes) > 1]
    for nodes in joined:
        counts = [int(node.attrs["num_filter"]) for node in nodes]
        whole = Node("Convolution", f"{nodes[0].name}_joined", [nodes[0].inputs[0]], dict(nodes[0].attrs))
        whole.attrs["num_filter"] = str(sum(counts))
        for position, parameters in enumerate(zip(*(node.inputs[1:] for node in nodes))):
            values = np.concatenate([known[source.name] for source, _ in parameters])
            name = f"{whole.name}_{('weight', 'bias')[position]}"
            whole.inputs.append((graph.constant(name, values), 0))
        begin = 0
        for node, count in zip(nodes, counts):
            attrs = {"axis": "1", "begin": str(begin), "end": str(begin + count)}
            parts[id(node)] = (Node("slice_axis", f"{node.name}_part", [(whole, 0)], attrs), 0)
            begin += count
    graph.replace(lambda edge: parts.get(id(edge[0]), edge))
    return len(joined)
