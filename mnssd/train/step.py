"""One training step: forward pass, backward pass, update."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any, Dict, Iterator, NamedTuple

import mxnet as mx

from ..data.loader import Batch
from ..distributed.context import SINGLE_PROCESS, Context
from .optimizer import make_trainer
from .options import LoopOptions
from .task import Objective, Task


class StepResult(NamedTuple):
    """Outcome of a training step."""

    batch: Batch
    lr: float
    losses: Dict[str, float]
    skipped: bool  # the weights were left unchanged because the loss is not finite on some rank
    interrupted: bool  # some rank has received a signal


class TrainingStep:
    """Training step of an objective; call it with a batch, or call its three parts in turn.

    `clip_gradient` is the maximum L2 norm of the gradient of the mean loss over all parameters; 0 for none.
    """

    def __init__(
        self,
        objective: Objective,
        trainer: Any,
        clip_gradient: float = 0.0,
        context: Context = SINGLE_PROCESS,
    ) -> None:
        self._objective, self._trainer = objective, trainer
        self._clip_gradient, self._context = clip_gradient, context
        self._head: Any = None

    def forward(self, batch: Batch) -> Dict[str, float]:
        """Compute and return the losses."""
        with mx.autograd.record():
            self._head, losses = self._objective.losses(batch)
        return {name: float(value.asscalar()) for name, value in losses.items()}

    def backward(self) -> None:
        """Compute the gradients of the last forward pass."""
        mx.autograd.backward(self._head)

    def update(self, normalizer: float = 1.0) -> None:
        """Clip the gradients and update the weights; the gradients are sums over `normalizer` items."""
        if self._clip_gradient:
            gradients = [p.grad() for p in self._trainer._params if p.grad_req != "null"]
            longest = self._clip_gradient * normalizer
            mx.gluon.utils.clip_global_norm(gradients, longest, check_isfinite=False)
        self._trainer.step(normalizer)

    def __call__(self, batch: Batch, lr: float, interrupted: bool = False) -> StepResult:
        """Run the step on all processes; all skip the update if the loss of any is not finite.

        A skipped step has no backward pass, so BatchNorm statistics do not change either.
        """
        self._trainer.set_learning_rate(lr)
        losses = self.forward(batch)
        is_finite = math.isfinite(losses["loss"])
        if is_finite:
            self.backward()
        status = self._context.sum_gradients(self._objective.normalizer(batch), is_finite, interrupted)
        if status.is_finite:
            self.update(status.normalizer)
        return StepResult(batch, lr, losses, not status.is_finite, status.interrupted)


def gradients(task: Task, batches: int) -> Iterator[Dict[str, float]]:
    """Yield the losses of training batches; at each one the parameters hold the gradients of that batch.

    BatchNorm statistics change, weights do not.
    """
    step = TrainingStep(task, make_trainer(task.block, LoopOptions()))
    for batch in islice(task.batches.epoch(0), batches):
        losses = step.forward(batch)
        step.backward()
        yield losses
