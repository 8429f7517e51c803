"""Costs of networks compared with the papers and with a running network; operators that cannot be counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import pytest
from helpers.detectors import make_net, write_images, write_run
from helpers.networks import images
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.compress.cost import count_block, count_json
from mnssd.export.write import export_network

# Parameters and multiply-adds of the Gluon zoo at 224 pixels, in millions.
ZOO: Dict[str, Tuple[float, float]] = {
    "mobilenet_v1": (4.232, 568.7),
    "mobilenet_v1_0.75": (2.586, 325.4),
    "mobilenet_v1_0.5": (1.332, 149.5),
    "mobilenet_v1_0.25": (0.470, 41.0),
    "mobilenet_v2": (3.505, 313.6),
    "mobilenet_v2_0.75": (2.628, 186.7),
    "mobilenet_v2_0.5": (1.965, 92.3),
    "mobilenet_v2_0.25": (1.516, 30.5),
}


@pytest.mark.parametrize("name", list(ZOO))
def test_costs_match_the_gluon_zoo(name: str) -> None:
    costs = count_block(zoo.get_model(name), (1, 3, 224, 224))
    assert (round(costs.parameters / 1e6, 3), round(costs.multiply_adds / 1e6, 1)) == ZOO[name]
    assert costs.not_counted == []


# MobileNetV1 paper, tables 6 and 7; MobileNetV2, 224: paper, table 4; the other sizes: the table of the
# authors' TensorFlow release (models/research/slim/nets/mobilenet). Millions of multiply-adds.
PUBLISHED: List[Tuple[str, int, float]] = [
    ("mobilenet_v1", 224, 569),
    ("mobilenet_v1", 192, 418),
    ("mobilenet_v1", 160, 290),
    ("mobilenet_v1", 128, 186),
    ("mobilenet_v1_0.75", 224, 325),
    ("mobilenet_v1_0.5", 224, 149),
    ("mobilenet_v1_0.25", 224, 41),
    ("mobilenet_v2", 224, 300),
    ("mobilenet_v2", 192, 221),
    ("mobilenet_v2", 160, 154),
    ("mobilenet_v2", 128, 99),
    ("mobilenet_v2", 96, 56),
    ("mobilenet_v2_1.4", 224, 582),
    ("mobilenet_v2_0.35", 224, 59),
    ("mobilenet_v2_0.35", 192, 43),
    ("mobilenet_v2_0.35", 160, 30),
    ("mobilenet_v2_0.5", 224, 97),
    ("mobilenet_v2_0.5", 192, 71),
    ("mobilenet_v2_0.5", 160, 50),
]


def multiply_adds_as_in_the_paper(name: str, size: int) -> float:
    """Millions without the expansion of V2's first bottleneck, which only the Gluon zoo has."""
    costs = count_block(zoo.get_model(name), (1, 3, size, size))
    extra = [layer for layer in costs.layers if "linearbottleneck0_conv0" in layer.name]
    assert len(extra) == ("v2" in name)
    return (costs.multiply_adds - sum(layer.multiply_adds or 0 for layer in extra)) / 1e6


@pytest.mark.parametrize(("name", "size", "millions"), PUBLISHED)
def test_costs_match_the_papers(name: str, size: int, millions: float) -> None:
    """Within 1 %, or the last digit, which some tables round and some truncate."""
    counted = multiply_adds_as_in_the_paper(name, size)
    if name == "mobilenet_v2_0.5":  # the release rounds channels up
        assert 0.85 * millions < counted < millions
    else:
        assert abs(counted - millions) <= 0.01 * millions or -0.5 <= counted - millions < 1


def costs_while_running(block: Any, x: Any) -> Tuple[int, int]:
    """Parameters and multiply-adds from the arrays of the layers while they run."""
    counted = [0]

    def add_cost(layer: Any, inputs: Any, output: Any) -> None:
        if isinstance(layer, (nn.Conv2D, nn.Dense)):
            counted[0] += output[0].size * layer.weight.data()[0].size

    def hook(layer: Any) -> None:
        layer.register_forward_hook(add_cost)

    block.initialize()
    block(x)
    block.apply(hook)
    block(x)
    mx.nd.waitall()
    sizes = [p.data().size for p in block.collect_params().values() if p.grad_req != "null"]
    return sum(sizes), counted[0]


