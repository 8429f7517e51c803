"""Which width and rounding rule a network has, from the shapes of its weights."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from . import Structure

Shapes = Mapping[str, Tuple[int, ...]]

DIVISORS = (0, 8, 4, 1, 16, 2, 32)
"""Values of ``divisor`` that are tried: the default, that of most published networks, that of tonylins' 0.1,
and others that torchvision's ``round_nearest`` can have."""

USUAL_WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.1, 1.1, 1.2, 1.25, 1.3, 1.4)
OTHER_WIDTHS = tuple(n / 100 for n in range(5, 201))

MOST = 0.8
"""Share of layers that must agree at a known width: a file with a few odd arrays has a structure, too."""


def output_channels(shapes: Shapes, layers: Sequence[str]) -> Tuple[Optional[int], ...]:
    """Output channels of convolutions; None for those without a weight of four dimensions."""
    weights = [shapes.get(f"{layer}.weight", ()) for layer in layers]
    return tuple(shape[0] if len(shape) == 4 else None for shape in weights)


def find_structure(
    channels: Sequence[Optional[int]],
    layer_channels: Callable[..., Sequence[int]],
    width: Optional[float],
    variants: Sequence[Mapping[str, Any]] = ({},),
) -> Optional[Structure]:
    """Width and variant with which a network has the given channels; None if there are none.

    Parameters
    ----------
    channels : sequence of int or None
        Output channels of convolutions in a file; None for a missing one.
    layer_channels : callable
        ``layer_channels(width, divisor=0, **variant)`` returns those of a network, or raises ValueError.
    width : float, optional
        Width that is tried first. It is also the result if no width agrees in all layers, but this one in
        `MOST`.
    variants : sequence of mapping
        Further arguments of `layer_channels` to try, the usual ones first.
    """

    def candidates(width: float) -> Iterator[Tuple[float, Dict[str, Any]]]:
        for variant in variants:
            for divisor in DIVISORS:
                arguments = {**({"divisor": divisor} if divisor else {}), **variant}
                try:
                    yield _agreement(channels, layer_channels(width, **arguments)), arguments
                except ValueError:  # no channel is left
                    continue

    for multiplier in (*([width] if width else []), *USUAL_WIDTHS, *OTHER_WIDTHS):
        for agreement, variant in candidates(multiplier):
            if agreement == 1:
                return Structure(multiplier, variant)
    if width:
        agreement, variant = max(candidates(width), key=lambda candidate: candidate[0], default=(0.0, {}))
        if agreement >= MOST:
            return Structure(width, variant)
    return None


def _agreement(channels: Sequence[Optional[int]], expected: Sequence[int]) -> float:
    """Share of the known channels that are as expected; 0 if the number of layers differs."""
    known = [(found, wanted) for found, wanted in zip(channels, expected) if found is not None]
    if len(channels) != len(expected) or 2 * len(known) < len(expected):
        return 0.0
    return sum(found == wanted for found, wanted in known) / len(known)
