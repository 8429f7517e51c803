"""MobileNetV2 (Sandler et al. 2018), with the structure and parameter names of the Gluon model zoo."""

from __future__ import annotations

import re
from collections import Counter
from math import ceil
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..choices import DEFAULTS, EXPANSIONS, SHORTCUTS
from ..input_layer import input_layer
from ..layers import LinearBottleneck, add_conv, scale_channels
from . import INPUT_VARIANTS, Backbone, Structure, Tap, backbones
from ._mobilenet_v2_conversions import CONVERSIONS, FIRST_BLOCK
from ._structures import Shapes, find_structure, output_channels

# Table 2 of the paper: (c, n, s); t is 1 in the first stage. The Gluon zoo has the strides in these blocks.
STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))

EXPANSION: int = DEFAULTS["expansion"]
"""t in the other stages of the paper."""

TAPPED_STAGES = (3, 5)
"""Indices in `STAGES` of the last two stages with a stride."""

DEPTHS = (1.0, 1.2, 1.4)
"""Depth multipliers of published networks: the paper's, timm's ``mobilenetv2_110d`` and ``_120d``."""

DEEPEST = 4.0
"""Largest depth multiplier: a larger one comes from a damaged file."""


class Bottleneck(NamedTuple):
    """Expansion factor, output channels and stride."""

    t: int
    channels: int
    stride: int


class Layout(NamedTuple):
    """Channels of the first and the last convolution, and the bottlenecks between them."""

    first: int
    bottlenecks: Tuple[Bottleneck, ...]
    last: int
    tapped: Tuple[int, ...]
    """Indices of the first bottlenecks of `TAPPED_STAGES` (64 and 160 channels at width 1)."""


def layout(multiplier: float, divisor: int = 0, depth: float = 1.0, expansion: int = EXPANSION) -> Layout:
    """The network at a width `multiplier`; `divisor` is that of `layers.scale_channels`.

    `expansion` is the factor t of all stages but the first. `depth` multiplies the number of bottlenecks of
    all stages but the first and the last, rounded up. Unless it is 1, the first and the last convolution have
    32 and 1280 channels at every width (``fix_stem_head`` in timm's ``mobilenetv2_110d`` and ``_120d``).
    Raises ValueError for impossible values.
    """
    if expansion not in EXPANSIONS:
        raise ValueError(f"expansion: expected {EXPANSIONS[0]} to {EXPANSIONS[-1]}, got {expansion}")
    if not 0 < depth <= DEEPEST:
        raise ValueError(f"depth: expected a multiplier above 0, at most {DEEPEST:g}, got {depth}")

    def scaled(channels: int) -> int:
        return scale_channels(channels, multiplier, divisor)

    first, last = scaled(32), scaled(1280) if multiplier > 1 else 1280
    if depth != 1:
        first, last = 32, 1280
    bottlenecks: List[Bottleneck] = []
    tapped = []
    for index, (c, n, s) in enumerate(STAGES):
        if index in TAPPED_STAGES:
            tapped.append(len(bottlenecks))
        count = n if index in (0, len(STAGES) - 1) else ceil(n * depth)
        t = 1 if index == 0 else expansion
        bottlenecks += [Bottleneck(t, scaled(c), s if i == 0 else 1) for i in range(count)]
    return Layout(first, tuple(bottlenecks), last, tuple(tapped))


def taps_of(parts: Layout) -> Tuple[Tap, ...]:
    """The expansions in the first bottlenecks of the fourth and the sixth stage, and the last ReLU6.

    The expansions are before the stride; the second is "layer 15" in section 6.2 of the paper.
    """
    expansions = zip(parts.tapped, (8, 16))
    last = Tap(f"features.{FIRST_BLOCK + len(parts.bottlenecks) + 2}", 32)
    return (*(Tap(f"features.{FIRST_BLOCK + index}.out.2", stride) for index, stride in expansions), last)


