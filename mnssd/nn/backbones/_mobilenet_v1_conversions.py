"""Checkpoints of MobileNetV1 in other libraries."""

from __future__ import annotations

import re
from typing import Any, Mapping, Optional

from . import Conversion

# Separable blocks of each stage in timm: stages begin where the network has a stride.
TIMM_STAGES = (1, 2, 2, 6, 2)

LAST_CONV = 3 + 6 * sum(TIMM_STAGES)
"""Index in `features` of the convolution that timm's ``mobilenetv1_100h`` has before the pooling."""


def _is_timm(arrays: Mapping[str, Any]) -> bool:
    # `conv_pwl`, a projection, is in MobileNetV2 only.
    return {"conv_stem.weight", "blocks.0.0.conv_dw.weight"} <= set(arrays) and not any(
        ".conv_pwl." in name for name in arrays
    )


def _timm_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", layer)
    if match is None:
        return {
            "conv_stem": "features.0", "bn1": "features.1", "conv_head": f"features.{LAST_CONV}",
            "bn2": f"features.{LAST_CONV + 1}", "classifier": "output",
        }.get(layer)  # fmt: skip
    stage, block = int(match[1]), int(match[2])
    index = {"conv_dw": 3, "bn1": 4, "conv_pw": 6, "bn2": 7}.get(match[3])
    if index is None or stage >= len(TIMM_STAGES) or block >= TIMM_STAGES[stage]:
        return None
    return f"features.{6 * (sum(TIMM_STAGES[:stage]) + block) + index}"


def _layer(block: int, inner: str) -> Optional[str]:
    """Layer of a block of PyTorch's two common implementations: a convolution, or a separable one."""
    indices = {"0": 0, "1": 1} if block == 0 else {"0": 3, "1": 4, "3": 6, "4": 7}
    index = indices.get(inner)
    return None if index is None or block > sum(TIMM_STAGES) else f"features.{6 * max(block - 1, 0) + index}"


def _is_marvis(arrays: Mapping[str, Any]) -> bool:
    return {"model.0.0.weight", "model.1.3.weight"} <= arrays.keys()


def _marvis_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"model\.(\d+)\.(\d+)", layer)
    return _layer(int(match[1]), match[2]) if match else {"fc": "output"}.get(layer)


def _is_qfgaohao(arrays: Mapping[str, Any]) -> bool:
    return {"base_net.0.0.weight", "base_net.1.3.weight"} <= arrays.keys()


def _qfgaohao_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"base_net\.(\d+)\.(\d+)", layer)
    return _layer(int(match[1]), match[2]) if match else None


_CONVOLUTIONS = 1 + 2 * sum(TIMM_STAGES)


def gluon_prefix(arrays: Mapping[str, Any]) -> Optional[str]:
    """Prefix of the network's names, as in ``mobilenet0_conv0_weight``.

    A detector has other layers of such names, but its second convolution is not depthwise.
    """
    last = f"batchnorm{_CONVOLUTIONS - 1}_gamma"
    for prefix in (name[: -len(last)] for name in arrays if name.endswith(last)):
        second = arrays.get(f"{prefix}conv1_weight")
        if second is not None and second.shape[1:] == (1, 3, 3):
            return prefix
    return None


def _is_gluon_export(arrays: Mapping[str, Any]) -> bool:
    return gluon_prefix(arrays) is not None


def gluon_layer(layer: str) -> Optional[str]:
    """Layer here of one in the Gluon zoo's network, such as ``features.3`` of ``conv1``; None if unknown."""
    match = re.fullmatch(r"(conv|batchnorm)(\d+)", layer)
    if match is None:
        return "output" if layer == "dense0" else None
    kind, number = match[1], int(match[2])
    return f"features.{3 * number + (kind == 'batchnorm')}" if number <= _CONVOLUTIONS else None


CONVERSIONS = (
    # timm/models/efficientnet.py: mobilenetv1_*, not the tf_ ones, which pad on one side only.
    Conversion(
        "timm MobileNetV1",
        _is_timm,
        _timm_layer,
        pixel_mean=0.5,
        pixel_std=0.5,
        note="use --activation relu6",
        options={"activation": "relu6"},
    ),
    # marvis/pytorch-mobilenet; qfgaohao/pytorch-ssd, vision/nn/mobilenet.py, has the same names.
    Conversion("marvis' MobileNetV1", _is_marvis, _marvis_layer),
    # qfgaohao/pytorch-ssd: vision/ssd/config/mobilenetv1_ssd_config.py, image_mean and image_std.
    Conversion(
        "qfgaohao's SSD with MobileNetV1",
        _is_qfgaohao,
        _qfgaohao_layer,
        pixel_mean=127 / 255,
        pixel_std=128 / 255,
        note="extra layers and heads of the detector are not loaded",
    ),
    Conversion(
        "Gluon MobileNetV1, names of collect_params",
        _is_gluon_export,
        gluon_layer,
        gluon_prefix=gluon_prefix,
    ),
)
