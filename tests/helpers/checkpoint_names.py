"""Networks here and the names of their layers in other libraries' checkpoints."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np

from .networks import fill, images, values


def filled(net: Any) -> Any:
    net.initialize()
    net(images(1, 64, 64))
    fill(net)
    return net


def make_first_expansion_an_identity(net: Any) -> None:
    """As in networks without that expansion."""
    out = net.features[3].out
    channels = out[0].weight.shape[0]
    out[0].weight.set_data(mx.nd.array(np.eye(channels).reshape(channels, channels, 1, 1)))
    for parameter, value in (
        (out[1].gamma, 1.0),
        (out[1].beta, 0),
        (out[1].running_mean, 0),
        (out[1].running_var, 1),
    ):
        parameter.set_data(mx.nd.full(parameter.shape, value))
    out[1].gamma.set_data(out[1].gamma.data() * np.sqrt(1 + 1e-5))


def layers_in_order(
    arrays: Dict[str, np.ndarray], skip_expansion: bool
) -> List[Tuple[str, Dict[str, np.ndarray]]]:
    """Parameters of each convolution and BatchNorm, under PyTorch's names."""
    layers: Dict[str, Dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        layer, _, parameter = name.rpartition(".")
        if skip_expansion and layer in ("features.3.out.0", "features.3.out.1"):
            continue
        layers.setdefault(layer, {})[{"gamma": "weight", "beta": "bias"}.get(parameter, parameter)] = value
    for parts in layers.values():
        if "running_var" in parts:
            parts["num_batches_tracked"] = np.array(7, np.int64)
    return list(layers.items())


def torchvision_names() -> List[str]:
    """Layers of `torchvision.models.mobilenet_v2` in order."""
    names = ["features.0.0", "features.0.1"]
    names += [f"features.1.conv.{inner}" for inner in ("0.0", "0.1", "1", "2")]
    for block in range(2, 18):
        names += [f"features.{block}.conv.{inner}" for inner in ("0.0", "0.1", "1.0", "1.1", "2", "3")]
    return [*names, "features.18.0", "features.18.1", "classifier.1"]


def timm_v2_names() -> List[str]:
    names = ["conv_stem", "bn1", *(f"blocks.0.0.{inner}" for inner in ("conv_dw", "bn1", "conv_pw", "bn2"))]
    for stage, count in enumerate((2, 3, 4, 3, 3, 1), start=1):
        for block in range(count):
            inner = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            names += [f"blocks.{stage}.{block}.{name}" for name in inner]
    return [*names, "conv_head", "bn2", "classifier"]


def timm_v1_names() -> List[str]:
    names = ["conv_stem", "bn1"]
    for stage, count in enumerate((1, 2, 2, 6, 2)):
        for block in range(count):
            names += [f"blocks.{stage}.{block}.{name}" for name in ("conv_dw", "bn1", "conv_pw", "bn2")]
    return [*names, "classifier"]


def named(net: Any, names: List[str], skip_expansion: bool) -> Dict[str, np.ndarray]:
    layers = layers_in_order(values(net), skip_expansion)
    assert len(layers) == len(names)
    renamed = {f"{name}.{key}": v for name, (_, parts) in zip(names, layers) for key, v in parts.items()}
    last = f"{names[-1]}.weight"
    renamed[last] = renamed[last].reshape(renamed[last].shape[:2])
    return renamed
