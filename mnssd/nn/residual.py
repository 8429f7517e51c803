"""Shortcuts of the user's own, as `residual` of ``expanded_conv`` in TensorFlow's slim."""

from __future__ import annotations

import inspect
from typing import Any, Callable

import mxnet as mx
from mxnet.gluon.block import HybridBlock

NAMES = ("input_tensor", "output_tensor")
"""Keywords by which slim calls the function."""

PROBE = 32
"""Side in pixels of the feature map with which shapes are checked."""


class CustomResidual(HybridBlock):
    """A function or block that maps input and output of a bottleneck to its final output.

    Parameters
    ----------
    residual : callable or mxnet.gluon.HybridBlock
        ``residual(input_tensor, output_tensor)``, of ``(N, in_channels, H, W)`` and ``(N, channels, h, w)``,
        returns ``(N, channels, h, w)``. A function gets NDArrays or Symbols; its parameters must be in a
        block. Arguments with the names of slim may be in any order.
    in_channels, channels, stride : int
        Those of the bottleneck.

    Raises
    ------
    ValueError
        As `layers.LinearBottleneck`.
    """

    def __init__(
        self, residual: Callable[..., Any], in_channels: int, channels: int, stride: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._call = _in_order(residual)
        if isinstance(residual, HybridBlock):
            with self.name_scope():
                self.block = residual
        _check(self, residual, (in_channels, PROBE), (channels, -(-PROBE // stride)))

    def hybrid_forward(self, F: Any, x: Any, out: Any) -> Any:
        return self._call(x, out)


def _in_order(residual: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """The function of input and output, whatever the order of its arguments."""
    if isinstance(residual, mx.gluon.Block):
        return residual
    try:
        has_names = set(NAMES) <= set(inspect.signature(residual).parameters)
    except (TypeError, ValueError):  # a function without a signature, such as a built-in one
        has_names = False
    return (lambda x, out: residual(input_tensor=x, output_tensor=out)) if has_names else residual


def _check(block: CustomResidual, residual: Any, before: Any, after: Any) -> None:
    """Raise ValueError unless it becomes a Symbol of the right shape with parameters of its own.

    `before` and `after` are channels and side of the two feature maps.
    """
    name = getattr(residual, "__name__", type(residual).__name__)
    shapes = {key: (1, channels, side, side) for key, (channels, side) in zip(NAMES, (before, after))}
    try:
        traced = block._call(*(mx.sym.var(key) for key in NAMES))
    except Exception as error:  # the user's code
        raise ValueError(
            f"residual {name}: cannot be traced as a Symbol, which exports need ({error}); use operators "
            "that take Symbols and NDArrays, or a HybridBlock"
        ) from error
    if not isinstance(traced, mx.sym.Symbol) or len(traced.list_outputs()) != 1:
        raise ValueError(f"residual {name}: expected one tensor, got {traced!r}")
    others = set(traced.list_inputs()) - set(NAMES) - set(block.collect_params())
    if others:
        raise ValueError(
            f"residual {name}: reads parameters that are not its own ({', '.join(sorted(others))}), which "
            "would be neither initialized nor saved; pass a HybridBlock with its layers as children"
        )
    try:
        known = {key: shape for key, shape in shapes.items() if key in traced.list_inputs()}
        output = traced.infer_shape(**known)[1][0]
    except (mx.MXNetError, TypeError) as error:
        raise ValueError(
            f"residual {name}: does not fit an input of {shapes[NAMES[0]][1:]} and an output of "
            f"{shapes[NAMES[1]][1:]} (channels, height, width): {str(error).splitlines()[-1].strip()}"
        ) from error
    if output != shapes[NAMES[1]]:
        raise ValueError(f"residual {name}: expected an output of {shapes[NAMES[1]][1:]}, got {output[1:]}")
