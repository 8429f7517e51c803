"""Is a symbol file a graph of ours? MXNet's own reader, which sees it next, may end the process otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Set

from ..errors import ExportError

LARGEST_BYTES = 64 << 20
"""The largest graph of the zoo, in 8 bits, has 0.4 MB."""

OPERATORS: Set[str] = {
    "null", "Activation", "BatchNorm", "Cast", "Concat", "Convolution", "Flatten", "FullyConnected",
    "Pooling", "Reshape", "_contrib_arange_like", "_contrib_box_decode", "_contrib_box_nms",
    "_contrib_dequantize", "_contrib_quantize_v2", "_contrib_quantized_flatten", "_contrib_requantize",
    "_copy", "_div_scalar",
    "_mod_scalar", "_sg_mkldnn_conv", "_sg_mkldnn_fully_connected", "broadcast_add", "broadcast_like",
    "broadcast_mul", "clip", "elemwise_add", "elemwise_sub", "expand_dims", "gather_nd", "relu", "slice_axis",
    "softmax", "stack", "topk", "transpose",
}  # fmt: skip
"""What exports consist of. `Custom`, which calls back into programs, is not among them."""


SEVERAL_OUTPUTS: Dict[str, int] = {
    "BatchNorm": 3, "_contrib_box_nms": 2, "_contrib_quantize_v2": 3, "_contrib_quantized_flatten": 3,
    "_contrib_requantize": 3, "_sg_mkldnn_conv": 3, "_sg_mkldnn_fully_connected": 3, "topk": 2,
}  # fmt: skip
"""At most; the others have one. MXNet's reader takes whatever number an input names."""


COUNTS = ("num_group", "num_filter", "num_hidden", "num_args")
"""Attributes that are whole numbers above 0."""


def check_symbol(path: Path) -> None:
    """Read a symbol file and look at it whole.

    Raises
    ------
    ExportError
        When it is no graph as `mxnet.symbol.Symbol.save` writes it, or has operators that no export has.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"it has more than {LARGEST_BYTES >> 20} MB")
        _check_graph(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ExportError(
            f"{path}: MXNet cannot load it (not a graph of an export: {error}); export it again"
        ) from error


def _check_graph(graph: Dict[str, Any], depth: int = 0) -> None:
    """Every reference is to a node before, every operator known, every attribute a text."""
    if depth > 1:
        raise ValueError("graphs within graphs within graphs")
    nodes: List[Dict[str, Any]] = graph["nodes"]
    _expect(isinstance(nodes, list) and len(nodes) > 0, "no nodes")
    for index in range(len(nodes)):
        _check_node(index, nodes, depth)
    for name, most in (("arg_nodes", len(nodes)), ("node_row_ptr", None)):
        for value in graph.get(name, []):
            _expect(_is_index(value, most), f"{name} has {value!r}")
    for position in graph.get("arg_nodes", []):
        _expect(nodes[position]["op"] == "null", f"node {position} is no argument")
    row = graph.get("node_row_ptr")
    _expect(row is None or (len(row) == len(nodes) + 1 and row == sorted(row)), "node_row_ptr does not fit")
    _expect(isinstance(graph["heads"], list) and len(graph["heads"]) > 0, "no outputs")
    for head in graph["heads"]:
        _check_edge(head, nodes, len(nodes))


def _check_node(index: int, nodes: List[Dict[str, Any]], depth: int) -> None:
    node, where = nodes[index], f"node {index}"
    _expect(isinstance(node["name"], str) and isinstance(node["op"], str), f"{where} has no name")
    _expect(node["op"] in OPERATORS, f"operator {node['op']!r}")
    for edge in node["inputs"]:
        _check_edge(edge, nodes, index)
    _expect(node["op"] != "null" or not node["inputs"], f"{where} is a variable with inputs")
    for attributes in (node.get("attrs", {}), node.get("attr", {}), node.get("param", {})):
        fits = all(isinstance(key, str) and isinstance(value, str) for key, value in attributes.items())
        _expect(fits, f"attributes of {where}")
        for key in COUNTS:  # MXNet divides by some of them without a look
            value = attributes.get(key, "1")
            _expect(value.isdigit() and int(value) > 0, f"{key} {value!r} of {where}")
    for edge in node.get("control_deps", []):
        _expect(_is_index(edge, index), f"{where} depends on {edge!r}")
    for inner in node.get("subgraphs", []):
        _check_graph(inner, depth + 1)


def _check_edge(edge: Any, nodes: List[Dict[str, Any]], before: int) -> None:
    """``[node, output, version]``, of a node before this number."""
    fits = isinstance(edge, list) and 2 <= len(edge) <= 3 and _is_index(edge[0], before)
    fits = fits and all(_is_index(value, 1 << 16) for value in edge[2:])
    _expect(fits and _is_index(edge[1], SEVERAL_OUTPUTS.get(nodes[edge[0]]["op"], 1)), f"an input {edge!r}")


def _is_index(value: Any, most: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31
    return is_number and (most is None or value < most)


def _expect(fits: bool, text: str) -> None:
    if not fits:
        raise ValueError(text)
