"""MobileNets as timm names and computes them, written from its rules without timm or our networks."""

from __future__ import annotations

from math import ceil
from typing import Any, Dict, Iterator, List, Tuple

import mxnet as mx
import numpy as np

Arrays = Dict[str, np.ndarray]

# timm/models/efficientnet.py: _gen_mobilenet_v1 and _gen_mobilenet_v2: channels, blocks, stride.
V1_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
V2_STAGES = (
    (16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1),
)  # fmt: skip

Layer = Tuple[str, str, int, int, int, int]
"""Names of convolution and BatchNorm, input and output channels, kernel, stride."""


def rounded(channels: int, width: float, divisor: int = 8) -> int:
    """timm/layers/helpers.py: make_divisible."""
    value = channels * width
    result = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * value else result


def v2_blocks(width: float, depth: float, divisor: int) -> Iterator[Tuple[List[Layer], bool]]:
    """Layers of each block, and whether its input is added."""
    channels = 32 if depth != 1 else rounded(32, width, divisor)
    for stage, (c, count, first_stride) in enumerate(V2_STAGES):
        out = rounded(c, width, divisor)
        for block in range(count if stage in (0, 6) else ceil(count * depth)):
            stride, name = first_stride if block == 0 else 1, f"blocks.{stage}.{block}"
            if stage == 0:
                layers = [
                    (f"{name}.conv_dw", f"{name}.bn1", 1, channels, 3, stride),
                    (f"{name}.conv_pw", f"{name}.bn2", channels, out, 1, 1),
                ]
            else:
                middle = 6 * channels
                layers = [
                    (f"{name}.conv_pw", f"{name}.bn1", channels, middle, 1, 1),
                    (f"{name}.conv_dw", f"{name}.bn2", 1, middle, 3, stride),
                    (f"{name}.conv_pwl", f"{name}.bn3", middle, out, 1, 1),
                ]
            yield layers, stride == 1 and channels == out
            channels = out


def v1_blocks(width: float) -> Iterator[List[Layer]]:
    channels = rounded(32, width)
    for stage, (c, count, first_stride) in enumerate(V1_STAGES):
        for block in range(count):
            name, out = f"blocks.{stage}.{block}", rounded(c, width)
            stride = first_stride if block == 0 else 1
            yield [
                (f"{name}.conv_dw", f"{name}.bn1", 1, channels, 3, stride),
                (f"{name}.conv_pw", f"{name}.bn2", channels, out, 1, 1),
            ]
            channels = out


class TimmNetwork:
    """A network with random weights; `arrays` is its state dict."""

    def __init__(
        self,
        version: int,
        width: float,
        depth: float = 1.0,
        head: bool = True,
        divisor: int = 8,
        classes: int = 10,
    ) -> None:
        stem = 32 if depth != 1 else rounded(32, width, divisor)
        self.stem: Layer = ("conv_stem", "bn1", 3, stem, 3, 2)
        if version == 1:
            self.blocks = [(layers, False) for layers in v1_blocks(width)]
        else:
            self.blocks = list(v2_blocks(width, depth, divisor))
        self.version, out = version, self.blocks[-1][0][-1][3]
        smallest = 1024 if version == 1 else 1280
        last = max(smallest, rounded(smallest, width, divisor)) if depth == 1 else smallest
        self.head: List[Layer] = [("conv_head", "bn2", out, last, 1, 1)] if head else []
        self.rng = np.random.default_rng(0)
        self.arrays: Arrays = {}
        for layers in ([self.stem], *(block for block, _ in self.blocks), self.head):
            for layer in layers:
                self._fill(*layer[:5])
        # Small, so that logits are of the size of 1 and rounding errors below 1e-4.
        self.arrays["classifier.weight"] = self._normal(classes, last if head else out) * np.float32(0.3)
        self.arrays["classifier.bias"] = self._normal(classes)

    def _normal(self, *shape: int) -> np.ndarray:
        deviation = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.3
        return self.rng.normal(0, deviation, shape).astype(np.float32)

    def _fill(self, name: str, norm: str, channels: int, out: int, kernel: int) -> None:
        self.arrays[f"{name}.weight"] = self._normal(out, channels, kernel, kernel)
        for part, low, high in (
            ("weight", 0.7, 1.3), ("bias", -0.5, 0.5), ("running_mean", -0.2, 0.2), ("running_var", 0.5, 1.5)
        ):  # fmt: skip
            self.arrays[f"{norm}.{part}"] = self.rng.uniform(low, high, out).astype(np.float32)
        self.arrays[f"{norm}.num_batches_tracked"] = np.array(1, np.int64)

    def _layer(self, x: Any, layer: Layer, padding: bool = True, activation: bool = True) -> Any:
        name, norm, channels, out, kernel, stride = layer
        a = {key: mx.nd.array(value) for key, value in self.arrays.items() if key.startswith((name, norm))}
        pad = kernel // 2 if padding else 0
        groups = out if channels == 1 else 1
        x = mx.nd.Convolution(
            x, a[f"{name}.weight"], kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad),
            num_filter=out, num_group=groups, no_bias=True,
        )  # fmt: skip
        mean, variance, gamma, beta = (
            a[f"{norm}.{part}"].reshape((1, -1, 1, 1))
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (variance + 1e-5).sqrt() * gamma + beta
        return x.clip(0, 6) if activation else x

    def logits(self, pixels: np.ndarray, mean: np.ndarray, std: np.ndarray, border: np.ndarray) -> np.ndarray:
        """Logits of pixels ``(N, 3, H, W)`` in 0..1; `border` is the color around the images."""
        padded = np.tile(
            border.reshape(1, 3, 1, 1), (len(pixels), 1, pixels.shape[2] + 2, pixels.shape[3] + 2)
        )
        padded[:, :, 1:-1, 1:-1] = pixels
        x = mx.nd.array((padded - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1))
        x = self._layer(x, self.stem, padding=False)
        for layers, is_added in self.blocks:
            start = x
            for layer in layers:
                is_last = layer is layers[-1]
                x = self._layer(x, layer, activation=not is_last or self.version == 1)
            x = x + start if is_added else x
        for layer in self.head:
            x = self._layer(x, layer)
        features = x.mean(axis=(2, 3)).asnumpy().astype(np.float64)
        return features @ self.arrays["classifier.weight"].T + self.arrays["classifier.bias"]
