"""A moving average of the weights (Polyak and Juditsky 1992), statistics of BatchNorm included."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator

import mxnet as mx
import numpy as np

EVERY = 5
"""Steps between two looks at the weights; the decay is raised to this power."""


class ModelEMA:
    """Follows a block's weights.

    Early in training it follows them closely: after `t` looks the decay is at most ``(1 + t) / (10 + t)``,
    as in TensorFlow's ``ExponentialMovingAverage``.

    Parameters
    ----------
    block : mxnet.gluon.Block
    decay : float
        Of one step.
    """

    def __init__(self, block: Any, decay: float) -> None:
        self._parameters: Dict[str, Any] = dict(block._collect_params_with_prefix())
        self._decay, self.steps = decay, 0
        self.arrays: Dict[str, np.ndarray] = {}

    def step(self) -> None:
        """To be called after each step."""
        self.steps += 1
        if self.steps % EVERY:
            return
        mx.nd.waitall()  # the fused operators write statistics without telling the engine, see `fast_block`
        looks = self.steps // EVERY
        keep = min(self._decay**EVERY, (1 + looks) / (10 + looks))
        for name, parameter in self._parameters.items():
            value = parameter.data().asnumpy()
            if name in self.arrays:
                self.arrays[name] *= keep
                value *= 1 - keep
                self.arrays[name] += value
            else:
                self.arrays[name] = value

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the block have the averages while the ``with`` block runs, its own weights after it."""
        if not self.arrays:
            yield
            return
        mx.nd.waitall()
        own = {name: parameter.data().asnumpy() for name, parameter in self._parameters.items()}
        self._put(self.arrays)
        try:
            yield
        finally:
            self._put(own)

    def restore(self, steps: int, arrays: Dict[str, np.ndarray]) -> None:
        """Go on from a checkpoint."""
        self.steps, self.arrays = steps, {name: value.copy() for name, value in arrays.items()}

    def _put(self, arrays: Dict[str, np.ndarray]) -> None:
        for name, parameter in self._parameters.items():
            parameter.set_data(mx.nd.array(arrays[name]))
        mx.nd.waitall()
