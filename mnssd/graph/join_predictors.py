"""Training and inference pass: join convolutions that read the same tensor, and slice the output."""

from __future__ import annotations

from typing import Any, Dict, List

from .channels import is_predictor
from .symbol_graph import Edge, Graph, Node

MAY_DIFFER = ("num_filter", "workspace")
"""Attributes in which joined convolutions may differ; `workspace` is memory on GPUs."""

FOLLOWED_BY = "transpose"
"""The operator after a predictor. Other convolutions are followed by operators that oneDNN fuses with them
(an activation, a sum), which a slice would prevent."""


def join_predictors(graph: Graph) -> int:
    """Join convolutions of the same kind that read the same tensor.

    A detector's class and box predictors then read each feature map once, and need less padding. Parameters
    keep their arrays: the graph concatenates them. Run it after `pad_channels` and before `pad_outputs`.

    Returns
    -------
    int
        Number of joined convolutions.
    """
    siblings: Dict[Any, List[Node]] = {}
    readers = graph.readers()
    for node in graph.nodes():
        followed = all(reader and reader.op == FOLLOWED_BY for reader, _ in readers[id(node)])
        if followed and is_predictor(graph, node):
            source, index = node.inputs[0]
            common = sorted(item for item in node.attrs.items() if item[0] not in MAY_DIFFER)
            siblings.setdefault((id(source), index, tuple(common)), []).append(node)
    joined = [nodes for nodes in siblings.values() if len(nodes) > 1]
    parts: Dict[int, Edge] = {}
    for nodes in joined:
        parts.update(_join(nodes))
    graph.replace(lambda edge: parts.get(id(edge[0]), edge))
    return len(joined)


def _join(nodes: List[Node]) -> Dict[int, Edge]:
    """For each convolution (by ``id``) its slice of the joined one."""
    counts = [int(node.attrs["num_filter"]) for node in nodes]
    attrs = {**nodes[0].attrs, "num_filter": str(sum(counts))}
    whole = Node("Convolution", f"{nodes[0].name}_joined", [nodes[0].inputs[0]], attrs)
    for what, edges in zip(("weight", "bias"), zip(*(node.inputs[1:] for node in nodes))):
        concat = {"dim": "0", "num_args": str(len(nodes))}
        whole.inputs.append((Node("Concat", f"{whole.name}_{what}", list(edges), concat), 0))
    parts: Dict[int, Edge] = {}
    begin = 0
    for node, count in zip(nodes, counts):
        place = {"axis": "1", "begin": str(begin), "end": str(begin + count)}
        parts[id(node)] = (Node("slice_axis", f"{node.name}_part", [(whole, 0)], place), 0)
        begin += count
    return parts
