"""The names that others give to the arrays of a MobileNet, turned into this package's (and the Gluon zoo's).

Known are torchvision's ``mobilenet_v2``, timm's ``mobilenetv2_*`` and ``mobilenetv1_*`` (the plain ones,
whose convolutions pad on both sides; the ``tf_`` ones pad otherwise and cannot be had here), and Gluon files
of a MobileNetV2 without the expansion of its first bottleneck.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..data.image import IMAGENET_MEAN, IMAGENET_STD

EPSILON = 1e-5
"""Of BatchNorm in MXNet, torchvision and timm alike."""

# timm/models/efficientnet.py: mobilenetv1_* were trained on pixels minus 0.5 over 0.5.
TIMM_V1_MEAN, TIMM_V1_STD = 0.5, 0.5

# Bottlenecks, or separable blocks, of each stage in timm: MobileNetV2 paper, table 2; V1 by its strides.
TIMM_V2_STAGES = (1, 2, 3, 4, 3, 3, 1)
TIMM_V1_STAGES = (1, 2, 2, 6, 2)

# Indices within the zoo's `features`.
V2_FIRST_BLOCK, V2_LAST_CONV = 3, 20
EXPAND, DEPTHWISE, PROJECT = 0, 3, 6  # within a bottleneck's `out`; each is followed by its BatchNorm


class Converted(NamedTuple):
    """Arrays under this package's names, and what the user should know of them."""

    arrays: Dict[str, np.ndarray]
    notes: List[str]


def convert(arrays: Mapping[str, np.ndarray]) -> Converted:
    """Rename what is known to be of one of the above; anything else is handed back as it is.

    Arrays with names that do not belong keep them, so that the report of loading shows them.
    """
    if any(re.match(r"features\.\d+\.conv\.", name) for name in arrays):
        return Converted(_without_expansion(_rename(arrays, _torchvision_v2)), ["named as by torchvision"])
    if "conv_stem.weight" in arrays and any(".conv_pwl." in name for name in arrays):
        return Converted(_without_expansion(_rename(arrays, _timm_v2)), ["named as by timm, MobileNetV2"])
    if "conv_stem.weight" in arrays and "blocks.0.0.conv_dw.weight" in arrays:
        renamed = _rename(arrays, _timm_v1)
        _expect_imagenet_pixels(renamed)
        note = (
            "named as by timm, MobileNetV1; for ImageNet's mean and deviation now, and for --activation relu6"
        )
        return Converted(renamed, [note])
    first = arrays.get(f"features.{V2_FIRST_BLOCK}.out.0.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == 1 and first.shape[2] == 3:
        return Converted(_without_expansion(_rename(arrays, _zoo_without_expansion)), [])
    return Converted(dict(arrays), [])


def _rename(
    arrays: Mapping[str, np.ndarray], layer_of: Callable[[str], Optional[str]]
) -> Dict[str, np.ndarray]:
    renamed: Dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        layer, _, what = name.rpartition(".")
        if what == "num_batches_tracked":
            continue
        place = layer_of(layer)
        if place is None:
            renamed[name] = value
            continue
        if place.startswith("output"):
            if what == "weight" and place == "output.0":  # a convolution here, a matrix there
                value = value.reshape(*value.shape[:2], 1, 1)
        elif value.ndim == 1:
            what = {"weight": "gamma", "bias": "beta"}.get(what, what)
        renamed[f"{place}.{what}"] = value
    return renamed


def _torchvision_v2(layer: str) -> Optional[str]:
    match = re.fullmatch(r"features\.(\d+)\.(?:conv\.)?([\d.]+)", layer)
    if match is None:
        return "output.0" if layer == "classifier.1" else None
    block, inner = int(match[1]), match[2]
    if block == 0:
        return {"0": "features.0", "1": "features.1"}.get(inner)
    if block == 18:
        return {"0": f"features.{V2_LAST_CONV}", "1": f"features.{V2_LAST_CONV + 1}"}.get(inner)
    if block == 1:
        places = {"0.0": DEPTHWISE, "0.1": DEPTHWISE + 1, "1": PROJECT, "2": PROJECT + 1}
    else:
        places = {
            "0.0": EXPAND, "0.1": EXPAND + 1, "1.0": DEPTHWISE, "1.1": DEPTHWISE + 1, "2": PROJECT,
            "3": PROJECT + 1,
        }  # fmt: skip
    return _bottleneck(block - 1, places.get(inner)) if block < 18 else None


def _timm_v2(layer: str) -> Optional[str]:
    single = {
        "conv_stem": "features.0", "bn1": "features.1", "conv_head": f"features.{V2_LAST_CONV}",
        "bn2": f"features.{V2_LAST_CONV + 1}", "classifier": "output.0",
    }  # fmt: skip
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", layer)
    if match is None:
        return single.get(layer)
    number = _number(TIMM_V2_STAGES, int(match[1]), int(match[2]))
    if number == 0:
        places = {"conv_dw": DEPTHWISE, "bn1": DEPTHWISE + 1, "conv_pw": PROJECT, "bn2": PROJECT + 1}
    else:
        places = {
            "conv_pw": EXPAND, "bn1": EXPAND + 1, "conv_dw": DEPTHWISE, "bn2": DEPTHWISE + 1,
            "conv_pwl": PROJECT, "bn3": PROJECT + 1,
        }  # fmt: skip
    return _bottleneck(number, places.get(match[3]))


def _timm_v1(layer: str) -> Optional[str]:
    single = {"conv_stem": "features.0", "bn1": "features.1", "classifier": "output"}
    match = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)", layer)
    if match is None:
        return single.get(layer)
    number = _number(TIMM_V1_STAGES, int(match[1]), int(match[2]))
    place = {"conv_dw": 3, "bn1": 4, "conv_pw": 6, "bn2": 7}.get(match[3])
    return None if number is None or place is None else f"features.{6 * number + place}"


