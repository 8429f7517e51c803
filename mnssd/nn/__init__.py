"""Gluon blocks and nothing else: MobileNetV1, MobileNetV2 and the SSD detectors on them."""

from .layers import RELU6, LinearBottleneck
from .mobilenet import MobileNetV1, MobileNetV2
from .ssd import SSD

__all__ = ["RELU6", "SSD", "LinearBottleneck", "MobileNetV1", "MobileNetV2"]
