"""The engines of export formats that this machine can write, as parameters of tests."""

from __future__ import annotations

from typing import Any, List, Sequence

import pytest

from mnssd.export.formats import engine_names, format_of_engine


def engine_params(slow: Sequence[str] = (), exact: bool = False) -> List[Any]:
    """A parameter for each engine; those of formats that cannot be written here are skipped.

    Engines in `slow` are marked so. With `exact` only those that compute in float32.
    """
    params = []
    for name in engine_names()[1:]:
        entry = format_of_engine(name)
        if exact and (entry.needs_calibration or name == "openvino-bf16"):
            continue
        obstacle = entry.obstacle()
        marks = [pytest.mark.skip(reason=obstacle)] if obstacle else []
        params.append(pytest.param(name, marks=[*marks, *([pytest.mark.slow] if name in slow else [])]))
    return params
