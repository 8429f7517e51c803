"""Reference logits of torchvision's MobileNetV2, from PyTorch alone, for tests/weights/test_logits.py.

    .venv-peers/bin/pip install pillow                    # beside the PyTorch of `make bench`
    .venv-peers/bin/python benchmarks/torchvision_logits.py WEIGHTS.pth VOCDEVKIT tests/weights/logits.npz

WEIGHTS.pth is torchvision's mobilenet_v2-b0353104.pth; the images are every 1/20 of VOC2007/JPEGImages by
name. Preprocessing: Pillow, RGB, bilinear to 224x224 without keeping proportions, divided by 255, minus
ImageNet's mean, divided by its standard deviation. The network is written here after table 2 of the paper
(Sandler et al. 2018) with the names of the state dict, and computes in float64.

Content of the file: `names` of the images, SHA-256 of their `pixels` after resizing, `logits` (20, 1000).
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

COUNT, SIDE = 20, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion factor, channels, bottlenecks, stride of the first one: table 2 of the paper."""


def convolve(weights: Mapping[str, Any], name: str, norm: str, x: Any, stride: int = 1) -> Any:
    """Convolution and BatchNorm; a weight with one input channel is that of a depthwise convolution."""
    kernel = weights[f"{name}.weight"]
    groups = x.shape[1] if kernel.shape[1] == 1 else 1
    x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2, groups=groups)
    statistics = (weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, *statistics, eps=1e-5)


def compute_logits(weights: Mapping[str, Any], x: Any) -> Any:
    """Logits ``(N, 1000)`` of normalized images ``(N, 3, H, W)``."""
    x = functional.relu6(convolve(weights, "features.0.0", "features.0.1", x, 2))
    number = 0
    for expansion, channels, count, first_stride in STAGES:
        for position in range(count):
            number += 1
            start, stride = x, first_stride if position == 0 else 1
            layer = 0
            if expansion > 1:
                name = f"features.{number}.conv.0"
                x = functional.relu6(convolve(weights, f"{name}.0", f"{name}.1", x))
                layer = 1
            name = f"features.{number}.conv"
            x = functional.relu6(convolve(weights, f"{name}.{layer}.0", f"{name}.{layer}.1", x, stride))
            x = convolve(weights, f"{name}.{layer + 1}", f"{name}.{layer + 2}", x)
            if stride == 1 and start.shape[1] == channels:
                x = x + start
    x = functional.relu6(convolve(weights, "features.18.0", "features.18.1", x))
    return functional.linear(x.mean((2, 3)), weights["classifier.1.weight"], weights["classifier.1.bias"])


def read_pixels(path: Path) -> np.ndarray:
    """``(224, 224, 3)`` uint8."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def main(weights_file: str, devkit: str, output: str) -> None:
    """Compute and store the logits."""
    weights = {name: value.double() for name, value in torch.load(weights_file, weights_only=True).items()}
    paths = sorted((Path(devkit) / "VOC2007" / "JPEGImages").glob("*.jpg"))
    paths = [paths[i * len(paths) // COUNT] for i in range(COUNT)]
    pixels = np.stack([read_pixels(path) for path in paths])
    images = torch.tensor((pixels / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = compute_logits(weights, images).numpy()
    np.savez_compressed(
        output,
        names=np.array([path.name for path in paths]),
        pixels=np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]),
        logits=logits.astype(np.float32),
    )
    print(f"{len(paths)} images, logits {logits.min():.2f} to {logits.max():.2f}; torch {torch.__version__}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
