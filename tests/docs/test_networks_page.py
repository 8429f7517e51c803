"""The figures of docs/networks.md are those of the code: costs of layers, sizes of feature maps, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from mxnet.gluon import nn

from mnssd import zoo
from mnssd.compress.cost import Costs, Layer, count_block
from mnssd.nn.layers import add_separable

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
SIZES = (224, 300)


def with_weights(name: str, size: int) -> List[Layer]:
    """The layers of a classifier's `features` with weights, and the pooling."""
    costs = count_block(zoo.get_model(name), (1, 3, size, size))
    return [
        layer for layer in costs.layers if layer.output and len(layer.output) == 3 and layer.multiply_adds
    ][: 27 if "v1" in name else 53]


def cells(name: str) -> List[str]:
    """``112 / 150, 32``: the side at each of `SIZES` and the channels of every layer."""
    both = zip(*(with_weights(name, size) for size in SIZES))
    return [f"{a.output[1]} / {b.output[1]}, {a.output[0]}" for a, b in both if a.output and b.output]


def feature_map_rows() -> Dict[str, List[str]]:
    """The two tables, one row per block: all 27 and 53 layers before the pooling."""
    v1, v2 = cells("mobilenet_v1"), cells("mobilenet_v2")
    first = [f"| convolution 3x3 | | {v1[0]} |"]
    first += [f"| block {i + 1} | {v1[2 * i + 1]} | {v1[2 * i + 2]} |" for i in range(13)]
    second = [f"| convolution 3x3 | | | {v2[0]} |"]
    second += [f"| bottleneck {i + 1} | {' | '.join(v2[3 * i + 1 : 3 * i + 4])} |" for i in range(17)]
    return {"v1": first, "v2": [*second, f"| convolution 1x1 | | | {v2[52]} |"]}


@pytest.mark.parametrize("network", ["v1", "v2"])
def test_feature_map_sizes(network: str) -> None:
    rows = feature_map_rows()[network]
    assert len(rows) == {"v1": 14, "v2": 19}[network]
    assert "\n".join(rows) in PAGE


def cost_of(layer: Any, channels: int, side: int) -> Costs:
    return count_block(layer, (1, channels, side, side))


def weights_of(costs: Costs, side: int) -> int:
    """Weights of convolutions at stride 1: multiply-adds per position."""
    return costs.multiply_adds // side**2


def test_worked_example() -> None:
    standard = cost_of(nn.Conv2D(16, 3, padding=1, use_bias=False), 3, 8)
    separable = nn.HybridSequential()
    add_separable(separable, 3, 16, 1)
    pair = cost_of(separable, 3, 8)
    layers = [layer.multiply_adds // 64 for layer in pair.layers if layer.multiply_adds]
    assert layers == [27, 48]
    assert (weights_of(standard, 8), weights_of(pair, 8)) == (432, 75)
    ratio = pair.multiply_adds / standard.multiply_adds
    assert ratio == pytest.approx(1 / 16 + 1 / 9)
    assert f"{ratio:.2f}" == "0.17"
    assert "27 + 48 = 75" in PAGE
    assert "75/432 = 0.17" in PAGE


def group_rows() -> List[str]:
    """The table from the standard to the depthwise convolution: 3x3, 64 channels, a map of 56x56."""
    rows = []
    for groups in (1, 2, 4, 8, 64):
        layer = nn.Conv2D(64, 3, padding=1, groups=groups, use_bias=False)
        costs = cost_of(layer, 64, 56)
        name = {1: "1, standard", 64: "64, depthwise"}.get(groups, str(groups))
        rows.append(f"| {name} | {costs.parameters:,} | {costs.multiply_adds / 1e6:.1f} |")
    separable = nn.HybridSequential()
    add_separable(separable, 64, 64, 1)
    costs = cost_of(separable, 64, 56)
    rows.append(f"| 64, and pointwise | {weights_of(costs, 56):,} | {costs.multiply_adds / 1e6:.1f} |")
    return rows


def test_group_convolutions() -> None:
    assert "\n".join(group_rows()) in PAGE


OPTIONS: List[Tuple[str, str, Dict[str, Any]]] = [
    ("`mobilenet_v2`", "mobilenet_v2", {}),
    ("`--expansion 4`", "mobilenet_v2", {"expansion": 4}),
    ("`--shortcut projection`", "mobilenet_v2", {"shortcut": "projection"}),
    ("`--shortcut projection-all`", "mobilenet_v2", {"shortcut": "projection-all"}),
    ("`mobilenet_v1`", "mobilenet_v1", {}),
    ("`--classifier conv`", "mobilenet_v1", {"classifier": "conv"}),
    ("`ssd_300_mobilenet_v2`", "ssd_300_mobilenet_v2", {}),
    ("`ssdfactorized_300_mobilenet_v2`", "ssdfactorized_300_mobilenet_v2", {}),
    ("`ssdlite_300_mobilenet_v2`", "ssdlite_300_mobilenet_v2", {}),
    ("`ssdfpn_300_mobilenet_v2`", "ssdfpn_300_mobilenet_v2", {}),
]


def option_rows() -> List[str]:
    rows = []
    for label, name, options in OPTIONS:
        net = zoo.get_model(name, **options)
        is_detector = name.startswith("ssd")
        shape = (1, 3, 300, 300) if is_detector else (1, 3, 224, 224)
        costs = count_block(net.heads if is_detector else net, shape)
        rows.append(f"| {label} | {costs.parameters / 1e6:.3f} | {costs.multiply_adds / 1e6:.1f} |")
    return rows


def test_costs_of_the_options() -> None:
    assert "\n".join(option_rows()) in PAGE
