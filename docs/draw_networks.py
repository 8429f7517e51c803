"""Draw docs/images/blocks.png and maps.png from the graphs of the networks.

python docs/draw_networks.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import mnssd  # noqa: F401  before MXNet

# isort: split
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from mxnet.gluon import nn

from mnssd import zoo
from mnssd.compress.cost import Costs, count_block
from mnssd.nn import LinearBottleneck
from mnssd.nn.layers import add_conv, add_separable

IMAGES = Path(__file__).parent / "images"
COLORS = {"depthwise": "#9ecae1", "pointwise": "#fdd0a2", "convolution": "#c7e9c0", "add": "#dadaeb"}


def standard_conv() -> Any:
    """The convolution that a separable layer replaces."""
    net = nn.HybridSequential()
    add_conv(net, 128, kernel=3, pad=1, act="relu")
    return net


def separable_conv() -> Any:
    """Depthwise separable convolution of MobileNetV1."""
    net = nn.HybridSequential()
    add_separable(net, 64, 128, stride=1, act="relu")
    return net


BLOCKS: List[Tuple[str, Any, Tuple[int, ...]]] = [
    ("standard convolution", standard_conv, (1, 64, 56, 56)),
    ("V1: depthwise separable", separable_conv, (1, 64, 56, 56)),
    ("V2: stride 1, equal channels", lambda: LinearBottleneck(24, 24, 6, 1), (1, 24, 56, 56)),
    ("V2: stride 2", lambda: LinearBottleneck(24, 32, 6, 2), (1, 24, 56, 56)),
    ("V2: different channels", lambda: LinearBottleneck(64, 96, 6, 1), (1, 64, 14, 14)),
    ("with --shortcut projection", lambda: LinearBottleneck(64, 96, 6, 1, "projection"), (1, 64, 14, 14)),
]


def format_shape(shape: Any) -> str:
    """``56x56x24`` for (24, 56, 56)."""
    return "x".join(map(str, [*shape[1:], shape[0]]))


def draw_block(axis: Any, title: str, costs: Costs, shape: Tuple[int, ...]) -> None:
    """Draw the layers from top to bottom, and the shortcut beside them."""
    layers = [layer for layer in costs.layers if "add" not in layer.kind]
    added = len(layers) < len(costs.layers)
    # A layer that reads the input of the block and is not its first one belongs to the shortcut.
    side = [layer for layer in layers[1:] if added and layer.input == shape[1:] and layer.output != shape[1:]]
    main = [layer for layer in layers if layer not in side]
    axis.set_xlim(0, 10)
    axis.set_ylim(-9.4, 1)
    axis.axis("off")
    axis.set_title(title, fontsize=10, x=0.4)
    axis.text(4, 0.2, format_shape(shape[1:]), ha="center", fontsize=8)
    y = -0.4
    for layer in main:
        color = next(value for key, value in COLORS.items() if layer.kind.startswith(key))
        axis.add_patch(pyplot.Rectangle((0.6, y - 1.3), 6.8, 1.2, facecolor=color, edgecolor="#555"))
        axis.text(4, y - 0.7, layer.kind.replace(", ", "\n", 1), ha="center", va="center", fontsize=7.5)
        y -= 2.0
        axis.text(4, y + 0.25, format_shape(layer.output), ha="center", fontsize=8)
    if added:
        color = COLORS["pointwise"] if side else "none"
        axis.plot([4, 9, 9, 5.0], [0.05, 0.05, y - 0.35, y - 0.35], color="#333", linewidth=1)
        if side:
            axis.add_patch(
                pyplot.Rectangle((7.9, y / 2 - 0.7), 2.0, 1.4, facecolor=color, edgecolor="#555", zorder=3)
            )
            axis.text(8.9, y / 2, "1x1\nBN", ha="center", va="center", fontsize=7, zorder=4)
        axis.text(4, y - 0.5, "add", ha="center", fontsize=8, bbox={"facecolor": COLORS["add"], "pad": 3})
        y -= 1.0
    cost = f"{costs.parameters:,} parameters\n{costs.multiply_adds / 1e6:.1f} M multiply-adds"
    axis.text(4, y - 0.7, cost, ha="center", va="top", fontsize=8, style="italic")


def main() -> None:
    """Draw both figures."""
    figure, axes = pyplot.subplots(1, len(BLOCKS), figsize=(17, 5.4))
    for axis, (title, make, shape) in zip(axes, BLOCKS):
        draw_block(axis, title, count_block(make(), shape), shape)
    figure.tight_layout()
    figure.savefig(IMAGES / "blocks.png", dpi=80)
    pyplot.close(figure)

    figure, axis = pyplot.subplots(figsize=(11, 3.6))
    for name, color in (("mobilenet_v1", "#e6550d"), ("mobilenet_v2", "#3182bd")):
        layers = [
            layer
            for layer in count_block(zoo.get_model(name), (1, 3, 224, 224)).layers
            if layer.multiply_adds
        ]
        cumulative, heights = [], []
        total = 0
        for layer in layers:
            total += layer.multiply_adds or 0
            cumulative.append(total / 1e6)
            heights.append(layer.output[1] if layer.output and len(layer.output) > 1 else 1)
        axis.step(cumulative, heights, where="pre", color=color, label=name)
    axis.set_yscale("log", base=2)
    axis.set_yticks([1, 7, 14, 28, 56, 112], labels=["1", "7", "14", "28", "56", "112"])
    axis.set_xlabel("cumulative multiply-adds, millions")
    axis.set_ylabel("feature map size")
    axis.grid(True, alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(IMAGES / "maps.png", dpi=80)


if __name__ == "__main__":
    main()
