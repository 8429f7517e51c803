"""Building blocks of the MobileNets and of the SSD heads, for ``(N, C, H, W)`` float32.

They are written plainly; `mnssd.graph` rewrites the traced Symbol to make it fast.
"""

from __future__ import annotations

from typing import Any, Optional

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .choices import ACTIVATIONS, SHORTCUTS

RELEASE_WIDTHS = (0.35, 1.4)
"""Widths that only the authors' TensorFlow release has; channels are rounded to multiples of 8 as there."""

LARGEST_DIVISOR = 64
"""A larger divisor comes from a damaged file."""


def scale_channels(channels: int, multiplier: float, divisor: int = 0) -> int:
    """Number of channels at a width multiplier.

    With a `divisor` the nearest multiple of it that is at most 10 % smaller (``make_divisible`` in
    TensorFlow's slim, torchvision and timm). By default, 0, it is 1 as in the Gluon zoo, so that its weights
    load: ``int(channels * multiplier)``. At `RELEASE_WIDTHS`, which the zoo does not have, it is 8.

    Raises
    ------
    ValueError
        If no channel is left, or the divisor is not from 0 to `LARGEST_DIVISOR`.
    """
    scaled = channels * multiplier
    if int(scaled) < 1:
        problem = f"leaves none of {channels} channels; the smallest usual width is 0.25"
        raise ValueError(f"width {multiplier} {problem}")
    if not 0 <= divisor <= LARGEST_DIVISOR:
        raise ValueError(f"divisor: expected 0 to {LARGEST_DIVISOR}, got {divisor}")
    divisor = divisor or (8 if multiplier in RELEASE_WIDTHS else 1)
    if divisor == 1:
        return int(scaled)
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


class RELU6(HybridBlock):
    """``min(max(x, 0), 6)`` (MobileNetV2 paper, section 3.2)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, 0, 6, name="fwd")


def activation(name: str) -> HybridBlock:
    """Activation by name: ``'relu'`` or ``'relu6'``."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected {' or '.join(ACTIVATIONS)}, got {name!r}")
    return RELU6() if name == "relu6" else nn.Activation(name)


def add_conv(
    out: nn.HybridSequential,
    channels: int,
    kernel: int = 1,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    act: str = "relu6",
) -> None:
    """Append a convolution without bias, BatchNorm and, unless `act` is empty, the activation to `out`."""
    out.add(nn.Conv2D(channels, kernel, stride, pad, groups=groups, use_bias=False))
    out.add(nn.BatchNorm(scale=True))
    if act:
        out.add(activation(act))


def add_separable(
    out: nn.HybridSequential, in_channels: int, channels: int, stride: int, act: str = "relu6"
) -> None:
    """Append a depthwise 3x3 and a pointwise convolution, each with BatchNorm and activation, to `out`.

    MobileNetV1 paper, section 3.1 and figure 3; the extra layers of SSDLite use it as well.
    """
    add_conv(out, in_channels, kernel=3, stride=stride, pad=1, groups=in_channels, act=act)
    add_conv(out, channels, act=act)


class LinearBottleneck(HybridBlock):
    """Inverted residual of MobileNetV2: expand, depthwise 3x3, project without activation.

    MobileNetV2 paper, section 3.4 and table 1; `t` is the expansion factor. As in the Gluon zoo, the
    expansion exists for ``t == 1`` as well, so that the zoo's weights load.

    The shortcut ``'identity'`` adds the input if the stride is 1 and the channel counts match (the paper's
    rule). ``'projection'`` also adds it if the stride is 1 and they differ, through a 1x1 convolution and
    BatchNorm.
    """

    def __init__(
        self, in_channels: int, channels: int, t: int, stride: int, shortcut: str = "identity", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut: expected {' or '.join(SHORTCUTS)}, got {shortcut!r}")
        self.use_shortcut = stride == 1 and in_channels == channels
        self.use_projection = shortcut == "projection" and stride == 1 and in_channels != channels
        with self.name_scope():
            self.out = nn.HybridSequential()
            middle = in_channels * t
            add_conv(self.out, middle)
            add_conv(self.out, middle, kernel=3, stride=stride, pad=1, groups=middle)
            add_conv(self.out, channels, act="")
            if self.use_projection:
                self.projection = nn.HybridSequential()
                add_conv(self.projection, channels, act="")

    @property
    def residual_gamma(self) -> Optional[Any]:
        """Gamma of the BatchNorm that ends the residual branch; None without an identity shortcut."""
        return self.out[-1].gamma if self.use_shortcut else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = self.out(x)
        if self.use_shortcut:
            out = F.elemwise_add(out, x)
        elif self.use_projection:
            out = F.elemwise_add(out, self.projection(x))
        return out
