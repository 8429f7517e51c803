"""The end of a run whose validation score does not improve any more."""

from __future__ import annotations

from math import ceil
from typing import Callable

from ..distributed.context import Context
from .options import LoopOptions
from .schedule import Schedule
from .task import ValidationResult

ANNEAL_SHARE = 0.2
"""Epochs in which the learning rate decays at the end, as a fraction of those before.

With such an end, a constant learning rate equals a cosine over the whole run (Hägele et al. 2024, "Scaling
laws and compute-optimal training beyond fixed training durations").
"""


class Patience:
    """Ends a run after ``patience`` epochs without a better score, with a decay of the learning rate.

    Without the decay, the last weights would be those of a high learning rate, whose noise costs accuracy.
    The best weights are kept in any case. Epochs count after `early_epochs`, whose images are smaller.
    Scores are compared with those of other epochs, not with that before training: a trained detector loses
    accuracy in the first epochs and regains it later.
    """

    def __init__(
        self,
        options: LoopOptions,
        schedule: Schedule,
        context: Context,
        say: Callable[[str], None],
        early_epochs: int = 0,
    ) -> None:
        self._patience, self._schedule, self._context, self._say = options.patience, schedule, context, say
        self._early_epochs = early_epochs

    def after_epoch(self, epoch: int, result: ValidationResult) -> None:
        """Shorten the schedule after `epoch`, counted from 1, if the score has not improved for long enough.

        Judged where there is a validation, from the first score above 0 on. All processes call it.
        """
        schedule, progress = self._schedule, self._schedule.progress
        if result.score is not None and (
            progress.trained_score is None or result.score > progress.trained_score
        ):
            progress.trained_score, progress.best_epoch = result.score, epoch
        if not self._patience or progress.is_ending or schedule.is_over or not schedule.steps:
            return
        waited = epoch - max(progress.best_epoch, self._early_epochs)
        is_judged = result.score is not None and bool(progress.trained_score)
        if not self._context.broadcast(int(is_judged and waited >= self._patience)):
            return
        progress.is_ending = True
        epochs = ceil(ANNEAL_SHARE * epoch)
        steps = epochs * schedule.steps_per_epoch
        if progress.step + steps < schedule.steps:
            schedule.anneal(steps)
        progress.note = (
            f"no better score for {waited} epochs than in epoch {progress.best_epoch}; "
            f"the learning rate decays until epoch {schedule.epochs}, the last"
        )
        self._say(progress.note)
