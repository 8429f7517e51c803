"""Validation during training, and the best weights of a run."""

from __future__ import annotations

from .checkpoint import Progress, save_weights
from .ema import ModelEMA
from .options import LoopOptions
from .run_folder import RunFolder
from .task import Task, ValidationResult


class Evaluator:
    """Validates the averaged weights of a task and keeps the best in ``best.params``.

    Parameters
    ----------
    task : Task
    options : LoopOptions
    run : RunFolder
    average : ModelEMA
    progress : Progress
        Its best score is updated.
    enabled : bool
        False on all ranks but the first.
    """

    def __init__(
        self,
        task: Task,
        options: LoopOptions,
        run: RunFolder,
        average: ModelEMA,
        progress: Progress,
        enabled: bool,
    ) -> None:
        self._task, self._options, self._run = task, options, run
        self._average, self._progress, self._enabled = average, progress, enabled

    def before_training(self) -> ValidationResult:
        """Validate a pretrained network and log the result as epoch 0; training may not improve on it."""
        measures = self._enabled and self._task.is_pretrained and self._options.val_interval
        if not measures or self._progress.history:
            return ValidationResult()
        result = self._validate()
        self._progress.history.append({"epoch": 0, **result.columns})
        return result

    def after_epoch(self, epoch: int) -> ValidationResult:
        """Validate if it is due after `epoch`, counted from 1; save the weights if they are the best."""
        interval, last = self._options.val_interval, epoch == self._options.epochs
        if not self._enabled:
            return ValidationResult()
        with self._average.applied():
            due = interval and (last or epoch % interval == 0)
            result = self._validate() if due else ValidationResult()
            if last and self._progress.best_score is None:
                save_weights(self._run.best, self._task.block)
        return result

    def _validate(self) -> ValidationResult:
        result, best = self._task.validate(), self._progress.best_score
        if result.score is None or (best is not None and result.score <= best):
            return result
        self._progress.best_score = result.score
        save_weights(self._run.best, self._task.block)
        return result._replace(is_best=True)
