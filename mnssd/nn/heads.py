"""The trainable part of a detector: backbone taps, extra layers and predictors of classes and boxes."""

from __future__ import annotations

from typing import Any, Iterable, List, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..options import listed
from .anchors import anchors_per_position
from .backbones import Tap
from .choices import HEADS
from .head_layouts import LAYOUTS, HeadLayout
from .layers import add_conv, add_factorized, add_separable
from .necks import PyramidNeck
from .tapped_features import TappedFeatures

PREDICTOR_SIGMA = 0.01
"""Standard deviation of the predictors' initial weights (Fast R-CNN, section 4.1). With the backbone's
initialization the first logits, and the first losses, are ten times too large."""

FACTORIZED_CHANNELS = 48
"""Channels between the two convolutions of a factorized predictor: independent of the classes, so that these
can be replaced, and few enough to save weights from two classes on."""


class LitePredictor(HybridBlock):
    """SSDLite predictor: depthwise 3x3, BatchNorm, activation and a plain 1x1 convolution (`project`)."""

    def __init__(self, in_channels: int, channels: int, act: str = "relu6", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.depthwise = nn.HybridSequential()
            add_conv(self.depthwise, in_channels, kernel=3, pad=1, groups=in_channels, act=act)
            self.project = nn.Conv2D(channels, 1, weight_initializer=mx.init.Normal(PREDICTOR_SIGMA))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.project(self.depthwise(x))


class FactorizedPredictor(HybridBlock):
    """3x3 predictor factorized into a 3x1 convolution with BatchNorm and a plain 1x3 convolution (`project`).

    There is no activation between the two, as their few channels would lose information.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.vertical = nn.HybridSequential()
            add_conv(self.vertical, FACTORIZED_CHANNELS, kernel=(3, 1), pad=(1, 0), act="")
            init = mx.init.Normal(PREDICTOR_SIGMA)
            self.project = nn.Conv2D(channels, (1, 3), padding=(0, 1), weight_initializer=init)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.project(self.vertical(x))


def last_convolution(predictor: HybridBlock) -> nn.Conv2D:
    """The convolution of a predictor whose output channels are (anchor, value)."""
    return getattr(predictor, "project", predictor)


class SSDHeads(HybridBlock):
    """Backbone, extra layers and multibox predictors: from images to class scores and box offsets.

    The `features` of `backbone` become part of this block, up to the last of the `taps`: as many as the
    layout reads, or more, of which it reads those with its strides. `num_classes` is without the background;
    `head` is one of `HEADS`, or a layout of an imported network.

    Inputs are ``(N, 3, H, W)`` float32, normalized. Outputs are ``cls_preds`` ``(N, A, C + 1)``, logits with
    the background in column 0, and ``box_preds`` ``(N, A, 4)``, offsets of center and log size in units of
    `boxes.STDS`, in the order of `anchors.make_anchors`.
    """

    def __init__(
        self,
        backbone: HybridBlock,
        taps: Sequence[Tap],
        num_classes: int,
        head: Union[str, HeadLayout],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(head, HeadLayout) and head not in HEADS:
            raise ValueError(f"head: expected {' or '.join(HEADS)}, got {head!r}")
        self.num_classes = num_classes
        self.layout = head if isinstance(head, HeadLayout) else LAYOUTS[head]
        with self.name_scope():
            taps = taps_of_strides(taps, self.layout)
            self.backbone = TappedFeatures(backbone, taps)
            channels_of_maps = tap_channels(self.backbone, taps)
            if self.layout.neck:
                self.neck = PyramidNeck(channels_of_maps, self.layout.neck, self.layout.activation)
                channels_of_maps = [self.layout.neck] * len(taps)
            self.extras = nn.HybridSequential()
            act, epsilon = self.layout.activation, self.layout.epsilon
            for squeeze, channels in self.layout.extras:
                layer = nn.HybridSequential()
                add_conv(layer, squeeze, act=act, epsilon=epsilon)
                if self.layout.convolution == "separable":
                    add_separable(layer, squeeze, channels, 2, act, self.layout.linear_extras)
                elif self.layout.convolution == "factorized":
                    add_factorized(layer, squeeze, channels, stride=2, act=act)
                else:
                    add_conv(layer, channels, 3, 2, 1, act=act, epsilon=epsilon)
                self.extras.add(layer)
            self._map_channels = channels_of_maps + [channels for _, channels in self.layout.extras]
            self.class_predictors = self._predictors(num_classes + 1)
            self.box_predictors = self._predictors(4)

    def _predictors(self, values: int) -> nn.HybridSequential:
        """One predictor for each feature map, with `values` outputs per anchor."""
        predictors = nn.HybridSequential()
        for index, in_channels in enumerate(self._map_channels):
            channels = anchors_per_position(index, self.layout.anchors) * values
            kind = self.layout.predictor(index)
            if kind == "separable":
                predictors.add(LitePredictor(in_channels, channels, self.layout.predictor_activation))
            elif kind == "factorized":
                predictors.add(FactorizedPredictor(channels))
            else:
                init, kernel = mx.init.Normal(PREDICTOR_SIGMA), self.layout.kernel
                predictors.add(nn.Conv2D(channels, kernel, padding=kernel // 2, weight_initializer=init))
        return predictors

    def reset_predictors(self, num_classes: int) -> nn.HybridSequential:
        """Replace the class predictors by uninitialized ones; returns the old ones."""
        old = self.class_predictors
        self._clear_cached_op()
        self.num_classes = num_classes
        with self.name_scope():
            self.class_predictors = self._predictors(num_classes + 1)
        return old

    def last_convolutions(self) -> List[nn.Conv2D]:
        """The convolutions that output class scores and box offsets."""
        return [last_convolution(p) for p in (*self.class_predictors, *self.box_predictors)]

    def class_convolutions(self) -> List[nn.Conv2D]:
        """The convolutions that output class scores; biases ``(anchors per position * (classes + 1),)``."""
        return [last_convolution(predictor) for predictor in self.class_predictors]

    def feature_maps(self, x: Any) -> List[Any]:
        """All feature maps ``(N, C, H, W)``, finest first."""
        maps = list(self.backbone(x))
        if self.layout.neck:
            maps = list(self.neck(*maps))
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        return maps

    def hybrid_forward(self, F: Any, x: Any) -> Tuple[Any, Any]:
        maps = self.feature_maps(x)
        # (N, K * V, H, W) -> (N, H, W, K * V) -> (N, H * W * K * V), K anchors per position, V values
        classes = [F.flatten(F.transpose(p(m), (0, 2, 3, 1))) for p, m in zip(self.class_predictors, maps)]
        boxes = [F.flatten(F.transpose(p(m), (0, 2, 3, 1))) for p, m in zip(self.box_predictors, maps)]
        # (N, A * V) -> (N, A, V)
        cls_preds = F.reshape(F.concat(*classes, dim=1), (0, -1, self.num_classes + 1))
        box_preds = F.reshape(F.concat(*boxes, dim=1), (0, -1, 4))
        return cls_preds, box_preds


def taps_of_strides(taps: Sequence[Tap], layout: HeadLayout) -> Sequence[Tap]:
    """The taps that a layout reads: all of them, or those with its strides if there are more.

    Raises ValueError if a stride is missing.
    """
    if len(taps) == layout.backbone_maps:
        return taps
    found = [tap for tap in taps if tap.stride in layout.strides]
    if len(found) != layout.backbone_maps:
        raise ValueError(
            f"these heads read feature maps of a backbone with the strides {_strides(layout.strides)}, got "
            f"taps with {_strides(tap.stride for tap in taps)}"
        )
    return found


def _strides(strides: Iterable[int]) -> str:
    return listed(map(str, strides))


def tap_channels(backbone: TappedFeatures, taps: Sequence[Tap]) -> List[int]:
    """Channels of the feature map at each tap, found with the smallest allowed input.

    Raises
    ------
    ValueError
        If a map does not have the stride of its tap.
    """
    _, shapes, _ = mx.sym.Group(list(backbone(mx.sym.var("data")))).infer_shape(data=(1, 3, 96, 96))
    for tap, shape in zip(taps, shapes):
        if shape[2:] != (-(-96 // tap.stride),) * 2:
            raise ValueError(
                f"tap {tap.path!r}: expected stride {tap.stride}, got {96 / shape[3]:g} for a 96x96 input"
            )
    return [shape[1] for shape in shapes]