def _zoo_without_expansion(layer: str) -> str:
    match = re.fullmatch(rf"features\.{V2_FIRST_BLOCK}\.out\.(\d+)", layer)
    return _bottleneck(0, int(match[1]) + DEPTHWISE) or layer if match else layer


def _number(stages: Sequence[int], stage: int, block: int) -> Optional[int]:
    """Of a block, counted through all stages."""
    if stage >= len(stages) or block >= stages[stage]:
        return None
    return sum(stages[:stage]) + block


def _bottleneck(number: Optional[int], place: Optional[int]) -> Optional[str]:
    if number is None or place is None:
        return None
    return f"features.{V2_FIRST_BLOCK + number}.out.{place}"


def _without_expansion(arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Add an expansion to the first bottleneck that hands its input on.

    What comes in has passed a ReLU6, so that the one behind the expansion changes nothing either.
    """
    first = f"features.{V2_FIRST_BLOCK}.out"
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


def _expect_imagenet_pixels(arrays: Dict[str, np.ndarray]) -> None:
    """Let the first convolution take pixels minus ImageNet's mean over its deviation, in place.

    The factor goes into its weights, the shift into the BatchNorm behind it. Exact but for the outermost
    line of pixels: zeros stand beside it, which were grey before and are the mean colour now.
    """
    weight, mean = arrays["features.0.weight"], arrays["features.1.running_mean"]
    factor = np.array(IMAGENET_STD) / TIMM_V1_STD
    shift = (np.array(IMAGENET_MEAN) - TIMM_V1_MEAN) / TIMM_V1_STD
    constant = np.einsum("ochw,c->o", weight.astype(np.float64), shift)
    arrays["features.0.weight"] = (weight * factor[None, :, None, None]).astype(np.float32)
    arrays["features.1.running_mean"] = (mean - constant).astype(np.float32)
