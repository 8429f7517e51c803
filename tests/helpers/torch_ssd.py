"""State dicts of qfgaohao's and lufficc's SSD MobileNets with random weights, and their outputs.

The networks are written here from the families' own code, layer by layer, in MXNet's operators.
"""

from __future__ import annotations

from itertools import product
from math import sqrt
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""t, c, n, s of the paper."""

EXTRAS = ((512, 0.2), (256, 0.25), (256, 0.5), (64, 0.25))
"""Channels and expansion of the bottlenecks after MobileNetV2."""

SIDES = {"lufficc": 320}
STEPS = {"lufficc": (16, 32, 64, 107, 160, 320)}
SIZES = (60, 105, 150, 195, 240, 285, 330)


class TorchNet:
    """Computes a layer and adds its arrays at once; `x` below are ``(N, C, H, W)``."""

    def __init__(self, columns: int) -> None:
        self.arrays: Dict[str, np.ndarray] = {}
        self.rng, self.columns = np.random.default_rng(0), columns

    def conv(self, x: Any, name: str, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1,
             bias: bool = False) -> Any:  # fmt: skip
        inputs = x.shape[1] // groups
        weight = self.rng.normal(0, sqrt(2 / (inputs * kernel**2)), (channels, inputs, kernel, kernel))
        self.arrays[f"{name}.weight"] = weight.astype(np.float32)
        shift = self.rng.normal(0, 0.2, channels) if bias else np.zeros(channels)
        if bias:
            self.arrays[f"{name}.bias"] = shift.astype(np.float32)
        return mx.nd.Convolution(
            x, mx.nd.array(weight), mx.nd.array(shift), kernel=(kernel, kernel), stride=(stride, stride),
            pad=(kernel // 2, kernel // 2), num_filter=channels, num_group=groups,
        )  # fmt: skip

    def norm(self, x: Any, name: str) -> Any:
        count = x.shape[1]
        parts = {
            "weight": self.rng.uniform(0.5, 1.5, count), "bias": self.rng.normal(0, 0.2, count),
            "running_mean": self.rng.normal(0, 0.2, count), "running_var": self.rng.uniform(0.5, 1.5, count),
        }  # fmt: skip
        self.arrays.update({f"{name}.{key}": value.astype(np.float32) for key, value in parts.items()})
        self.arrays[f"{name}.num_batches_tracked"] = np.array([7], np.int64)
        gamma, beta, mean, variance = (mx.nd.array(v.reshape(1, -1, 1, 1)) for v in parts.values())
        return (x - mean) / mx.nd.sqrt(variance + 1e-5) * gamma + beta

    def bottleneck(
        self, x: Any, name: str, channels: int, stride: int, ratio: float, apart: bool
    ) -> List[Any]:
        """The expansion and the output; `apart`: each convolution and its BatchNorm in a module."""
        y, hidden, place, expansion = x, round(x.shape[1] * ratio), 0, None
        for is_depthwise in (False, True):
            if ratio == 1 and not is_depthwise:
                continue
            names = (f"{place // 3}.0", f"{place // 3}.1") if apart else (f"{place}", f"{place + 1}")
            options = {"kernel": 3, "stride": stride, "groups": hidden} if is_depthwise else {}
            y = self.norm(
                self.conv(y, f"{name}.conv.{names[0]}", hidden, **options), f"{name}.conv.{names[1]}"
            )
            y, place = y.clip(0, 6), place + 3
            expansion = y if expansion is None else expansion
        place = place // 3 if apart else place
        y = self.norm(self.conv(y, f"{name}.conv.{place}", channels), f"{name}.conv.{place + 1}")
        return [expansion, x + y if stride == 1 and x.shape[1] == channels else y]

    def v1(self, x: Any) -> List[Any]:
        """MobileNetV1; the outputs of all layers."""
        x = self.norm(self.conv(x, "base_net.0.0", 32, 3, 2), "base_net.0.1").relu()
        outputs = [x]
        for index, (channels, stride) in enumerate(V1, start=1):
            name, count = f"base_net.{index}", x.shape[1]
            x = self.norm(self.conv(x, f"{name}.0", count, 3, stride, count), f"{name}.1").relu()
            x = self.norm(self.conv(x, f"{name}.3", channels), f"{name}.4").relu()
            outputs.append(x)
        return outputs

    def v2(self, x: Any, base: str, apart: bool) -> List[List[Any]]:
        """MobileNetV2; the expansion and the output of all layers."""
        x = self.norm(self.conv(x, f"{base}.0.0", 32, 3, 2), f"{base}.0.1").clip(0, 6)
        outputs = [[None, x]]
        for t, channels, count, stride in V2:
            for index in range(count):
                name = f"{base}.{len(outputs)}"
                outputs.append(self.bottleneck(x, name, channels, 1 if index else stride, t, apart))
                x = outputs[-1][1]
        x = self.norm(self.conv(x, f"{base}.18.0", 1280), f"{base}.18.1").clip(0, 6)
        return [*outputs, [None, x]]

    def head(self, x: Any, name: str, values: int, kind: str) -> np.ndarray:
        """Outputs of a predictor ``(A, values)``.

        `kind` is plain (3x3), point (1x1), norm (depthwise with BatchNorm) or bare (depthwise without).
        """
        count = x.shape[1]
        if kind in ("norm", "bare"):
            x = self.conv(x, f"{name}.0", count, 3, 1, count, bias=True)
            x = self.norm(x, f"{name}.1").clip(0, 6) if kind == "norm" else x.relu()
            name = f"{name}.{3 if kind == 'norm' else 2}"
        y = self.conv(x, name, 6 * values, 3 if kind == "plain" else 1, bias=True)
        return y.asnumpy().transpose(0, 2, 3, 1).reshape(-1, values)  # type: ignore[no-any-return]

    def outputs(
        self, maps: Sequence[Any], names: Tuple[str, str], kinds: Sequence[str], part: str = ""
    ) -> Any:
        """Logits and boxes of all anchors."""
        results: List[List[np.ndarray]] = [[], []]
        for which, values in enumerate((self.columns, 4)):
            for index, (x, kind) in enumerate(zip(maps, kinds)):
                name = f"{names[which]}.{index}" + (part if kind == "norm" else "")
                results[which].append(self.head(x, name, values, kind))
        return tuple(np.concatenate(parts) for parts in results)


def normalized(image: np.ndarray, family: str) -> Any:
    """``(1, 3, H, W)`` of an RGB image ``(1, H, W, 3)``."""
    pixels = image.astype(np.float64)
    pixels = pixels - (123, 117, 104) if family == "lufficc" else (pixels - 127) / 128
    return mx.nd.array(pixels.transpose(0, 3, 1, 2))


def make(kind: str, image: np.ndarray, columns: int = 4) -> Tuple[Dict[str, np.ndarray], Any]:
    """Arrays of a network, and its logits and boxes for an image.

    `kind` is mb1-ssd, mb1-ssd-lite, mb2-ssd-lite or lufficc.
    """
    net = TorchNet(columns)
    x = normalized(image, kind)
    names = ("classification_headers", "regression_headers")
    if kind in ("mb1-ssd", "mb1-ssd-lite"):
        outputs = net.v1(x)
        maps = [outputs[11], outputs[13]]
        for index, (middle, channels) in enumerate(((256, 512), (128, 256), (128, 256), (128, 256))):
            name = f"extras.{index}"
            y = net.conv(maps[-1], f"{name}.0", middle, bias=True).relu()
            if kind == "mb1-ssd":
                maps.append(net.conv(y, f"{name}.2", channels, 3, 2, bias=True).relu())
            else:
                y = net.conv(y, f"{name}.2.0", middle, 3, 2, middle, bias=True).relu()
                maps.append(net.conv(y, f"{name}.2.2", channels, bias=True))
        kinds = ["plain"] * 6 if kind == "mb1-ssd" else ["bare"] * 5 + ["point"]
        return net.arrays, net.outputs(maps, names, kinds)
    is_lufficc = kind == "lufficc"
    layers = net.v2(x, "backbone.features" if is_lufficc else "base_net", is_lufficc)
    maps = [layers[13][1] if is_lufficc else layers[14][0], layers[18][1]]
    for index, (channels, ratio) in enumerate(EXTRAS):
        name = f"backbone.extras.{index}" if is_lufficc else f"extras.{index}"
        maps.append(net.bottleneck(maps[-1], name, channels, 2, ratio, is_lufficc)[1])
    kinds = ["norm"] * 5 + ["point"]
    if is_lufficc:
        names = ("box_head.predictor.cls_headers", "box_head.predictor.reg_headers")
    return net.arrays, net.outputs(maps, names, kinds, ".conv" if is_lufficc else "")


def priors(kind: str, cells: Sequence[int]) -> np.ndarray:
    """Anchors ``(A, 4)``: center x, y, width, height as fractions, clamped."""
    side, steps = SIDES.get(kind, 300), STEPS.get(kind, (16, 32, 64, 100, 150, 300))
    rows: List[Tuple[float, float, float, float]] = []
    for count, step, low, high in zip(cells, steps, SIZES, SIZES[1:]):
        for j, i in product(range(count), repeat=2):
            x, y = (i + 0.5) * step / side, (j + 0.5) * step / side
            small, large = low / side, sqrt(low * high) / side
            rows += [(x, y, small, small), (x, y, large, large)]
            for ratio in (2, 3):
                root = sqrt(ratio)
                rows += [(x, y, small * root, small / root), (x, y, small / root, small * root)]
    return np.clip(np.array(rows), 0, 1)
