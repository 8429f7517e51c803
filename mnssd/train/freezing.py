"""Keeping a part of a network as it is."""

from __future__ import annotations

import re
from typing import Any, Iterable, List

from mxnet.gluon import nn

from ..errors import OptionError


def freeze(block: Any, pattern: str) -> str:
    """Keep the parameters whose structural name `pattern` finds as they are; returns the line for the user.

    A BatchNorm whose gamma is frozen also keeps its statistics, and uses them in training.

    Raises
    ------
    OptionError
        When it finds none, or all.
    """
    regex = re.compile(pattern)
    named = block._collect_params_with_prefix()
    frozen = [name for name in named if regex.search(name)]
    if not frozen or len(frozen) == len(named):
        which = "no parameter" if not frozen else "every parameter"
        raise OptionError(f"--freeze {pattern!r} finds {which}; names look like {', '.join(list(named)[:3])}")
    for name in frozen:
        named[name].grad_req = "null"
    still = {id(named[name]) for name in frozen}
    for layer in layers(block):
        if isinstance(layer, nn.BatchNorm) and id(layer.gamma) in still:
            layer._kwargs["use_global_stats"] = True
    return f"frozen: {len(frozen)} of {len(named)} parameters"


def layers(block: Any) -> List[Any]:
    """The block and every block within it."""
    return [block, *(layer for child in block._children.values() for layer in layers(child))]


def all_among(blocks: Iterable[Any], parameters: Iterable[Any]) -> bool:
    """Whether every parameter of the blocks is one of these."""
    known = {id(parameter) for parameter in parameters}
    return all(id(p) in known for block in blocks for p in block.collect_params().values())
