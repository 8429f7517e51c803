"""Freezing parameters by name."""

from __future__ import annotations

import re
from typing import Any, Iterable, List

from mxnet.gluon import nn

from ..errors import OptionError


def freeze(block: Any, pattern: str) -> str:
    """Freeze the parameters whose structural name matches the regular expression `pattern`.

    A BatchNorm with a frozen gamma also keeps its running statistics, and normalizes with them in training.
    Returns a message for the user. Raises OptionError if no parameter matches, or all do.
    """
    regex = re.compile(pattern)
    named = block._collect_params_with_prefix()
    frozen = [name for name in named if regex.search(name)]
    if not frozen or len(frozen) == len(named):
        which = "no parameter" if not frozen else "every parameter"
        names = ", ".join(list(named)[:3])
        raise OptionError(f"--freeze {pattern!r} matches {which}; examples of names: {names}")
    for name in frozen:
        named[name].grad_req = "null"
    frozen_ids = {id(named[name]) for name in frozen}
    for layer in layers(block):
        if isinstance(layer, nn.BatchNorm) and id(layer.gamma) in frozen_ids:
            layer._kwargs["use_global_stats"] = True
    return f"frozen: {len(frozen)} of {len(named)} parameters"


def layers(block: Any) -> List[Any]:
    """The block and all blocks below it."""
    return [block, *(layer for child in block._children.values() for layer in layers(child))]


def all_among(blocks: Iterable[Any], parameters: Iterable[Any]) -> bool:
    """Whether `parameters` contain every parameter of the blocks."""
    ids = {id(parameter) for parameter in parameters}
    return all(id(p) in ids for block in blocks for p in block.collect_params().values())
