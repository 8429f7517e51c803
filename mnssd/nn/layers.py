"""Building blocks of the MobileNets and of the SSD heads, for ``(N, C, H, W)`` float32.

They are written plainly; `mnssd.graph` rewrites the traced Symbol to make it fast.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple, Union

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .choices import ACTIVATIONS, SHORTCUTS
from .residual import CustomResidual

Sides = Union[int, Tuple[int, int]]
"""Height and width, or both if it is one number."""

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
    kernel: Sides = 1,
    stride: Sides = 1,
    pad: Sides = 0,
    groups: int = 1,
    act: str = "relu6",
    epsilon: float = 1e-5,
) -> None:
    """Append a convolution without bias, BatchNorm and, unless `act` is empty, the activation to `out`."""
    out.add(nn.Conv2D(channels, kernel, stride, pad, groups=groups, use_bias=False))
    out.add(nn.BatchNorm(scale=True, epsilon=epsilon))
    if act:
        out.add(activation(act))


def add_separable(
    out: nn.HybridSequential,
    in_channels: int,
    channels: int,
    stride: int,
    act: str = "relu6",
    linear: bool = False,
) -> None:
    """Append a depthwise 3x3 and a pointwise convolution, each with BatchNorm and activation, to `out`.

    MobileNetV1 paper, section 3.1 and figure 3; the extra layers of SSDLite use it as well. If `linear`, the
    second has no activation.
    """
    add_conv(out, in_channels, kernel=3, stride=stride, pad=1, groups=in_channels, act=act)
    add_conv(out, channels, act="" if linear else act)


def add_factorized(
    out: nn.HybridSequential, between: int, channels: int, stride: int, act: str = "relu6"
) -> None:
    """Append a 3x3 convolution factorized into 3x1 and 1x3, each with BatchNorm and activation, to `out`.

    "Rethinking the Inception Architecture" (Szegedy et al. 2016), section 3.2. `between` are the channels
    between the two; M to N channels then have ``3 * between * (M + N)`` weights instead of ``9 * M * N``.
    """
    add_conv(out, between, kernel=(3, 1), stride=(stride, 1), pad=(1, 0), act=act)
    add_conv(out, channels, kernel=(1, 3), stride=(1, stride), pad=(0, 1), act=act)


class LinearBottleneck(HybridBlock):
    """Inverted residual of MobileNetV2: expand, depthwise 3x3, project without activation.

    MobileNetV2 paper, section 3.4 and table 1. As in the Gluon zoo, the expansion exists for ``t == 1`` as
    well, so that the zoo's weights load.

    Parameters
    ----------
    in_channels, channels : int
        Channels of the input and of the output.
    t : int
        Expansion factor.
    stride : int
        Stride of the depthwise convolution.
    shortcut : str
        ``'identity'`` adds the input if the stride is 1 and the channel counts match (the paper's rule).
        ``'projection'`` also adds it if the stride is 1 and they differ, through a 1x1 convolution and
        BatchNorm; ``'projection-all'`` at other strides, too, which that convolution then has.
    residual : bool, callable or mxnet.gluon.HybridBlock
        As `residual` of ``expanded_conv`` in TensorFlow's slim: False for no shortcut; a function or block
        ``residual(input_tensor, output_tensor)`` that returns the block's output in place of the shortcut.
    act : str
        Activation, see `activation`.

    Raises
    ------
    ValueError
        For an unknown shortcut, or a `residual` that cannot be traced as a Symbol, reads parameters that are
        not its own, or returns another shape than that of `output_tensor`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        t: int,
        stride: int,
        shortcut: str = "identity",
        residual: Union[bool, Callable[[Any, Any], Any]] = True,
        act: str = "relu6",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut: expected {' or '.join(SHORTCUTS)}, got {shortcut!r}")
        if not callable(residual) and not isinstance(residual, bool):
            raise ValueError(f"residual: expected True, False, a function or a block, got {residual!r}")
        if shortcut != SHORTCUTS[0] and residual is not True:
            raise ValueError(f"residual: cannot be given with shortcut {shortcut!r}; omit one of them")
        self.use_shortcut = residual is True and stride == 1 and in_channels == channels
        strides = (1,) if shortcut == "projection" else (stride,) if shortcut == "projection-all" else ()
        self.use_projection = not self.use_shortcut and stride in strides
        with self.name_scope():
            self.out = nn.HybridSequential()
            middle = in_channels * t
            add_conv(self.out, middle, act=act)
            add_conv(self.out, middle, kernel=3, stride=stride, pad=1, groups=middle, act=act)
            add_conv(self.out, channels, act="")
            if self.use_projection:
                self.projection = nn.HybridSequential()
                add_conv(self.projection, channels, stride=stride, act="")
            if callable(residual):
                self.residual = CustomResidual(residual, in_channels, channels, stride)

    @property
    def residual_gamma(self) -> Optional[Any]:
        """Gamma of the BatchNorm that ends the residual branch; None without an identity shortcut."""
        return self.out[-1].gamma if self.use_shortcut else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.merge(F, x, self.out(x))

    def merge(self, F: Any, x: Any, out: Any) -> Any:
        """The block's output from its input `x` and what `out` returns for it."""
        if self.use_shortcut:
            return F.elemwise_add(out, x)
        if self.use_projection:
            return F.elemwise_add(out, self.projection(x))
        return self.residual(x, out) if "residual" in self._children else out
