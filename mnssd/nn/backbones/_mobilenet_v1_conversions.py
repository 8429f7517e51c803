"""Checkpoints of MobileNetV1 in other libraries."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional

from . import Conversion

# Separable blocks of each stage in timm: stages begin where the network has a stride.
TIMM_STAGES = (1, 2, 2, 6, 2)


def _is_timm(arrays: Mapping[str, Any]) -> bool:
    # `conv_pwl`, a projection, is in MobileNetV2 only.
    return {"conv_stem.weight", "blocks.0.0.conv_dw.weight"} <= set(arrays) and not any(
        ".conv_pwl." in name for name in arrays
    )


def _timm_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", layer)
    if match is None:
        return {"conv_stem": "features.0", "bn1": "features.1", "classifier": "output"}.get(layer)
    stage, block = int(match[1]), int(match[2])
    index = {"conv_dw": 3, "bn1": 4, "conv_pw": 6, "bn2": 7}.get(match[3])
    if index is None or stage >= len(TIMM_STAGES) or block >= TIMM_STAGES[stage]:
        return None
    return f"features.{6 * (sum(TIMM_STAGES[:stage]) + block) + index}"


CONVERSIONS = (
    # timm/models/efficientnet.py: mobilenetv1_*, not the tf_ ones, which pad on one side only.
    Conversion(
        "timm MobileNetV1",
        _is_timm,
        _timm_layer,
        pixel_mean=0.5,
        pixel_std=0.5,
        note="use --activation relu6",
    ),
)
