"""Validation during training, and the best weights of a run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .checkpoint import Progress, save_weights
from .ema import ModelEMA
from .options import LoopOptions
from .run_folder import RunFolder
from .schedule import Schedule
from .task import Task, ValidationResult


@dataclass
class Evaluator:
    """Validates the averaged weights of a task and keeps the best in ``best.params``."""

    task: Task
    options: LoopOptions
    run: RunFolder
    average: ModelEMA
    progress: Progress  # its best score is updated
    schedule: Schedule
    enabled: bool  # only on the first rank
    seconds: float = 0.0  # of all validations by this process
    validations: int = 0

    def before_training(self) -> ValidationResult:
        """Validate a pretrained network and log the result as epoch 0; training may not improve on it."""
        measures = self.enabled and self.task.is_pretrained and self.options.val_interval
        if not measures or self.progress.history:
            return ValidationResult()
        result = self._validate()
        self.progress.history.append({"epoch": 0, **result.columns})
        return result

    def after_epoch(self, epoch: int) -> ValidationResult:
        """Validate if it is due after `epoch`, counted from 1; save the weights if they are the best."""
        if not self.enabled:
            return ValidationResult()
        interval, last = self.options.val_interval, self.schedule.is_over
        with self.average.applied():
            due = interval and (last or epoch % interval == 0)
            result = self._validate() if due else ValidationResult()
            if last and self.progress.best_score is None:
                save_weights(self.run.best, self.task.block)
        return result

    def estimate_seconds(self) -> float:
        """Time of a validation: the mean of those so far, or an estimate of the task."""
        if not self.options.val_interval:
            return 0.0
        return self.seconds / self.validations if self.validations else self.task.validation_seconds()

    def _validate(self) -> ValidationResult:
        started = time.monotonic()
        result, best = self.task.validate(), self.progress.best_score
        self.seconds, self.validations = self.seconds + time.monotonic() - started, self.validations + 1
        if result.score is None or (best is not None and result.score <= best):
            return result
        self.progress.best_score = result.score
        save_weights(self.run.best, self.task.block)
        return result._replace(is_best=True)
