"""MobileNetV1 and MobileNetV2, with the structure and parameter names of the Gluon model zoo."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .layers import LinearBottleneck, add_conv, add_separable

# MobileNetV1 paper (Howard et al. 2017), table 1: (output channels, stride) of each separable block.
V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip

# MobileNetV2 paper (Sandler et al. 2018), table 2: (t, c, n, s). The Gluon zoo strides where this does.
V2_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip

PUBLISHED_ROUNDING = (0.35, 1.4)
"""Widths that exist only in the papers' own release, and so are rounded as there (to multiples of 8)."""

Tap = Tuple[int, Optional[int]]
"""Where a map is read: index into `features`, and index into that block's `out` or None for its end."""


def scale_channels(channels: int, multiplier: float) -> int:
    """`channels` at the given width.

    ``int(channels * multiplier)`` as the Gluon zoo does, so that its weights load; at the widths in
    `PUBLISHED_ROUNDING`, which the zoo does not have, to the nearest multiple of 8 that is not more
    than 10 % smaller (``make_divisible`` of the TensorFlow slim release).

    Raises
    ------
    ValueError
        When no channel would be left.
    """
    scaled = channels * multiplier
    if int(scaled) < 1:
        raise ValueError(
            f"width {multiplier} leaves none of {channels} channels; 0.25 is the smallest usual one"
        )
    if multiplier not in PUBLISHED_ROUNDING:
        return int(scaled)
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class MobileNetV1(HybridBlock):
    """MobileNet of Howard et al. 2017: depthwise-separable convolutions all the way.

    Same parameter names and shapes as ``mxnet.gluon.model_zoo.vision.mobilenet1_0`` and its siblings.

    Parameters
    ----------
    multiplier : float
        Width multiplier (section 3.3 of the paper).
    classes : int
        Outputs of the classifier.
    activation : str
        ``'relu'`` as in the zoo, or ``'relu6'`` as in TensorFlow's release.

    Inputs are ``(B, 3, H, W)`` float32, RGB minus the ImageNet mean over its deviation; the output
    is ``(B, classes)`` logits.
    """

    taps: Sequence[Tap] = ((68, None), (80, None))
    """Ends of the 11th (stride 16) and the 13th separable block (stride 32); SSD reads here."""

    def __init__(
        self, multiplier: float = 1.0, classes: int = 1000, activation: str = "relu", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                channels = scale_channels(32, multiplier)
                add_conv(self.features, channels, kernel=3, stride=2, pad=1, act=activation)
                for c, stride in V1_BLOCKS:
                    wider = scale_channels(c, multiplier)
                    add_separable(self.features, channels, wider, stride, act=activation)
                    channels = wider
                self.features.add(nn.GlobalAvgPool2D())
                self.features.add(nn.Flatten())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class MobileNetV2(HybridBlock):
    """MobileNetV2 of Sandler et al. 2018: inverted residuals with linear bottlenecks.

    Same parameter names and shapes as ``mxnet.gluon.model_zoo.vision.mobilenet_v2_1_0`` and its siblings.

    Parameters
    ----------
    multiplier : float
        Width multiplier; the last 1280 channels grow with it above 1 but do not shrink below it
        (paper, section 5).
    classes : int
        Outputs of the classifier.
    shortcut : str
        ``'identity'`` or ``'projection'``, see `LinearBottleneck`.

    Inputs and outputs as for `MobileNetV1`.
    """

    taps: Sequence[Tap] = ((16, 2), (22, None))
    """After the expansion of the first 160-channel bottleneck, before its stride (SSDLite, section 6.2
    of the paper: "layer 15"), and the last RELU6; SSD reads here."""

    def __init__(
        self, multiplier: float = 1.0, classes: int = 1000, shortcut: str = "identity", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="features_")
            with self.features.name_scope():
                channels = scale_channels(32, multiplier)
                add_conv(self.features, channels, kernel=3, stride=2, pad=1)
                for t, c, n, s in V2_STAGES:
                    wider = scale_channels(c, multiplier)
                    for i in range(n):
                        self.features.add(LinearBottleneck(channels, wider, t, s if i == 0 else 1, shortcut))
                        channels = wider
                add_conv(self.features, scale_channels(1280, multiplier) if multiplier > 1 else 1280)
                self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(nn.Conv2D(classes, 1, use_bias=False, prefix="pred_"), nn.Flatten())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class TappedFeatures(HybridBlock):
    """A backbone's layers up to its last tap; returns the map at every tap.

    It owns `features` with the indices they have in the classifier, so a classifier's weights load by name.

    Parameters
    ----------
    backbone : MobileNetV1 or MobileNetV2
        Gives its `features` and says where to read (`taps`).

    Inputs are as for the classifier; outputs are one ``(B, C, H, W)`` for each tap, largest map first.
    """

    def __init__(self, backbone: HybridBlock, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._taps = tuple(backbone.taps)
        last, _ = self._taps[-1]
        for index, inner in self._taps:
            block = backbone.features[index]
            if inner is not None and (block.use_shortcut or block.use_projection):
                raise ValueError(f"features[{index}] has a shortcut: a map inside it cannot be read")
        with self.name_scope():
            self.features = backbone.features[: last + 1]

    def hybrid_forward(self, F: Any, x: Any) -> List[Any]:
        inside, maps = dict(self._taps), []
        for index, block in enumerate(self.features):
            if inside.get(index) is None:
                x = block(x)
                if index in inside:
                    maps.append(x)
                continue
            for position, layer in enumerate(block.out):
                x = layer(x)
                if position == inside[index]:
                    maps.append(x)
        return maps
