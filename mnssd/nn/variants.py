"""Checks of the variant of a network; standard library only."""

from __future__ import annotations

from typing import Any, Mapping

from ..errors import OptionError
from ..options import unknown_name
from .backbones import backbones


def check_variant(network: str, variant: Mapping[str, Any]) -> None:
    """Raise OptionError for an unknown name or a value of another type than the default."""
    known = backbones[network].variants
    if not isinstance(variant, Mapping):
        raise OptionError(f"{network}: variant: expected names and values, got {variant!r}")
    for name, value in variant.items():
        if name not in known:
            raise OptionError(f"{network}: {unknown_name('variant', str(name), known)}")
        if not _is_like(value, known[name]):
            raise OptionError(f"{network}: {name}: expected a value like {known[name]!r}, got {value!r}")


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value has the type of a default; for a tuple, whether it is as many numbers."""
    if isinstance(default, tuple):
        is_list = isinstance(value, (list, tuple)) and len(value) == len(default)
        return is_list and all(_is_like(number, 0.0) for number in value)
    return type(value) is type(default) or (isinstance(default, float) and type(value) is int)
