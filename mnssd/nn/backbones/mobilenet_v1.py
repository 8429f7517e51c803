"""MobileNetV1 (Howard et al. 2017), with the structure and parameter names of the Gluon model zoo."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..choices import ACTIVATIONS
from ..layers import add_conv, add_separable, scale_channels
from . import Backbone, Tap, backbones
from ._mobilenet_v1_conversions import CONVERSIONS

# Table 1 of the paper: (output channels, stride) of each separable block.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(HybridBlock):
    """MobileNetV1: depthwise separable convolutions throughout.

    Same parameter names and shapes as ``mxnet.gluon.model_zoo.vision.mobilenet1_0`` and its siblings. The
    width `multiplier` is that of section 3.3 of the paper; the activation is ``'relu'`` as in the zoo, or
    ``'relu6'`` as in TensorFlow's release.

    Inputs are ``(N, 3, H, W)`` float32, RGB in 0..1 minus the ImageNet mean, divided by its standard
    deviation. The output is ``(N, classes)`` logits.
    """

    # Outputs of the 11th and the 13th separable block.
    taps = (Tap("features.68", 16), Tap("features.80", 32))

    def __init__(
        self, multiplier: float = 1.0, classes: int = 1000, activation: str = "relu", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                channels = scale_channels(32, multiplier)
                add_conv(self.features, channels, kernel=3, stride=2, pad=1, act=activation)
                for c, stride in BLOCKS:
                    out_channels = scale_channels(c, multiplier)
                    add_separable(self.features, channels, out_channels, stride, act=activation)
                    channels = out_channels
                self.features.add(nn.GlobalAvgPool2D())
                self.features.add(nn.Flatten())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


# Authors' TensorFlow release: research/slim/nets/mobilenet_v1.md at github.com/tensorflow/models.
PUBLISHED = {
    (width, size): top1
    for width, accuracies in {
        1.0: (70.9, 70.0, 68.0, 65.2),
        0.75: (68.4, 67.2, 65.3, 62.1),
        0.5: (63.3, 61.7, 59.1, 56.3),
        0.25: (49.8, 47.7, 45.5, 41.5),
    }.items()
    for size, top1 in zip((224, 192, 160, 128), accuracies)
}

backbones.register(
    "mobilenet_v1",
    Backbone(
        name="mobilenet_v1",
        build=MobileNetV1,
        taps=MobileNetV1.taps,
        options={"activation": ACTIVATIONS},
        widths=(1.0, 0.75, 0.5, 0.25),
        published=PUBLISHED,
        conversions=CONVERSIONS,
    ),
)
