"""Training and inference pass: join convolutions that read the same tensor, and slice the output."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List

from .channels import is_predictor
from .symbol_graph import Graph, Node

MAY_DIFFER = ("num_filter", "workspace")
"""Attributes in which joined convolutions may differ; `workspace` is memory on GPUs."""

FOLLOWED_BY = "transpose"
"""The operator after a predictor. Other convolutions are followed by operators that oneDNN fuses with them
(an activation, a sum), which a slice would prevent."""


def join_predictors(graph: Graph) -> int:
    """Join convolutions of the same kind that read the same tensor; returns how many there are then.

    A detector's class and box predictors then read each feature map once, and need less padding. Parameters
    keep their arrays: the graph concatenates them. Run it after `pad_channels` and before `pad_outputs`.
    """
    siblings: Dict[Any, List[Node]] = {}
    readers = graph.readers()
    for node in graph.nodes():
        followed = all(reader and reader.op == FOLLOWED_BY for reader in readers[node])
        if followed and is_predictor(graph, node):
            common = sorted(item for item in node.attrs.items() if item[0] not in MAY_DIFFER)
            siblings.setdefault((node.inputs[0], tuple(common)), []).append(node)
    joined = [nodes for nodes in siblings.values() if len(nodes) > 1]
    graph.replace({node: part for nodes in joined for node, part in zip(nodes, _join(nodes))})
    return len(joined)


def _join(nodes: List[Node]) -> List[Node]:
    """For each convolution its slice of the joined one."""
    counts = [int(node.attrs["num_filter"]) for node in nodes]
    attrs = {**nodes[0].attrs, "num_filter": str(sum(counts))}
    whole = Node("Convolution", f"{nodes[0].name}_joined", [nodes[0].inputs[0]], attrs)
    for what, edges in zip(("weight", "bias"), zip(*(node.inputs[1:] for node in nodes))):
        concat = {"dim": "0", "num_args": str(len(nodes))}
        whole.inputs.append((Node("Concat", f"{whole.name}_{what}", list(edges), concat), 0))
    ends = list(itertools.accumulate(counts))
    places = [{"axis": "1", "begin": str(end - count), "end": str(end)} for count, end in zip(counts, ends)]
    return [Node("slice_axis", f"{n.name}_part", [(whole, 0)], place) for n, place in zip(nodes, places)]
