"""Conversion of other libraries' checkpoints to the parameter names of this package and the Gluon zoo."""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

import numpy as np

from ..data.image import IMAGENET_MEAN, IMAGENET_STD
from ..nn.backbones import Conversion, backbones

Converted = Tuple[Dict[str, np.ndarray], List[str]]
"""Arrays under this package's names, and notes for the user."""


def convert(arrays: Mapping[str, np.ndarray]) -> Converted:
    """Convert a checkpoint that a registered backbone recognizes; return others unchanged.

    Arrays with unknown names keep them, so that the weights report lists them as unused.
    """
    for backbone in backbones:
        for conversion in backbone.conversions:
            if conversion.matches(arrays):
                return _convert(arrays, conversion)
    return dict(arrays), []


def _convert(arrays: Mapping[str, np.ndarray], conversion: Conversion) -> Converted:
    renamed: Dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        source_layer, _, parameter = name.rpartition(".")
        if parameter == "num_batches_tracked":
            continue
        layer = conversion.layer_name(source_layer)
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


def _expect_imagenet_pixels(arrays: Dict[str, np.ndarray], pixel_mean: float, pixel_std: float) -> None:
    """Let the first convolution take pixels normalized by ImageNet's mean and standard deviation.

    The scale goes into its weights, the shift into its BatchNorm. Exact except along the border, where
    the padding's zeros are now ImageNet's mean instead of `pixel_mean`.
    """
    weight, mean = arrays.get("features.0.weight"), arrays.get("features.1.running_mean")
    if weight is None or mean is None or weight.ndim != 4 or weight.shape[1] != 3:
        return  # the weights report will list it
    scale = np.array(IMAGENET_STD) / pixel_std
    shift = (np.array(IMAGENET_MEAN) - pixel_mean) / pixel_std
    constant = np.einsum("ochw,c->o", weight.astype(np.float64), shift)
    arrays["features.0.weight"] = (weight * scale[None, :, None, None]).astype(np.float32)
    arrays["features.1.running_mean"] = (mean - constant).astype(np.float32)
