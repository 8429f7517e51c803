"""Gluon blocks and nothing else: MobileNetV1, MobileNetV2 and the SSD detectors on them."""

from ..runtime.environment import check_opencv

# Before GluonCV is imported: where OpenCV cannot be loaded, it says that MXNet is missing.
check_opencv()

from .layers import RELU6, LinearBottleneck  # noqa: E402
from .mobilenet import MobileNetV1, MobileNetV2  # noqa: E402
from .ssd import SSD  # noqa: E402

__all__ = ["RELU6", "SSD", "LinearBottleneck", "MobileNetV1", "MobileNetV2"]
