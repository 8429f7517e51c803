"""Checkpoints of MobileNetV2 in other libraries.

Their first bottleneck has no expansion. Here it has one, as in the Gluon zoo, and gets weights with which it
returns its input.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Match, Optional

import numpy as np

from . import Conversion

STAGE_COUNT = 7
"""Stages of bottlenecks: table 2 of the paper."""

# A bottleneck of a stage, until the number of those before it is known.
_STAGE_NAME = re.compile(r"^stages\.(\d)\.(\d+)\.")

# Indices in `features`, and in `out` of a bottleneck, where each convolution is followed by its BatchNorm.
FIRST_BLOCK, LAST_CONV = 3, 20
EXPAND, DEPTHWISE, PROJECT = 0, 3, 6

EPSILON = 1e-5
"""Of BatchNorm in MXNet, torchvision and timm."""


def _is_torchvision(arrays: Mapping[str, Any]) -> bool:
    return {"features.1.conv.0.0.weight", "features.2.conv.1.0.weight"} <= arrays.keys()


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


def _is_tonylins(arrays: Mapping[str, Any]) -> bool:
    return {"features.1.conv.0.weight", "features.2.conv.6.weight"} <= arrays.keys()


def _has_first_expansion(arrays: Mapping[str, Any]) -> bool:
    return _is_tonylins(arrays) and "features.1.conv.6.weight" in arrays


def _tonylins_layer(layer: str, first_index: int = DEPTHWISE) -> Optional[str]:
    """`first_index` is that of the first layer of the first bottleneck."""
    if layer in ("classifier", "classifier.1"):
        return "output.0"
    match = re.fullmatch(r"(?:features\.(\d+)|conv)\.(?:conv\.)?([\d.]+)", layer)
    if match is None:
        return None
    block, inner = int(match[1] or 18), match[2]
    if block in (0, 18):  # 18 is `conv` in d-li14's
        start = 0 if block == 0 else LAST_CONV
        return {"0": f"features.{start}", "1": f"features.{start + 1}"}.get(inner)
    index = int(inner) + (first_index if block == 1 else 0) if inner.isdigit() else LAST_CONV
    return _bottleneck(block - 1, index) if block < 18 and index <= PROJECT + 1 else None


def _is_lufficc(arrays: Mapping[str, Any]) -> bool:
    return "backbone.features.1.conv.0.0.weight" in arrays and any("box_head." in name for name in arrays)


def _lufficc_layer(layer: str) -> Optional[str]:
    prefix, _, name = layer.partition(".")
    return _torchvision_layer(name) if prefix == "backbone" else None


def _is_qfgaohao(arrays: Mapping[str, Any]) -> bool:
    return {"base_net.1.conv.0.weight", "base_net.2.conv.6.weight"} <= arrays.keys()


def _qfgaohao_layer(layer: str) -> Optional[str]:
    prefix, _, name = layer.partition(".")
    return _tonylins_layer(f"features.{name}") if prefix == "base_net" else None


def _is_timm(arrays: Mapping[str, Any]) -> bool:
    return "conv_stem.weight" in arrays and any(".conv_pwl." in name for name in arrays)


def _timm_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", layer)
    if match is None:
        return {
            "conv_stem": "features.0", "bn1": "features.1", "conv_head": "last.0", "bn2": "last.1",
            "classifier": "output.0",
        }.get(layer)  # fmt: skip
    stage, block = int(match[1]), int(match[2])
    if stage >= STAGE_COUNT or (stage == 0 and block > 0):
        return None
    if stage == 0:
        indices = {"conv_dw": DEPTHWISE, "bn1": DEPTHWISE + 1, "conv_pw": PROJECT, "bn2": PROJECT + 1}
    else:
        indices = {
            "conv_pw": EXPAND, "bn1": EXPAND + 1, "conv_dw": DEPTHWISE, "bn2": DEPTHWISE + 1,
            "conv_pwl": PROJECT, "bn3": PROJECT + 1,
        }  # fmt: skip
    index = indices.get(match[3])
    return None if index is None else f"stages.{stage}.{block}.{index}"


def _adapt_timm(arrays: Dict[str, Any]) -> Dict[str, Any]:
    """Number the bottlenecks, of which deeper networks have more in each stage; then as `_adapt`."""
    counts = [0] * STAGE_COUNT
    for match in filter(None, map(_STAGE_NAME.match, arrays)):
        stage, block = int(match[1]), int(match[2])
        counts[stage] = max(counts[stage], block + 1)

    def numbered(match: Match[str]) -> str:
        return f"features.{FIRST_BLOCK + sum(counts[: int(match[1])]) + int(match[2])}.out."

    numbers = {_STAGE_NAME.sub(numbered, name): value for name, value in arrays.items()}
    return _adapt(_place_last(numbers))


def _place_last(arrays: Dict[str, Any]) -> Dict[str, Any]:
    """Put the last convolution and its BatchNorm, called ``last.0`` and ``last.1``, after the bottlenecks."""
    blocks = [int(match[1]) for match in map(re.compile(r"features\.(\d+)\.out\.").match, arrays) if match]
    end = max(blocks, default=LAST_CONV - 1) + 1
    return {re.sub(r"^last\.(\d)", lambda m: f"features.{end + int(m[1])}", n): v for n, v in arrays.items()}


def _gluon_prefix(arrays: Mapping[str, Any]) -> Optional[str]:
    """Prefix of the network's names, as in ``mobilenetv20_features_conv0_weight``."""
    last = "features_batchnorm0_gamma"
    return next((name[: -len(last)] for name in arrays if name.endswith(last)), None)