class MobileNetV2(HybridBlock):
    """MobileNetV2: inverted residuals with linear bottlenecks.

    Same parameter names and shapes as ``mxnet.gluon.model_zoo.vision.mobilenet_v2_1_0`` and its siblings. The
    last 1280 channels grow with the width `multiplier` above 1 but do not shrink below it (paper, section 5).
    `shortcut` is that of `LinearBottleneck`; `divisor`, `depth` and `expansion` are those of `layout`. With
    `output_bias` the last layer has a bias, as in torchvision and timm. `rotated`, `pixel_mean` and
    `pixel_std` are those of `input_layer.InputLayer`. With `plain_relu` the activations are ReLU in place of
    ReLU6, as in shicai's network for Caffe.

    Inputs are ``(N, 3, H, W)`` float32, RGB in 0..1 minus the ImageNet mean, divided by its standard
    deviation. The output is ``(N, classes)`` logits.
    """

    taps = taps_of(layout(1.0))

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 1000,
        shortcut: str = "identity",
        divisor: int = 0,
        depth: float = 1.0,
        output_bias: bool = False,
        expansion: int = EXPANSION,
        rotated: bool = False,
        pixel_mean: Sequence[float] = IMAGENET_MEAN,
        pixel_std: Sequence[float] = IMAGENET_STD,
        plain_relu: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        parts = layout(multiplier, divisor, depth, expansion)
        self.taps, act = taps_of(parts), "relu" if plain_relu else "relu6"
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="features_")
            with self.features.name_scope():
                channels = parts.first
                add_conv(self.features, channels, kernel=3, stride=2, pad=1, act=act)
                for t, out_channels, stride in parts.bottlenecks:
                    block = LinearBottleneck(channels, out_channels, t, stride, shortcut, act=act)
                    self.features.add(block)
                    channels = out_channels
                add_conv(self.features, parts.last, act=act)
                self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(nn.Conv2D(classes, 1, use_bias=output_bias, prefix="pred_"), nn.Flatten())
            self.input = input_layer(rotated, pixel_mean, pixel_std)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(self.input(x) if self.input else x))


def layer_channels(multiplier: float, divisor: int = 0, depth: float = 1.0) -> Tuple[int, ...]:
    """Output channels of the first convolution, of each bottleneck and of the last convolution."""
    first, bottlenecks, last, _ = layout(multiplier, divisor, depth)
    return (first, *(block.channels for block in bottlenecks), last)


def expansion_of(shapes: Shapes, end: int) -> int:
    """Expansion factor of most bottlenecks after the first and before index `end`; else the paper's."""
    factors: Counter[int] = Counter()
    for index in range(FIRST_BLOCK + 1, end):
        out_channels, in_channels, *_ = (*shapes.get(f"features.{index}.out.0.weight", ()), 0, 0)
        if in_channels and out_channels % in_channels == 0:
            factors[out_channels // in_channels] += 1
    factor, count = max(factors.items(), key=lambda item: item[1], default=(EXPANSION, 0))
    return factor if 2 * count > end - FIRST_BLOCK - 1 and factor in EXPANSIONS else EXPANSION


def recognize(shapes: Shapes, width: Optional[float], classes: Optional[int]) -> Optional[Structure]:
    """See `Backbone.recognize`."""
    blocks = [int(match[1]) for match in map(re.compile(r"features\.(\d+)\.out\.").match, shapes) if match]
    if not blocks:
        return None
    end = max(blocks) + 1
    layers = ["features.0", *(f"features.{i}.out.6" for i in range(FIRST_BLOCK, end)), f"features.{end}"]
    depths = [{"depth": depth} if depth != 1 else {} for depth in DEPTHS]
    structure = find_structure(output_channels(shapes, layers), layer_channels, width, depths)
    if structure:
        structure.options["expansion"] = expansion_of(shapes, end)
    # Without weights for these classes the bias would be a random network's.
    if structure and shapes.get("output.0.bias") == (classes,) == shapes.get("output.0.weight", ())[:1]:
        structure.variant["output_bias"] = True
    return structure


# Authors' TensorFlow release: research/slim/nets/mobilenet/README.md at github.com/tensorflow/models. It
# rounds channels to multiples of 8 at every width; the Gluon zoo and this package do not at 0.75 and 0.5.
PUBLISHED = {
    (width, size): top1
    for width, accuracies in {
        1.4: (75.0,),
        1.0: (71.8, 70.7, 68.8, 65.3, 60.3),
        0.75: (69.8, 68.7, 66.4, 63.2, 58.8),
        0.5: (65.4, 63.9, 61.0, 57.7, 51.2),
        0.35: (60.3, 58.2, 55.7, 50.8, 45.5),
    }.items()
    for size, top1 in zip((224, 192, 160, 128, 96), accuracies)
}

backbones.register(
    "mobilenet_v2",
    Backbone(
        name="mobilenet_v2",
        build=MobileNetV2,
        taps=MobileNetV2.taps,
        options={"shortcut": SHORTCUTS, "expansion": EXPANSIONS},
        widths=(1.0, 0.75, 0.5, 0.25, 0.35, 1.4),
        published=PUBLISHED,
        conversions=CONVERSIONS,
        variants={
            "divisor": 0,
            "depth": 1.0,
            "output_bias": False,
            "plain_relu": False,
            **INPUT_VARIANTS,
        },
        recognize=recognize,
    ),
)
