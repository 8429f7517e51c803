"""Gluon blocks: backbones and the SSD detectors built on them. Loaded on first use, with MXNet."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones.mobilenet_v1 import MobileNetV1
    from .backbones.mobilenet_v2 import MobileNetV2
    from .layers import RELU6, LinearBottleneck
    from .ssd import SSD

__all__ = ["RELU6", "SSD", "LinearBottleneck", "MobileNetV1", "MobileNetV2"]

_MODULES = {
    "RELU6": "layers",
    "SSD": "ssd",
    "LinearBottleneck": "layers",
    "MobileNetV1": "backbones.mobilenet_v1",
    "MobileNetV2": "backbones.mobilenet_v2",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