def _is_gluon_export(arrays: Mapping[str, Any]) -> bool:
    prefix = _gluon_prefix(arrays)
    return prefix is not None and f"{prefix}features_linearbottleneck1_conv0_weight" in arrays


def _gluon_export_layer(layer: str) -> Optional[str]:
    match = re.fullmatch(r"features_(?:linearbottleneck(\d+)_)?(conv|batchnorm)(\d+)", layer)
    if match is None:
        return "output.0" if layer == "output_pred" else None
    block, kind, number = match.groups()
    offset = 1 if kind == "batchnorm" else 0
    if block:
        return _bottleneck(int(block), 3 * int(number) + offset)
    return {"0": f"features.{offset}", "1": f"last.{offset}"}.get(number)


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
    if depthwise is None or f"{first}.{EXPAND}.weight" in arrays:
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


DETECTOR_NOTE = "extra layers and heads of the detector are not loaded"

CONVERSIONS = (
    Conversion("torchvision MobileNetV2", _is_torchvision, _torchvision_layer, _adapt),
    # tonylins/pytorch-mobilenet-v2: MobileNetV2.py, first with an expansion in the first bottleneck, later
    # without; d-li14/mobilenetv2.pytorch has the same names.
    Conversion(
        "tonylins' MobileNetV2",
        _has_first_expansion,
        lambda layer: _tonylins_layer(layer, EXPAND),
        _adapt,
    ),
    Conversion("tonylins' MobileNetV2", _is_tonylins, _tonylins_layer, _adapt),
    # lufficc/SSD: ssd/config/defaults.py, PIXEL_MEAN; pixels are not scaled.
    Conversion(
        "lufficc's SSD with MobileNetV2",
        _is_lufficc,
        _lufficc_layer,
        _adapt,
        pixel_mean=(123 / 255, 117 / 255, 104 / 255),
        pixel_std=1 / 255,
        note=DETECTOR_NOTE,
    ),
    # qfgaohao/pytorch-ssd: vision/ssd/config/mobilenetv1_ssd_config.py, image_mean and image_std.
    Conversion(
        "qfgaohao's SSD with MobileNetV2",
        _is_qfgaohao,
        _qfgaohao_layer,
        _adapt,
        pixel_mean=127 / 255,
        pixel_std=128 / 255,
        note=DETECTOR_NOTE,
    ),
    # timm/models/efficientnet.py: mobilenetv2_*, not the tf_ ones, which pad on one side only.
    Conversion("timm MobileNetV2", _is_timm, _timm_layer, _adapt_timm),
    Conversion(
        "Gluon MobileNetV2, names of collect_params",
        _is_gluon_export,
        _gluon_export_layer,
        _place_last,
        gluon_prefix=_gluon_prefix,
    ),
    Conversion("Gluon MobileNetV2 without expansion", _is_gluon_without_expansion, _gluon_layer, _adapt),
)
