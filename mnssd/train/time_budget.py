"""A time to train for, from which the number of steps follows."""

from __future__ import annotations

import time
from typing import Callable, List, Optional

from ..distributed.context import Context
from .evaluator import Evaluator
from .options import LoopOptions
from .schedule import Schedule
from .step import StepResult

FIRST, FEWEST = 3, 8
"""Steps that are not measured, since kernels are compiled in them, and the fewest that are."""

SHARE, LONGEST = 0.05, 120.0
"""Fraction of the time for which steps are measured, and the longest time in seconds.

Until then the learning rate does not decay; after a twentieth, a cosine would have lost 0.6 %.
"""


class TimeBudget:
    """Decides once, from the first steps, how many steps fit into ``minutes``; nothing if it is 0.

    The steps are stored in the progress, so a resumed run takes the same ones. Only the main process
    measures.

    Parameters
    ----------
    options : LoopOptions
    schedule : Schedule
        Given the number of steps; its progress is told the time used.
    evaluator : Evaluator
        Has measured the validations so far.
    context : Context
    say : callable
        Prints a line.
    started : float, optional
        When the run was started or resumed, as `time.monotonic`; by default now.
    """

    def __init__(
        self,
        options: LoopOptions,
        schedule: Schedule,
        evaluator: Evaluator,
        context: Context,
        say: Callable[[str], None],
        started: Optional[float],
    ) -> None:
        self._options, self._schedule, self._evaluator = options, schedule, evaluator
        self._context, self._say = context, say
        self._started = (time.monotonic() if started is None else started) - schedule.progress.seconds
        self._budget = 60 * options.minutes
        self._late = (self._budget + schedule.progress.seconds) / 2  # half the time left is over
        self._times: List[float] = []  # after each step
        self._training: List[float] = []  # the same without validations

    def after_step(self, result: StepResult) -> None:
        """Note the time; as soon as enough steps are measured, fit the schedule to those that fit."""
        progress = self._schedule.progress
        progress.seconds = time.monotonic() - self._started
        if not self._options.minutes or progress.plan:
            return
        self._times.append(progress.seconds)
        self._training.append(progress.seconds - self._evaluator.seconds)
        steps = self._context.broadcast(self._fitting_steps() if self._is_measured() else 0)
        if steps:
            self._schedule.fit(steps)
            epochs = steps / self._schedule.steps_per_epoch
            progress.note = f"{epochs:.1f} epochs ({steps} steps) fit into {self._options.minutes:g} minutes"
            self._say(progress.note)

    def _is_measured(self) -> bool:
        """Whether this process has measured enough, or has to decide."""
        count = len(self._times)
        if not self._context.is_main or count < 2:
            return False
        enough = min(SHARE * self._budget, LONGEST)
        is_enough = count >= FIRST + FEWEST and self._times[-1] - self._times[FIRST - 1] >= enough
        return is_enough or self._times[-1] > self._late

    def _fitting_steps(self) -> int:
        """Steps of the whole run; at least the present one, after which it ends."""
        first = min(FIRST, len(self._times) - 1) - 1
        per_step = (self._training[-1] - self._training[first]) / (len(self._times) - 1 - first)
        validation = self._evaluator.estimate_seconds()
        end = self._evaluator.task.seconds_after_training(validation)
        left = self._budget - (time.monotonic() - self._started) - end
        interval = self._options.val_interval * self._schedule.steps_per_epoch
        return steps_that_fit(self._schedule.progress.step, left, per_step, validation, interval)


def steps_that_fit(done: int, seconds: float, per_step: float, per_validation: float, interval: int) -> int:
    """Most steps of a run whose rest takes no more than `seconds`; at least those that are `done`.

    There is a validation every `interval` steps (0 for none) and after the last one; that after `done` steps
    is still to come.

    Examples
    --------
    >>> steps_that_fit(10, 100.0, 1.0, 0.0, 50)
    110
    >>> steps_that_fit(10, 100.0, 1.0, 10.0, 50)  # with validations after 50 and 90 steps
    90
    """

    def rest(steps: int) -> float:
        validations = -(-steps // interval) - (done - 1) // interval if interval else 0
        return (steps - done) * per_step + validations * per_validation

    low, high = done, done + max(0, int(seconds / max(per_step, 1e-9)))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rest(middle) <= seconds else (low, middle - 1)
    return low
