"""MobileNetV2 (Sandler et al. 2018), with the structure and parameter names of the Gluon model zoo."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..choices import SHORTCUTS
from ..layers import LinearBottleneck, add_conv, scale_channels
from . import Backbone, Tap, backbones
from ._mobilenet_v2_conversions import CONVERSIONS

# Table 2 of the paper: (t, c, n, s). The Gluon zoo has its strides in the same blocks.
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class MobileNetV2(HybridBlock):
    """MobileNetV2: inverted residuals with linear bottlenecks.

    Same parameter names and shapes as ``mxnet.gluon.model_zoo.vision.mobilenet_v2_1_0`` and its siblings. The
    last 1280 channels grow with the width `multiplier` above 1 but do not shrink below it (paper, section 5).
    The shortcut is ``'identity'`` or ``'projection'``, see `LinearBottleneck`.

    Inputs are ``(N, 3, H, W)`` float32, RGB in 0..1 minus the ImageNet mean, divided by its standard
    deviation. The output is ``(N, classes)`` logits.
    """

    # The expansion in the first 160-channel bottleneck, before its stride ("layer 15" in section 6.2 of the
    # paper), and the last ReLU6.
    taps = (Tap("features.16.out.2", 16), Tap("features.22", 32))

    def __init__(
        self, multiplier: float = 1.0, classes: int = 1000, shortcut: str = "identity", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="features_")
            with self.features.name_scope():
                channels = scale_channels(32, multiplier)
                add_conv(self.features, channels, kernel=3, stride=2, pad=1)
                for t, c, n, s in STAGES:
                    out_channels = scale_channels(c, multiplier)
                    for i in range(n):
                        stride = s if i == 0 else 1
                        self.features.add(LinearBottleneck(channels, out_channels, t, stride, shortcut))
                        channels = out_channels
                add_conv(self.features, scale_channels(1280, multiplier) if multiplier > 1 else 1280)
                self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(nn.Conv2D(classes, 1, use_bias=False, prefix="pred_"), nn.Flatten())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


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
        options={"shortcut": SHORTCUTS},
        widths=(1.0, 0.75, 0.5, 0.25, 0.35, 1.4),
        published=PUBLISHED,
        conversions=CONVERSIONS,
    ),
)
