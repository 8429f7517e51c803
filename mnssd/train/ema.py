"""Exponential moving average of the weights (Polyak and Juditsky 1992), BatchNorm statistics included."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator

import mxnet as mx
import numpy as np

from .step import StepResult

INTERVAL = 5
"""Steps between two updates of the average; the decay is raised to this power."""


class ModelEMA:
    """Moving average of a block's weights.

    `decay` is per step; 0 disables the average. It is limited to ``(1 + t) / (10 + t)`` at update `t`, so
    that the average follows the weights closely at the start, as in TensorFlow's
    ``ExponentialMovingAverage``.
    """

    def __init__(self, block: Any, decay: float) -> None:
        self._parameters: Dict[str, Any] = dict(block._collect_params_with_prefix())
        self._decay, self.steps = decay, 0
        self.arrays: Dict[str, np.ndarray] = {}

    def after_step(self, result: StepResult) -> None:
        """Update the average, unless the step was skipped."""
        if not self._decay or result.skipped:
            return
        self.steps += 1
        if self.steps % INTERVAL:
            return
        mx.nd.waitall()  # the fused operators write statistics without telling the engine, see `fast_block`
        updates = self.steps // INTERVAL
        keep = min(self._decay**INTERVAL, (1 + updates) / (10 + updates))
        for name, parameter in self._parameters.items():
            value = parameter.data().asnumpy()
            if name in self.arrays:
                self.arrays[name] *= keep
                value *= 1 - keep
                self.arrays[name] += value
            else:
                self.arrays[name] = value

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Context manager in which the block has the averaged weights."""
        if not self.arrays:
            yield
            return
        mx.nd.waitall()
        weights = {name: parameter.data().asnumpy() for name, parameter in self._parameters.items()}
        self._set(self.arrays)
        try:
            yield
        finally:
            self._set(weights)

    def restore(self, steps: int, arrays: Dict[str, np.ndarray]) -> None:
        """Continue from the state in a checkpoint."""
        self.steps, self.arrays = steps, {name: value.copy() for name, value in arrays.items()}

    def _set(self, arrays: Dict[str, np.ndarray]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(mx.nd.array(arrays[name]))
        mx.nd.waitall()
