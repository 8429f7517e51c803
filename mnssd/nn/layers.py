"""The building blocks of the MobileNets and of the SSD heads.

All take ``(B, C, H, W)`` float32. They are written plainly; speed comes from `mnssd.graph`,
which rewrites the traced Symbol, never from bending the blocks.
"""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock


class RELU6(HybridBlock):
    """``min(max(x, 0), 6)`` (MobileNetV1 report, section 3.2 of the V2 paper)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, 0, 6, name="fwd")


def activation(name: str) -> HybridBlock:
    """The activation called `name`: ``'relu'`` or ``'relu6'``."""
    if name == "relu6":
        return RELU6()
    if name == "relu":
        return nn.Activation("relu")
    raise ValueError(f"activation is 'relu' or 'relu6', not {name!r}")


def add_conv(
    out: nn.HybridSequential,
    channels: int,
    kernel: int = 1,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    act: str = "relu6",
) -> None:
    """Append convolution without bias, BatchNorm and, unless `act` is '', the activation to `out`."""
    out.add(nn.Conv2D(channels, kernel, stride, pad, groups=groups, use_bias=False))
    out.add(nn.BatchNorm(scale=True))
    if act:
        out.add(activation(act))


def add_separable(
    out: nn.HybridSequential, in_channels: int, channels: int, stride: int, act: str = "relu6"
) -> None:
    """Append a depthwise 3x3 and a pointwise convolution, each with BatchNorm and activation.

    MobileNetV1 paper, section 3.1 and figure 3; the extra layers of SSDLite use it too.
    """
    add_conv(out, in_channels, kernel=3, stride=stride, pad=1, groups=in_channels, act=act)
    add_conv(out, channels, act=act)


class LinearBottleneck(HybridBlock):
    """The inverted residual of MobileNetV2: expand, filter per channel, project without activation.

    MobileNetV2 paper, section 3.4 and table 1. The expansion is there at ``t == 1`` too, as in the
    Gluon zoo, so that its weights load.

    Parameters
    ----------
    in_channels, channels : int
        Channels before and after.
    t : int
        Expansion factor of the middle.
    stride : int
        1 or 2.
    shortcut : str
        ``'identity'`` adds the input where stride is 1 and the channel counts match (the paper's
        rule). ``'projection'`` also adds it, through a 1x1 convolution and BatchNorm, where stride
        is 1 and they differ.
    """

    def __init__(
        self, in_channels: int, channels: int, t: int, stride: int, shortcut: str = "identity", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if shortcut not in ("identity", "projection"):
            raise ValueError(f"shortcut is 'identity' or 'projection', not {shortcut!r}")
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

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = self.out(x)
        if self.use_shortcut:
            out = F.elemwise_add(out, x)
        elif self.use_projection:
            out = F.elemwise_add(out, self.projection(x))
        return out
