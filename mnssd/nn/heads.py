"""The trainable part of a detector: backbone taps, extra layers and predictors of classes and boxes."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from .anchors import anchors_per_position
from .backbones import Tap
from .choices import HEADS
from .layers import add_conv, add_separable
from .tapped_features import TappedFeatures

EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""Channels of each extra layer, after its 1x1 and after its 3x3 convolution with stride 2, as in TensorFlow's
released MobileNet SSDs, chuanqi305's and GluonCV's."""

PREDICTOR_SIGMA = 0.01
"""Standard deviation of the predictors' initial weights (Fast R-CNN, section 4.1). With the backbone's
initialization the first logits, and the first losses, are ten times too large."""


class LitePredictor(HybridBlock):
    """SSDLite predictor: depthwise 3x3, BatchNorm, ReLU6 and a plain 1x1 convolution (`project`)."""

    def __init__(self, in_channels: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.depthwise = nn.HybridSequential()
            add_conv(self.depthwise, in_channels, kernel=3, pad=1, groups=in_channels)
            self.project = nn.Conv2D(channels, 1, weight_initializer=mx.init.Normal(PREDICTOR_SIGMA))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.project(self.depthwise(x))


def last_convolution(predictor: HybridBlock) -> nn.Conv2D:
    """The convolution of a predictor whose output channels are (anchor, value)."""
    return predictor.project if isinstance(predictor, LitePredictor) else predictor


class SSDHeads(HybridBlock):
    """Backbone, extra layers and multibox predictors: from images to class scores and box offsets.

    The `features` of `backbone` become part of this block, up to the second of two `taps`. `num_classes` is
    without the background; `head` is one of `HEADS`.

    Inputs are ``(N, 3, H, W)`` float32, normalized. Outputs are ``cls_preds`` ``(N, A, C + 1)``, logits with
    the background in column 0, and ``box_preds`` ``(N, A, 4)``, offsets of center and log size in units of
    `boxes.STDS`, in the order of `anchors.make_anchors`.
    """

    def __init__(
        self, backbone: HybridBlock, taps: Sequence[Tap], num_classes: int, head: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if head not in HEADS:
            raise ValueError(f"head: expected {' or '.join(HEADS)}, got {head!r}")
        self.num_classes = num_classes
        self._is_lite = head == "ssdlite"
        with self.name_scope():
            self.backbone = TappedFeatures(backbone, taps)
            self.extras = nn.HybridSequential()
            for squeeze, channels in EXTRAS:
                layer = nn.HybridSequential()
                add_conv(layer, squeeze)
                if self._is_lite:
                    add_separable(layer, squeeze, channels, stride=2)
                else:
                    add_conv(layer, channels, kernel=3, stride=2, pad=1)
                self.extras.add(layer)
            self._map_channels = tap_channels(self.backbone, taps) + [channels for _, channels in EXTRAS]
            self.class_predictors = self._predictors(num_classes + 1)
            self.box_predictors = self._predictors(4)

    def _predictors(self, values: int) -> nn.HybridSequential:
        """One predictor for each feature map, with `values` outputs per anchor."""
        predictors = nn.HybridSequential()
        for index, in_channels in enumerate(self._map_channels):
            channels = anchors_per_position(index) * values
            if self._is_lite:
                predictors.add(LitePredictor(in_channels, channels))
            else:
                init = mx.init.Normal(PREDICTOR_SIGMA)
                predictors.add(nn.Conv2D(channels, 3, padding=1, weight_initializer=init))
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
        """All six feature maps ``(N, C, H, W)``, finest first."""
        maps = list(self.backbone(x))
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


def tap_channels(backbone: TappedFeatures, taps: Sequence[Tap]) -> List[int]:
    """Channels of the feature map at each tap, found with the smallest allowed input.

    Raises
    ------
    ValueError
        If there are not two taps, or a map does not have the stride of its tap.
    """
    if len(taps) != 2:
        raise ValueError(f"SSD reads two feature maps of a backbone, got {len(taps)} taps")
    _, shapes, _ = mx.sym.Group(list(backbone(mx.sym.var("data")))).infer_shape(data=(1, 3, 96, 96))
    for tap, shape in zip(taps, shapes):
        if shape[2:] != (-(-96 // tap.stride),) * 2:
            raise ValueError(
                f"tap {tap.path!r}: expected stride {tap.stride}, got {96 / shape[3]:g} for a 96x96 input"
            )
    return [shape[1] for shape in shapes]
