"""Validation during training, and the best weights of a run."""

from __future__ import annotations

from dataclasses import dataclass

from .checkpoint import Progress, save_weights
from .ema import ModelEMA
from .options import LoopOptions
from .run_folder import RunFolder
from .task import Task, ValidationResult


@dataclass
class Evaluator:
    """Validates the averaged weights of a task and keeps the best in ``best.params``."""

    task: Task
    options: LoopOptions
    run: RunFolder
    average: ModelEMA
    progress: Progress  # its best score is updated
    enabled: bool  # only on the first rank

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
        interval, last = self.options.val_interval, epoch == self.options.epochs
        with self.average.applied():
            due = interval and (last or epoch % interval == 0)
            result = self._validate() if due else ValidationResult()
            if last and self.progress.best_score is None:
                save_weights(self.run.best, self.task.block)
        return result

    def _validate(self) -> ValidationResult:
        result, best = self.task.validate(), self.progress.best_score
        if result.score is None or (best is not None and result.score <= best):
            return result
        self.progress.best_score = result.score
        save_weights(self.run.best, self.task.block)
        return result._replace(is_best=True)
