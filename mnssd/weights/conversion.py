"""Conversion of other libraries' checkpoints to the parameter names of this package and the Gluon zoo."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..nn.backbones import Conversion, backbones

Converted = Tuple[Dict[str, np.ndarray], List[str]]
"""Arrays under this package's names, and notes for the user."""


def convert(arrays: Mapping[str, np.ndarray]) -> Converted:
    """Convert a checkpoint that a registered backbone recognizes; return others unchanged.

    Arrays with unknown names keep them, so that the weights report lists them as unused. A second conversion
    follows if the result of the first one is recognized again.
    """
    converted = dict(arrays)
    notes: List[str] = []
    remaining = [conversion for backbone in backbones for conversion in backbone.conversions]
    while True:
        conversion = next((c for c in remaining if c.matches(converted)), None)
        if conversion is None:
            return converted, notes
        remaining.remove(conversion)
        converted, more = _convert(converted, conversion)
        notes += more


def required_options(arrays: Mapping[str, np.ndarray]) -> Mapping[str, str]:
    """Options of the backbone that a checkpoint of another library needs; see `Conversion.options`."""
    conversions = (conversion for backbone in backbones for conversion in backbone.conversions)
    return next((c.options for c in conversions if c.matches(arrays)), {})


def _convert(arrays: Mapping[str, np.ndarray], conversion: Conversion) -> Converted:
    renamed: Dict[str, np.ndarray] = {}
    prefix = conversion.gluon_prefix(arrays) if conversion.gluon_prefix else None
    for name, value in arrays.items():
        source_layer, parameter = _split(name, prefix)
        if parameter == "num_batches_tracked":
            continue
        layer = None if source_layer is None else conversion.layer_name(source_layer)
        if layer is None:
            renamed[name] = value
            continue
        if value.ndim == 1 and layer.split(".")[0] != "output":
            parameter = {"weight": "gamma", "bias": "beta"}.get(parameter, parameter)
        renamed[f"{layer}.{parameter}"] = value
    if conversion.adapt is not None:
        renamed = conversion.adapt(renamed)
    notes = [f"converted from {conversion.source}"]
    if conversion.pixel_mean is not None and conversion.pixel_std is not None:
        _expect_imagenet_pixels(renamed, conversion.pixel_mean, conversion.pixel_std)
        notes.append("input normalization changed to ImageNet's mean and standard deviation")
    return renamed, [*notes, conversion.note] if conversion.note else notes


def _split(name: str, gluon_prefix: Optional[str]) -> Tuple[Optional[str], str]:
    """Names of the layer and of its parameter; no layer if the name lacks the prefix."""
    if gluon_prefix is None:
        layer, _, parameter = name.rpartition(".")
        return layer, parameter
    pattern = r"(\w+)_(weight|bias|gamma|beta|(?:running|moving)_(?:mean|var))"
    match = re.fullmatch(re.escape(gluon_prefix) + pattern, name)
    return (match[1], match[2].replace("moving_", "running_")) if match else (None, "")


def _expect_imagenet_pixels(
    arrays: Dict[str, np.ndarray],
    pixel_mean: Union[float, Sequence[float]],
    pixel_std: Union[float, Sequence[float]],
) -> None:
    """Let the first convolution take pixels normalized by ImageNet's mean and standard deviation.

    The scale goes into its weights, the shift into its BatchNorm. Exact except along the border, where
    the padding's zeros are now ImageNet's mean instead of `pixel_mean`.
    """
    weight, mean = arrays.get("features.0.weight"), arrays.get("features.1.running_mean")
    if weight is None or mean is None or weight.ndim != 4 or weight.shape[1] != 3:
        return  # the weights report will list it
    scale = np.array(IMAGENET_STD) / np.asarray(pixel_std)
    shift = (np.array(IMAGENET_MEAN) - np.asarray(pixel_mean)) / np.asarray(pixel_std)
    constant = np.einsum("ochw,c->o", weight.astype(np.float64), shift)
    arrays["features.0.weight"] = (weight * scale[None, :, None, None]).astype(np.float32)
    arrays["features.1.running_mean"] = (mean - constant).astype(np.float32)
