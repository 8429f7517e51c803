"""Pass for training and inference: several convolutions of one tensor are one convolution, cut in parts."""

from __future__ import annotations

from typing import Any, Dict, List

from .channels import is_predictor
from .symbol_graph import Edge, Graph, Node

NOT_COMMON = ("num_filter", "workspace")
"""Attributes in which convolutions that are joined may differ; the second is memory for GPUs."""

FOLLOWED_BY = "transpose"
"""What reads a predictor. Any other convolution is followed by what oneDNN computes together with it (an
activation, a sum), which a cut between the two would prevent."""


def join_predictors(graph: Graph) -> int:
    """Let one convolution do what several of the same kind do with the same tensor.

    A detector's predictors of classes and of boxes read each map once then, not twice, and their channels
    fill whole vectors together. Parameters keep their arrays: the graph concatenates them. Run it after
    `pad_channels`, which takes what it does not know for fixed, and before `pad_outputs`.

    Returns
    -------
    int
        How many convolutions are left of those that were joined.
    """
    siblings: Dict[Any, List[Node]] = {}
    readers = graph.readers()
    for node in graph.nodes():
        followed = all(reader and reader.op == FOLLOWED_BY for reader, _ in readers[id(node)])
        if followed and is_predictor(graph, node):
            source, index = node.inputs[0]
            common = sorted(item for item in node.attrs.items() if item[0] not in NOT_COMMON)
            siblings.setdefault((id(source), index, tuple(common)), []).append(node)
    joined = [nodes for nodes in siblings.values() if len(nodes) > 1]
    parts: Dict[int, Edge] = {}
    for nodes in joined:
        parts.update(_join(nodes))
    graph.replace(lambda edge: parts.get(id(edge[0]), edge))
    return len(joined)


def _join(nodes: List[Node]) -> Dict[int, Edge]:
    """For each of the convolutions (by ``id``) its part of one that does the work of all."""
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
