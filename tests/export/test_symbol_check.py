"""Validation of symbol files: graphs of backbones pass, dangerous and malformed ones do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict

import mxnet as mx
import pytest

from mnssd.errors import ExportError
from mnssd.export.symbol_check import FORBIDDEN, OPERATORS, backbone_operators, check_symbol

Graph = Dict[str, Any]


def save(path: Path, symbol: mx.sym.Symbol) -> Path:
    symbol.save(str(path))
    return path


@pytest.fixture
def graph(tiny_export: Path) -> Graph:
    """Graph of an export."""
    return json.loads((tiny_export / "pets-symbol.json").read_text())


def first_node(graph: Graph, op: str) -> Dict[str, Any]:
    return next(node for node in graph["nodes"] if node["op"] == op)


def test_operators_of_other_backbones_are_allowed(tmp_path: Path) -> None:
    x = mx.sym.var("data")
    x = mx.sym.Convolution(x, kernel=(3, 3), num_filter=8, name="conv")
    gate = mx.sym.hard_sigmoid(mx.sym.mean(mx.sym.LeakyReLU(x, act_type="elu"), axis=(2, 3), keepdims=True))
    left, right = mx.sym.split(mx.sym.broadcast_mul(x, gate) * 2, num_outputs=2, axis=1)
    check_symbol(save(tmp_path / "a.json", mx.sym.sigmoid(left) + mx.sym.sqrt(mx.sym.abs(right))))


@pytest.mark.parametrize("name", ["pets-symbol.json", "pets-int8-symbol.json"])
def test_exports_are_allowed(name: str, tiny_export: Path) -> None:
    check_symbol(tiny_export / name)


@pytest.mark.parametrize(
    "op",
    [
        "Custom",
        "_Native",
        "_NDArray",
        "_CachedOp",
        "_foreach",
        "_while_loop",
        "_cond",
        "_cvimread",
        "sgd_update",
    ],
)
def test_dangerous_operators_are_refused(op: str, graph: Graph, tmp_path: Path) -> None:
    assert op not in OPERATORS
    first_node(graph, "Convolution")["op"] = op
    path = tmp_path / "a.json"
    path.write_text(json.dumps(graph))
    with pytest.raises(ExportError, match=f"a.json.*{op}"):
        check_symbol(path)


def test_further_operators_come_from_the_registered_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operators outside the list are allowed if the sidecar names a backbone that has them."""
    from mnssd import zoo

    def build(*_: Any) -> Callable[[Any], Any]:
        return lambda x: mx.sym.Custom(mx.sym.cumsum(mx.sym.Crop(x, h_w=(2, 2))), op_type="mine")

    sidecar = {"detector": {"network": "toy", "width": 1.0}}
    path = save(tmp_path / "a.json", mx.sym.cumsum(mx.sym.var("data")))
    assert backbone_operators(sidecar) == {}  # not registered
    with pytest.raises(ExportError, match="cumsum"):
        check_symbol(path, lambda: backbone_operators(sidecar))
    monkeypatch.setattr(mx.sym, "Custom", lambda x, op_type: x)  # needs a registered operator type
    monkeypatch.setattr(zoo, "build_backbone", build)
    assert set(backbone_operators(sidecar)) == {"null", "Crop", "_np_cumsum"}
    check_symbol(path, lambda: backbone_operators(sidecar))


def test_dangerous_operators_of_a_backbone_stay_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from mnssd import zoo

    class Traced:
        def tojson(self) -> str:
            return json.dumps({"nodes": [{"op": "Custom", "inputs": []}, {"op": "_cvimread", "inputs": []}]})

    monkeypatch.setattr(zoo, "build_backbone", lambda *_: lambda x: Traced())
    assert backbone_operators({"classifier": {"network": "toy", "width": 1.0}}) == {}
    assert not any(name.startswith(FORBIDDEN) for name in OPERATORS)


def no_groups(graph: Graph) -> None:
    first_node(graph, "Convolution")["attrs"]["num_group"] = "0"  # MXNet 1.9.1 divides by it


def missing_output(graph: Graph) -> None:
    first_node(graph, "Convolution")["inputs"][0][1] = 3


def forward_edge(graph: Graph) -> None:
    first_node(graph, "Convolution")["inputs"][0][0] = len(graph["nodes"]) - 1


def variable_with_inputs(graph: Graph) -> None:
    graph["nodes"][1]["inputs"] = [[0, 0, 0]]


def attribute_is_a_number(graph: Graph) -> None:
    first_node(graph, "Convolution")["attrs"]["kernel"] = 3


def no_heads(graph: Graph) -> None:
    graph["heads"] = []


def nested_twice(graph: Graph) -> None:
    inner = {"nodes": graph["nodes"][:1], "heads": [[0, 0, 0]]}
    node = {**graph["nodes"][0], "subgraphs": [inner]}
    first_node(graph, "Convolution")["subgraphs"] = [{"nodes": [node], "heads": [[0, 0, 0]]}]


@pytest.mark.parametrize(
    "damage",
    [
        no_groups, missing_output, forward_edge, variable_with_inputs, attribute_is_a_number, no_heads,
        nested_twice,
    ],
)  # fmt: skip
def test_malformed_graphs_are_refused(damage: Callable[[Graph], None], graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(graph))
    check_symbol(path)
    damage(graph)
    path.write_text(json.dumps(graph))
    with pytest.raises(ExportError, match=r"a\.json"):
        check_symbol(path)
