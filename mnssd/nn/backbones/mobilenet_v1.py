"""MobileNetV1 (Howard et al. 2017), with the structure and parameter names of the Gluon model zoo."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ...imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..choices import ACTIVATIONS, CLASSIFIERS
from ..input_layer import input_layer
from ..layers import add_conv, add_separable, scale_channels
from . import INPUT_VARIANTS, Backbone, Structure, Tap, backbones
from ._mobilenet_v1_conversions import CONVERSIONS, LAST_CONV
from ._structures import Shapes, find_structure, output_channels

# Table 1 of the paper: (output channels, stride) of each separable block.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(HybridBlock):
    """MobileNetV1: depthwise separable convolutions throughout.

    Same parameter names and shapes as ``mxnet.gluon.model_zoo.vision.mobilenet1_0`` and its siblings. The
    width `multiplier` is that of section 3.3 of the paper; the activation is ``'relu'`` as in the zoo, or
    ``'relu6'`` as in TensorFlow's release. `divisor` is that of `layers.scale_channels`; `last_conv` adds a
    1x1 convolution before the pooling, as in timm's ``mobilenetv1_100h``. `rotated`, `pixel_mean` and
    `pixel_std` are those of `input_layer.InputLayer`.

    The `classifier` is ``'dense'``, global average pooling and a dense layer; or ``'conv'``, a 1x1
    convolution to the classes with BatchNorm and activation, global average pooling and a dense layer.

    Inputs are ``(N, 3, H, W)`` float32, RGB in 0..1 minus the ImageNet mean, divided by its standard
    deviation. The output is ``(N, classes)`` logits.
    """

    # Outputs of the 5th, the 11th and the 13th separable block.
    taps = (Tap("features.32", 8), Tap("features.68", 16), Tap("features.80", 32))

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 1000,
        activation: str = "relu",
        divisor: int = 0,
        last_conv: bool = False,
        classifier: str = "dense",
        rotated: bool = False,
        pixel_mean: Sequence[float] = IMAGENET_MEAN,
        pixel_std: Sequence[float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if classifier not in CLASSIFIERS:
            raise ValueError(f"classifier: expected {' or '.join(CLASSIFIERS)}, got {classifier!r}")
        first, *blocks = layer_channels(multiplier, divisor)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                channels = first
                add_conv(self.features, channels, kernel=3, stride=2, pad=1, act=activation)
                for out_channels, (_, stride) in zip(blocks, BLOCKS):
                    add_separable(self.features, channels, out_channels, stride, act=activation)
                    channels = out_channels
                if last_conv:
                    add_conv(self.features, max(1024, channels), act=activation)
                if classifier == "dense":
                    self.features.add(nn.GlobalAvgPool2D())
                    self.features.add(nn.Flatten())
            self.output = (
                nn.Dense(classes) if classifier == "dense" else _conv_classifier(classes, activation)
            )
            self.input = input_layer(rotated, pixel_mean, pixel_std)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(self.input(x) if self.input else x))


def _conv_classifier(classes: int, activation: str) -> nn.HybridSequential:
    """1x1 convolution to the classes, pooling and a dense layer, on the last feature map."""
    output, convolution = nn.HybridSequential(), nn.HybridSequential()
    with output.name_scope():
        add_conv(convolution, classes, act=activation)
        output.add(convolution, nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(classes))
    return output


def layer_channels(multiplier: float, divisor: int = 0) -> Tuple[int, ...]:
    """Channels after the first convolution and after each separable block."""
    return tuple(scale_channels(channels, multiplier, divisor) for channels in (32, *(c for c, _ in BLOCKS)))


def recognize(shapes: Shapes, width: Optional[float], classes: Optional[int]) -> Optional[Structure]:
    """See `Backbone.recognize`."""
    channels = output_channels(shapes, ["features.0", *(f"features.{6 * i + 6}" for i in range(len(BLOCKS)))])
    if len(shapes.get("features.3.weight", ())) != 4 or "features.6.weight" not in shapes:
        return None
    structure = find_structure(channels, layer_channels, width)
    if structure and classes is not None and len(shapes.get(f"features.{LAST_CONV}.weight", ())) == 4:
        structure.variant["last_conv"] = True
    # For other classes these layers would be a random network's.
    if structure and classes is not None and shapes.get("output.0.0.weight", ())[:1] == (classes,):
        structure.options["classifier"] = "conv"
    return structure


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
        options={"activation": ACTIVATIONS, "classifier": CLASSIFIERS},
        widths=(1.0, 0.75, 0.5, 0.25),
        published=PUBLISHED,
        conversions=CONVERSIONS,
        variants={"divisor": 0, "last_conv": False, **INPUT_VARIANTS},
        recognize=recognize,
    ),
)
