"""Length and learning rate of a run: pure functions of the step and of what a checkpoint stores.

GluonCV's `LRScheduler` is not used: it divides by zero if a part is one step long, and its first step has
learning rate 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, pi
from typing import TYPE_CHECKING, Iterable, Iterator, Optional

from ..data.loader import Batch
from .options import LoopOptions

if TYPE_CHECKING:
    from .checkpoint import Progress

STEP_AT = (2 / 3, 5 / 6)
"""When the ``step`` schedule divides by 10: after epochs 160 and 200 of 240 in GluonCV's train_ssd."""

WARMUP_SHARE = 0.1
"""Largest fraction of the steps that a run with ``minutes`` warms up for; an epoch may be longer than it."""


@dataclass(frozen=True)
class Plan:
    """A schedule that is decided during a run and stored in its checkpoints.

    The learning rate goes linearly from `lr` in step `start` to `peak` in step `peak_at`, then decays until
    step `end`, which is the number of steps of the whole run.
    """

    start: int
    lr: float
    peak_at: int
    peak: float
    end: int

    def learning_rate(self, schedule: str, step: int) -> float:
        """Learning rate of a step from `start` on."""
        if step < self.peak_at:
            return self.lr + (self.peak - self.lr) * (step - self.start) / (self.peak_at - self.start)
        return self.peak * _decay(schedule, step - self.peak_at, self.end - self.peak_at)


class Schedule:
    """Length and learning rate of a run, at its present `progress`.

    The options decide both, until `fit` or `anneal` stores a `Plan` in the progress.
    """

    def __init__(self, options: LoopOptions, steps_per_epoch: int, progress: Progress) -> None:
        self.steps_per_epoch, self.progress, self._options = steps_per_epoch, progress, options

    @property
    def steps(self) -> int:
        """Steps of the whole run; 0 until those that fit into ``minutes`` are known."""
        if self.progress.plan:
            return self.progress.plan.end
        return 0 if self._options.minutes else self._options.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Epochs of the whole run, of which the last may be shorter; 0 until they are known."""
        return ceil(self.steps / self.steps_per_epoch)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done."""
        return 0 < self.steps <= self.progress.step

    def remaining_epochs(self) -> Iterator[int]:
        """Yield the numbers of the epochs that are not complete, from 0; they may become more or fewer."""
        while not self.steps or self.progress.epoch < self.epochs:
            yield self.progress.epoch

    def remaining(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches of an epoch until all steps of the run are done."""
        iterator = iter(batches)
        while not self.is_over:
            batch: Optional[Batch] = next(iterator, None)
            if batch is None:
                return
            yield batch

    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        step, plan = self.progress.step, self.progress.plan
        if plan:
            return plan.learning_rate(self._options.schedule, step)
        return learning_rate(self._options, step, self.steps_per_epoch, self.steps)

    def fit(self, steps: int) -> None:
        """Make the run `steps` long, with at most `WARMUP_SHARE` of them for the rest of the warm-up."""
        now, lr = self.progress.step, self.learning_rate()
        warmup = min(round(self._options.warmup * self.steps_per_epoch), round(WARMUP_SHARE * steps))
        self.progress.plan = Plan(now, lr, max(now, warmup), self._options.lr, steps)

    def anneal(self, steps: int) -> None:
        """End the run after `steps` more, in which the learning rate decays from its present value."""
        now, lr = self.progress.step, self.learning_rate()
        self.progress.plan = Plan(now, lr, now, lr, now + steps)


def learning_rate(
    options: LoopOptions, step: int, steps_per_epoch: int, total: Optional[int] = None
) -> float:
    """Learning rate of a step, counted from 0.

    Linear warm-up (Goyal et al. 2017, section 2.2), then half a cosine towards 0 (Loshchilov and Hutter 2017)
    or two divisions by 10. `total` is the number of steps, by default that of ``epochs``; while it is not
    known, 0, the learning rate does not decay.
    """
    total = options.epochs * steps_per_epoch if total is None else total
    warmup = round(options.warmup * steps_per_epoch)
    warmup = min(warmup, total) if total else warmup
    if step < warmup:
        return options.lr * (step + 1) / warmup
    if not total:
        return options.lr
    if options.schedule == "cosine":
        return options.lr * _decay("cosine", step - warmup, total - warmup)
    return options.lr * _decay("step", step, total)


def _decay(schedule: str, done: int, steps: int) -> float:
    """Factor of the learning rate after `done` of `steps`."""
    if schedule == "cosine":
        return (1 + cos(pi * done / steps)) / 2
    return float(0.1 ** sum(done >= fraction * steps for fraction in STEP_AT))
