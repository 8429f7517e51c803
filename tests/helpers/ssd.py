"""Narrow SSD detectors with random weights."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np

from mnssd.nn import SSD, MobileNetV1, MobileNetV2

from .networks import fill, images

NETWORKS = {"v1": MobileNetV1, "v2": MobileNetV2}
CLASSES = ("cat", "dog", "cow")


def detector(
    network: str = "v2",
    head: str = "ssd",
    size: Tuple[int, int] = (96, 96),
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> SSD:
    """A narrow detector whose random weights give detections."""
    net = SSD(NETWORKS[network](0.25, 1), classes, size, head)
    net.initialize()
    net(images(1, *size))
    fill(net.heads, seed)
    return net


def numbers(outputs: Sequence[Any]) -> List[np.ndarray]:
    return [output.asnumpy() for output in outputs]
