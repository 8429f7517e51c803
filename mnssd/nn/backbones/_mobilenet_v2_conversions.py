"""Checkpoints of MobileNetV2 in other libraries.

Their first bottleneck has no expansion. Here it has one, as in the Gluon zoo, and gets weights with which it
returns its input.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Optional

import numpy as np

from . import Conversion

# Bottlenecks of each stage: table 2 of the paper.
TIMM_STAGES = (1, 2, 3, 4, 3, 3, 1)

# Indices in `features`, and in `out` of a bottleneck, where each convolution is followed by its BatchNorm.
FIRST_BLOCK, LAST_CONV = 3, 20
EXPAND, DEPTHWISE, PROJECT = 0, 3, 6

EPSILON = 1e-5
"""Of BatchNorm in MXNet, torchvision and timm."""


def _is_torchvision(arrays: Mapping[str, Any]) -> bool:
    return any(re.match(r"features\.\d+\.conv\.", name) for name in arrays)


def _torchvision_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"features\.(\d+)\.(?:conv\.)?([\d.]+)", layer)
    if match is None:
        return "output.0" if layer == "classifier.1" else None
    block, inner = int(match[1]), match[2]
    if block == 0:
        return {"0": "features.0", "1": "features.1"}.get(inner)
    if block == 18:
        return {"0": f"features.{LAST_CONV}", "1": f"features.{LAST_CONV + 1}"}.get(inner)
    if block == 1:
        indices = {"0.0": DEPTHWISE, "0.1": DEPTHWISE + 1, "1": PROJECT, "2": PROJECT + 1}
    else:
        indices = {
            "0.0": EXPAND, "0.1": EXPAND + 1, "1.0": DEPTHWISE, "1.1": DEPTHWISE + 1, "2": PROJECT,
            "3": PROJECT + 1,
        }  # fmt: skip
    return _bottleneck(block - 1, indices.get(inner)) if block < 18 else None


def _is_timm(arrays: Mapping[str, Any]) -> bool:
    return "conv_stem.weight" in arrays and any(".conv_pwl." in name for name in arrays)


def _timm_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", layer)
    if match is None:
        return {
            "conv_stem": "features.0", "bn1": "features.1", "conv_head": f"features.{LAST_CONV}",
            "bn2": f"features.{LAST_CONV + 1}", "classifier": "output.0",
        }.get(layer)  # fmt: skip
    stage, block = int(match[1]), int(match[2])
    if stage >= len(TIMM_STAGES) or block >= TIMM_STAGES[stage]:
        return None
    number = sum(TIMM_STAGES[:stage]) + block
    if number == 0:
        indices = {"conv_dw": DEPTHWISE, "bn1": DEPTHWISE + 1, "conv_pw": PROJECT, "bn2": PROJECT + 1}
    else:
        indices = {
            "conv_pw": EXPAND, "bn1": EXPAND + 1, "conv_dw": DEPTHWISE, "bn2": DEPTHWISE + 1,
            "conv_pwl": PROJECT, "bn3": PROJECT + 1,
        }  # fmt: skip
    return _bottleneck(number, indices.get(match[3]))


def _is_gluon_without_expansion(arrays: Mapping[str, Any]) -> bool:
    first = arrays.get(f"features.{FIRST_BLOCK}.out.0.weight")
    return first is not None and first.shape[1:] == (1, 3, 3)


def _gluon_layer(layer: str) -> str:
    match = re.fullmatch(rf"features\.{FIRST_BLOCK}\.out\.(\d+)", layer)
    return f"features.{FIRST_BLOCK}.out.{int(match[1]) + DEPTHWISE}" if match else layer


def _bottleneck(number: int, index: Optional[int]) -> Optional[str]:
    return None if index is None else f"features.{FIRST_BLOCK + number}.out.{index}"


def _adapt(arrays: Dict[str, Any]) -> Dict[str, Any]:
    """Add an identity expansion to the first bottleneck, and make the classifier's matrix a convolution.

    The input of the expansion has passed a ReLU6, so that the ReLU6 after it changes nothing.
    """
    classifier = arrays.get("output.0.weight")
    if classifier is not None and classifier.ndim == 2:
        arrays["output.0.weight"] = classifier[:, :, None, None]
    first = f"features.{FIRST_BLOCK}.out"
    depthwise = arrays.get(f"{first}.{DEPTHWISE}.weight")
    if depthwise is None:
        return arrays
    channels = depthwise.shape[0]
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    return {
        **arrays,
        f"{first}.{EXPAND}.weight": np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1),
        f"{first}.{EXPAND + 1}.gamma": ones * np.float32(np.sqrt(1 + EPSILON)),
        f"{first}.{EXPAND + 1}.beta": zeros,
        f"{first}.{EXPAND + 1}.running_mean": zeros.copy(),
        f"{first}.{EXPAND + 1}.running_var": ones.copy(),
    }


CONVERSIONS = (
    Conversion("torchvision MobileNetV2", _is_torchvision, _torchvision_layer, _adapt),
    # timm/models/efficientnet.py: mobilenetv2_*, not the tf_ ones, which pad on one side only.
    Conversion("timm MobileNetV2", _is_timm, _timm_layer, _adapt),
    Conversion("Gluon MobileNetV2 without expansion", _is_gluon_without_expansion, _gluon_layer, _adapt),
)
