"""The engines of export formats that this machine can write, as parameters of tests."""

from __future__ import annotations

from typing import Any, List, Sequence

import pytest

from mnssd.export.formats import by_priority

UNSUITABLE = ("openvino-int8", "openvino-bf16", "tflite-int8")
"""Formats whose rounding changes networks with random weights too much on some processors."""

ROUNDED = ("tflite-fp16", "ncnn-fp16")
"""Formats that compute in float32, with weights that are not."""


def engine_params(slow: Sequence[str] = (), exact: bool = False) -> List[Any]:
    """A parameter for each engine of `tiny_export`; those of formats that cannot be written are skipped.

    Engines in `slow` are marked so. With `exact` only those that compute in float32 with
    unchanged weights.
    """
    params = []
    for entry in by_priority():
        if entry.name in UNSUITABLE or not entry.in_all:
            continue
        if exact and (entry.needs_calibration or entry.name in ROUNDED):
            continue
        marks: List[Any] = [pytest.mark.slow] if entry.engine in slow else []
        if entry.obstacle():
            marks.append(pytest.mark.skip(reason=entry.obstacle()))
        params.append(pytest.param(entry.engine, marks=marks))
    return params
