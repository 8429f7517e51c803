"""Changed channel counts of a network, as pruning leaves them."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Tuple

from mxnet.gluon import nn


def set_channels(block: Any, channels: Mapping[str, int]) -> None:
    """Change the number of output channels of convolutions, before the block is initialized.

    `channels` has them by the structural name of the convolution's weight (``features.3.out.0.weight``).
    Gluon infers the input channels of every layer at the first batch.

    Raises
    ------
    ValueError
        For a name that is not a convolution's weight, or a number below 1.
    """
    convolutions = {f"{name}weight": layer for name, layer in _layers(block) if isinstance(layer, nn.Conv2D)}
    for name, count in channels.items():
        if name not in convolutions or not isinstance(count, int) or count < 1:
            raise ValueError(f"channels: {name!r}: {count!r}: no such convolution, or not a number above 0")
    if not channels:
        return
    for name, layer in convolutions.items():
        kwargs = layer._kwargs
        is_depthwise = kwargs["num_group"] > 1
        count = channels.get(name, layer._channels)
        layer._channels = kwargs["num_filter"] = count
        if is_depthwise:
            kwargs["num_group"] = count
        _reset_shape(layer.weight, (count, 1 if is_depthwise else 0, *layer.weight.shape[2:]))
        if layer.bias is not None:
            _reset_shape(layer.bias, (count,))
    for _, layer in _layers(block):
        if isinstance(layer, nn.BatchNorm):
            for parameter in layer.collect_params().values():
                _reset_shape(parameter, (0,))
        elif isinstance(layer, nn.Dense):
            _reset_shape(layer.weight, (layer._units, 0))


def _reset_shape(parameter: Any, shape: Tuple[int, ...]) -> None:
    """Set a shape that contains 0 for sides to infer.

    Gluon 1.9.1: assigning `Parameter.shape` fails if the shape was known, and the cached variable keeps the
    old one. To see it, assign ``parameter.shape = shape`` instead: AssertionError.
    """
    parameter._shape, parameter._var = shape, None
    parameter._allow_deferred_init = True


def _layers(block: Any, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    """All blocks inside, each with the prefix of its parameters' structural names."""
    yield prefix, block
    for name, child in block._children.items():
        yield from _layers(child, f"{prefix}{name}.")
