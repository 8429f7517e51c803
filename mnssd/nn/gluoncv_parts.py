"""GluonCV's parts of a detector, imported here only.

GluonCV takes 0.4 s to import beside MXNet's 6.4 s (``python -X importtime -c 'import mnssd.nn.ssd'``). Its
anchor generators and datasets take nothing more: importing any part of it imports them.
"""

from __future__ import annotations

from ..runtime.environment import check_opencv

# Before GluonCV is imported, which reports a missing MXNet if OpenCV cannot be loaded.
check_opencv()

from gluoncv.data import COCODetection, VOCDetection  # noqa: E402
from gluoncv.model_zoo.ssd.anchor import LiteAnchorGenerator, SSDAnchorGenerator  # noqa: E402
from gluoncv.nn.coder import MultiPerClassDecoder, NormalizedBoxCenterDecoder  # noqa: E402

__all__ = [
    "COCODetection",
    "LiteAnchorGenerator",
    "MultiPerClassDecoder",
    "NormalizedBoxCenterDecoder",
    "SSDAnchorGenerator",
    "VOCDetection",
]