@pytest.mark.parametrize(
    "name", ["ssd_300_mobilenet_v1_0.25", "ssdlite_320x160_mobilenet_v2_0.35", "mobilenet_v2_1.4"]
)
def test_costs_match_a_running_network(name: str) -> None:
    net = zoo.get_model(name)
    block, (width, height) = (net.heads, net.size) if name.startswith("ssd") else (net, (96, 64))
    costs = count_block(block, (1, 3, height, width))
    assert (costs.parameters, costs.multiply_adds) == costs_while_running(block, images(1, width, height))


class Tower(HybridBlock):
    """Groups, strides, non-square kernels, a dense layer per position, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(12, (3, 5), strides=(2, 1), groups=3)
            self.up = nn.Conv2DTranspose(6, 2, strides=2)
            self.dense = nn.Dense(7, flatten=False)
            self.twice = nn.Conv2D(6, 1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.up(self.conv(x))
        return self.dense(self.twice(self.twice(x)))


def test_costs_of_grouped_transposed_dense_and_shared_layers() -> None:
    """Counted by hand for an input of 9x8x10."""
    block = Tower()
    costs = count_block(block, (1, 9, 8, 10))
    conv = 12 * 3 * 6 * (3 * 3 * 5)  # 3x6 positions
    up = 12 * 3 * 6 * (6 * 4)
    twice = 2 * 6 * 6 * 12 * 6  # 6x12 positions
    dense = 6 * 6 * 7 * 12
    assert costs.multiply_adds == conv + up + twice + dense
    parameters = (12 * 45 + 12) + (12 * 6 * 4 + 6) + (6 * 6 + 6) + (7 * 12 + 7)
    assert costs.parameters == parameters
    assert [layer.kind for layer in costs.layers[:2]] == [
        "convolution 3x5 s2x1 in 3 groups", "deconvolution 2x2 s2",
    ]  # fmt: skip


def test_separable_convolution_of_3_to_16_channels() -> None:
    """27 + 48 = 75 weights instead of 432, a ratio of 0.17."""
    block = nn.HybridSequential()
    block.add(
        nn.Conv2D(3, 3, padding=1, groups=3, use_bias=False), nn.BatchNorm(), nn.Conv2D(16, 1, use_bias=False)
    )
    (pair,) = count_block(block, (1, 3, 10, 10)).separable
    assert (pair.weights, pair.standard_weights, round(pair.ratio, 2)) == (75, 432, 0.17)
    assert pair.ratio == pytest.approx(1 / 16 + 1 / 9)
    assert (pair.multiply_adds, pair.standard_multiply_adds) == (7500, 43200)


def test_separable_layers_of_the_networks() -> None:
    for name, count in (("mobilenet_v1", 13), ("mobilenet_v2", 17)):
        costs = count_block(zoo.get_model(name), (1, 3, 224, 224))
        assert len(costs.separable) == count
        for pair in costs.separable:
            assert pair.ratio == pytest.approx(1 / pair.channels[1] + 1 / 9)


# ---- unknown operators and shapes --------------------------------------------------------------------------


def symbol_json(**operators: str) -> str:
    """JSON of two convolutions with a node `middle` between them; ``middle='Name'`` replaces its operator."""
    x = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="first")
    x = mx.sym.relu(x, name="middle")
    x = mx.sym.Convolution(x, kernel=(1, 1), num_filter=5, name="second")
    graph = json.loads(x.tojson())
    for node in graph["nodes"]:
        node["op"] = operators.get(node["name"], node["op"])
    return json.dumps(graph)


def test_unknown_operator_is_listed() -> None:
    costs = count_json(symbol_json(middle="_npx_fancy"), {"data": (1, 3, 6, 6)})
    first, middle, second = costs.layers
    assert (first.multiply_adds, first.parameters) == (4 * 16 * 27, 4 * 27 + 4)
    assert (middle.multiply_adds, middle.output) == (None, None)
    assert (second.multiply_adds, second.parameters) == (None, None)
    assert costs.multiply_adds == first.multiply_adds
    assert any("middle" in line and "_npx_fancy" in line for line in costs.not_counted)
    assert any(line.startswith("second: ") for line in costs.not_counted)
    assert any(line.startswith("second_weight: ") for line in costs.not_counted)


def test_shapes_of_arrays_replace_inferred_ones() -> None:
    arrays = {"second_weight": (5, 4, 1, 1), "second_bias": (5,)}
    costs = count_json(symbol_json(middle="Custom"), {"data": (1, 3, 6, 6)}, arrays)
    assert costs.layers[2].parameters == 25
    assert costs.layers[2].multiply_adds is None


def test_operator_of_unknown_cost_has_shapes() -> None:
    x = mx.sym.Correlation(mx.sym.var("data"), mx.sym.var("data"), name="odd")
    x = mx.sym.Convolution(x, kernel=(1, 1), num_filter=5, name="next")
    costs = count_json(x.tojson(), {"data": (1, 3, 6, 6)})
    (line,) = costs.not_counted
    assert "odd" in line
    assert "Correlation" in line
    assert costs.layers[1].multiply_adds


def test_input_without_a_shape_is_listed() -> None:
    costs = count_json(symbol_json(), {"image": (1, 3, 6, 6)})
    assert costs.multiply_adds == 0
    assert any("first" in line for line in costs.not_counted)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nodes": [1], "heads": []}', '{"nodes": [], "heads": [[3, 0]]}']
)
def test_invalid_graph_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        count_json(text, {})


# ---- the command -------------------------------------------------------------------------------------------


def printed(capfd: pytest.CaptureFixture, *arguments: str) -> str:
    assert main(["summary", *arguments]) == 0
    out, err = capfd.readouterr()
    assert err == ""  # also from MXNet
    return out


def test_summary_of_a_classifier(capfd: pytest.CaptureFixture) -> None:
    out = printed(capfd, "mobilenet_v1", "--width", "0.5", "--size", "160", "--classes", "10")
    assert out.startswith("mobilenet_v1_0.5 at 160x160\n")
    assert "80x80x16" in out
    assert "depthwise 3x3 s2, BatchNorm, ReLU" in out
    assert "depthwise separable layers: 0.1" in out
    costs = count_block(zoo.get_model("mobilenet_v1_0.5", classes=10), (1, 3, 160, 160))
    assert f"{costs.parameters:,} parameters, {costs.multiply_adds:,} multiply-adds" in out


def test_summary_of_a_detector_has_anchors(capfd: pytest.CaptureFixture) -> None:
    out = printed(
        capfd, "ssd_300_mobilenet_v2", "--size", "320x160", "--width", "0.25", "--classes", "3", "--json"
    )
    report = json.loads(out)
    assert report["network"] == "ssd_320x160_mobilenet_v2_0.25 at 320x160"
    net = zoo.get_model("ssd_320x160_mobilenet_v2_0.25", classes=["a", "b", "c"])
    assert sum(row["anchors"] for row in report["anchors"]) == len(net.anchors)
    assert report["anchors"][0]["map"] == [20, 10]
    assert report["parameters"] == count_block(net.heads, (1, 3, 160, 320)).parameters


def test_markdown_tables_have_equal_columns(capfd: pytest.CaptureFixture) -> None:
    out = printed(capfd, "ssdlite_96_mobilenet_v2_0.25", "--markdown")
    tables = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables if "BatchNorm" in line}) == 1
    assert "## anchors" in out


def test_summary_of_runs_exports_and_symbol_files(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    net, spec = make_net()
    run = write_run(tmp_path / "run", net, spec)
    exported = export_network(net, spec, tmp_path / "export", write_images(tmp_path, 1), "pets")
    capfd.readouterr()
    of_run = json.loads(printed(capfd, str(run), "--json"))
    of_export = json.loads(printed(capfd, str(tmp_path / "export"), "--json"))
    # In the export BatchNorm is folded: biases instead of gammas and betas, the same multiply-adds.
    assert of_export["multiply_adds"] == of_run["multiply_adds"] > 0
    assert 0.9 < of_export["parameters"] / of_run["parameters"] < 1
    assert of_run["not_counted"] == []
    symbol = next(iter((tmp_path / "export").glob("*symbol.json")))
    width, height = spec.size
    alone = json.loads(printed(capfd, str(symbol), "--input", f"data=1x3x{height}x{width}", "--json"))
    assert alone["multiply_adds"] == of_run["multiply_adds"]
    assert exported


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["mobilenet_v3"], "mobilenet_v2"),
        (["ssd_100_mobilenet_v2"], "100x100"),
        (["nowhere-symbol.json"], "nowhere-symbol.json"),
        (["mobilenet_v1", "--json", "--markdown"], "markdown"),
        (["mobilenet_v1", "--input", "data"], "'data'"),
        (["tests", "--size", "96"], "tests: "),
        (["setup.json", "--width", "0.5"], "setup.json: --width"),
    ],
)
def test_invalid_argument_is_named(arguments: List[str], named: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["summary", *arguments]) in (1, 2)
    assert named in capsys.readouterr().err
