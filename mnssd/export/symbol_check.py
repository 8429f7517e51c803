"""Validation of symbol files before MXNet reads them: its reader may crash the process on a malformed graph.

Only operators that compute tensors from tensors are allowed. MXNet has others that call Python (``Custom``,
``_CustomFunction``), call function pointers stored in attributes (``_Native``, ``_NDArray``), read files
(``_cvimread``), run subgraphs (``_foreach``, ``_while_loop``, ``_cond``, ``_CachedOp``) or overwrite their
inputs (the optimizers' updates).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

from ..errors import ExportError, MnssdError
from ..nn.choices import DEFAULTS

MAX_BYTES = 64 << 20
"""The largest graph of the zoo, in 8 bits, has 0.4 MB."""

_NAMES = """
null Activation BatchNorm Cast Concat Convolution Deconvolution Dropout Embedding Flatten FullyConnected
GroupNorm InstanceNorm L2Normalization LRN LayerNorm LeakyReLU Pad Pooling Reshape SliceChannel SwapAxis
UpSampling _copy _arange _full _ones _zeros add_n batch_dot dot one_hot ones_like zeros_like reshape_like
shape_array _contrib_AdaptiveAvgPooling2D _contrib_BilinearResize2D _contrib_arange_like _contrib_box_decode
_contrib_box_nms _contrib_div_sqrt_dim _contrib_dequantize _contrib_quantize_v2 _contrib_quantized_flatten
_contrib_requantize _sg_mkldnn_conv _sg_mkldnn_fully_connected _div_scalar _equal_scalar
_greater_equal_scalar _greater_scalar _hypot_scalar _lesser_equal_scalar _lesser_scalar _maximum_scalar
_minimum_scalar _minus_scalar _mod_scalar _mul_scalar _not_equal_scalar _plus_scalar _power_scalar
_rdiv_scalar _rminus_scalar _rpower_scalar _equal _greater _greater_equal _hypot _lesser _lesser_equal
_maximum _minimum _mod _not_equal _power elemwise_add elemwise_div elemwise_mul elemwise_sub broadcast_add
broadcast_axis broadcast_div broadcast_equal broadcast_greater broadcast_greater_equal broadcast_lesser
broadcast_lesser_equal broadcast_like broadcast_maximum broadcast_minimum broadcast_mod broadcast_mul
broadcast_not_equal broadcast_power broadcast_sub broadcast_to abs arccos arcsin arctan cbrt ceil clip cos
cosh erf exp expm1 fix floor gammaln hard_sigmoid log log10 log1p log2 log_softmax logical_not negative
rcbrt reciprocal relu rint round rsqrt sigmoid sign sin sinh softmax softmin softsign sqrt square tan tanh
trunc smooth_l1 argmax argmin max mean min norm prod sum topk argsort sort depth_to_space space_to_depth
expand_dims squeeze gather_nd pick repeat reverse slice slice_axis slice_like stack take tile transpose
where
"""

OPERATORS = frozenset(_NAMES.split())
"""Operators allowed in any graph: those of exports, and the usual ones of backbones."""

FORBIDDEN = (
    "Custom", "_Custom", "_CachedOp", "_Native", "_NDArray", "_cond", "_foreach", "_while", "_cv", "_im",
    "_contrib_dgl", "_NoGradient", "_FusedOp", "_set_value",
)  # fmt: skip
"""Prefixes of operators that are not allowed even if the backbone uses them."""

OUTPUTS: Dict[str, int] = {
    "BatchNorm": 3, "Dropout": 2, "GroupNorm": 3, "InstanceNorm": 3, "L2Normalization": 2, "LRN": 2,
    "LayerNorm": 3, "LeakyReLU": 2, "_contrib_box_nms": 2, "_contrib_quantize_v2": 3,
    "_contrib_quantized_flatten": 3, "_contrib_requantize": 3, "_sg_mkldnn_conv": 3,
    "_sg_mkldnn_fully_connected": 3, "topk": 2,
}  # fmt: skip
"""Most outputs of an operator; others have one. MXNet's reader does not check the number that an input
names."""

COUNTS = ("num_group", "num_groups", "num_filter", "num_hidden", "num_args", "num_outputs")
"""Attributes that must be positive integers: MXNet divides by some of them without a check."""


def check_symbol(path: Path, more_operators: Callable[[], Mapping[str, int]] = dict) -> None:
    """Read and validate a symbol file.

    `more_operators` returns further operators that are allowed and the number of their outputs; it is called
    only if the graph has an operator that is not in `OPERATORS`.

    Raises
    ------
    ExportError
        If it is not a graph as `mxnet.symbol.Symbol.save` writes it, or has an operator that is not allowed.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MB")
        graph = json.loads(path.read_text(encoding="utf-8"))
        more: Mapping[str, int] = {}
        if not {node["op"] for node in graph["nodes"]} <= OPERATORS:
            more = more_operators()
        _Validator(more).check_graph(graph)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ExportError(
            f"{path}: MXNet cannot load it (not the graph of an export: {error}); export it again"
        ) from error


