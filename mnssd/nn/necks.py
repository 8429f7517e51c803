"""Necks: layers between the feature maps of a backbone and the predictors."""

from __future__ import annotations

from typing import Any, List, Sequence

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .layers import add_conv, add_separable


class PyramidNeck(HybridBlock):
    """Feature pyramid network (Lin et al. 2017) with depthwise separable convolutions.

    Each map passes a 1x1 convolution with BatchNorm (`laterals`). From the coarsest one on, the sum so far is
    enlarged to twice its sides by repetition, cut to the sides of the next finer map and added to it. Each
    sum passes a depthwise separable convolution (`outputs`), as in TensorFlow's SSD with FPNLite.

    Parameters
    ----------
    in_channels : sequence of int
        Channels of the maps, finest first; each has half the sides of the one before, rounded up.
    channels : int
        Channels of all outputs.
    act : str
        Activation of `outputs`, see `layers.activation`.

    Inputs are the maps ``(N, C, H, W)``; outputs are as many with `channels` channels.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, act: str = "relu6", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.laterals, self.outputs = nn.HybridSequential(), nn.HybridSequential()
            for _ in in_channels:
                lateral, output = nn.HybridSequential(), nn.HybridSequential()
                add_conv(lateral, channels, act="")
                add_separable(output, channels, channels, stride=1, act=act)
                self.laterals.add(lateral)
                self.outputs.add(output)

    def hybrid_forward(self, F: Any, *maps: Any) -> List[Any]:
        sums = [lateral(x) for lateral, x in zip(self.laterals, maps)]
        for index in reversed(range(len(sums) - 1)):
            larger = F.UpSampling(sums[index + 1], scale=2, sample_type="nearest")
            larger = F.slice_like(larger, sums[index], axes=(2, 3))
            sums[index] = F.elemwise_add(sums[index], larger)
        return [output(x) for output, x in zip(self.outputs, sums)]
