"""Networks with other channel counts than their name says, as pruning leaves them."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Tuple

from mxnet.gluon import nn


def set_channels(block: Any, channels: Mapping[str, int]) -> None:
    """Give convolutions other numbers of outputs, before the block is initialized.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        With all shapes as they were made, without arrays.
    channels : mapping of str to int
        Structural name of the convolution's weight (``features.3.out.0.weight``) to its outputs. How many
        inputs each layer then has, Gluon infers at the first batch.

    Raises
    ------
    ValueError
        For a name that is no convolution's weight, or a number below 1.
    """
    convolutions = {f"{name}weight": layer for name, layer in _layers(block) if isinstance(layer, nn.Conv2D)}
    for name, count in channels.items():
        if name not in convolutions or not isinstance(count, int) or count < 1:
            raise ValueError(f"channels of {name!r}: {count!r}; no such convolution, or no such number")
    if not channels:
        return
    for name, layer in convolutions.items():
        kwargs = layer._kwargs
        depthwise = kwargs["num_group"] > 1
        count = channels.get(name, layer._channels)
        kernel = layer.weight.shape[2:]
        layer._channels = kwargs["num_filter"] = count
        if depthwise:
            kwargs["num_group"] = count
        _reshape(layer.weight, (count, 1 if depthwise else 0, *kernel))
        if layer.bias is not None:
            _reshape(layer.bias, (count,))
    for _, layer in _layers(block):
        if isinstance(layer, nn.BatchNorm):
            for parameter in layer.collect_params().values():
                _reshape(parameter, (0,))
        elif isinstance(layer, nn.Dense):
            _reshape(layer.weight, (layer._units, 0))


def _reshape(parameter: Any, shape: Tuple[int, ...]) -> None:
    """Set a shape anew; Gluon's own setter refuses to open one that is known."""
    parameter._shape, parameter._var = shape, None  # the symbol that it may have made holds the old shape
    parameter._allow_deferred_init = True


def _layers(block: Any, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    """All blocks inside, each with the beginning of its parameters' structural names."""
    yield prefix, block
    for name, child in block._children.items():
        yield from _layers(child, f"{prefix}{name}.")