def backbone_operators(sidecar: Mapping[str, Any]) -> Dict[str, int]:
    """Operators of the registered backbone that a sidecar names, and the number of their outputs.

    Empty if no such backbone is registered; a plugin that registers it is a program the user has chosen to
    trust.
    """
    from .. import zoo

    spec: Any = sidecar.get("detector") or sidecar.get("classifier")
    try:
        options = {name: spec[name] for name in DEFAULTS if name in spec}
        net = zoo.build_backbone(spec["network"], spec["width"], 2, **options)
    except (MnssdError, AttributeError, TypeError, KeyError, ValueError):
        return {}
    import mxnet as mx

    nodes = json.loads(net(mx.sym.var("data")).tojson())["nodes"]
    operators = {node["op"]: 1 for node in nodes}
    for node in nodes:
        for source, output, *_ in node["inputs"]:
            name = nodes[source]["op"]
            operators[name] = max(operators[name], output + 1)
    return {name: count for name, count in operators.items() if not name.startswith(FORBIDDEN)}


class _Validator:
    """Checks that edges point back to existing outputs, operators are allowed and attributes are text."""

    def __init__(self, more_operators: Mapping[str, int]) -> None:
        self._more = more_operators

    def check_graph(self, graph: Dict[str, Any], depth: int = 0) -> None:
        """Raise ValueError if `graph` is malformed; subgraphs may be nested once."""
        _expect(depth <= 1, "subgraphs nested twice")
        nodes: List[Dict[str, Any]] = graph["nodes"]
        _expect(isinstance(nodes, list) and len(nodes) > 0, "no nodes")
        for index in range(len(nodes)):
            self._check_node(index, nodes, depth)
        for name, limit in (("arg_nodes", len(nodes)), ("node_row_ptr", None)):
            for value in graph.get(name, []):
                _expect(_is_index(value, limit), f"{name} has {value!r}")
        for position in graph.get("arg_nodes", []):
            _expect(nodes[position]["op"] == "null", f"node {position} is not an argument")
        rows = graph.get("node_row_ptr")
        _expect(rows is None or (len(rows) == len(nodes) + 1 and rows == sorted(rows)), "bad node_row_ptr")
        _expect(isinstance(graph["heads"], list) and len(graph["heads"]) > 0, "no outputs")
        for head in graph["heads"]:
            self._check_edge(head, nodes, len(nodes))

    def _check_node(self, index: int, nodes: List[Dict[str, Any]], depth: int) -> None:
        node, label = nodes[index], f"node {index}"
        _expect(isinstance(node["name"], str) and isinstance(node["op"], str), f"{label} has no name")
        _expect(node["op"] in OPERATORS or node["op"] in self._more, f"operator {node['op']!r}")
        for edge in node["inputs"]:
            self._check_edge(edge, nodes, index)
        _expect(node["op"] != "null" or not node["inputs"], f"{label} is a variable with inputs")
        for attributes in (node.get("attrs", {}), node.get("attr", {}), node.get("param", {})):
            texts = [*attributes.keys(), *attributes.values()]
            _expect(all(isinstance(text, str) for text in texts), f"attributes of {label}")
            for key in COUNTS:
                value = attributes.get(key, "1")
                _expect(value.isdigit() and int(value) > 0, f"{key} {value!r} of {label}")
        for edge in node.get("control_deps", []):
            _expect(_is_index(edge, index), f"{label} depends on {edge!r}")
        for subgraph in node.get("subgraphs", []):
            self.check_graph(subgraph, depth + 1)

    def _check_edge(self, edge: Any, nodes: List[Dict[str, Any]], limit: int) -> None:
        """An edge is ``[node, output]`` or ``[node, output, version]``, with a node before `limit`."""
        is_edge = isinstance(edge, list) and 2 <= len(edge) <= 3 and _is_index(edge[0], limit)
        is_edge = is_edge and all(_is_index(value, 1 << 16) for value in edge[2:])
        _expect(is_edge and _is_index(edge[1], self._output_count(nodes[edge[0]])), f"an input {edge!r}")

    def _output_count(self, node: Dict[str, Any]) -> int:
        if node["op"] == "SliceChannel":
            return min(int(node.get("attrs", {}).get("num_outputs", "1")), 1 << 10)
        return max(OUTPUTS.get(node["op"], 1), self._more.get(node["op"], 1))


def _is_index(value: Any, limit: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31
    return is_number and (limit is None or value < limit)


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
