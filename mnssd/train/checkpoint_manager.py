"""When checkpoints are written and which are kept, and how a signal ends a run."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Callable

from ..distributed.context import Context
from ..errors import MnssdError
from ..files import atomic_path
from ..runtime.signals import SignalHandler
from .options import LoopOptions
from .run_folder import RunFolder
from .step import StepResult


class TrainingInterrupted(MnssdError):
    """Training was interrupted after saving its state; the exit status is 128 plus the signal number."""

    def __init__(self, number: int, run: Path) -> None:
        super().__init__(f"interrupted; everything is saved. Resume with --resume {run}")
        self.exit_code = 128 + number


class CheckpointManager:
    """Writes the checkpoints of a run: ``last.ckpt``, ``previous.ckpt`` and those of ``keep_every``.

    Parameters
    ----------
    run : RunFolder
    options : LoopOptions
    write : callable
        Writes a checkpoint to a path.
    context : Context
        Only the main process writes.
    signals : SignalHandler
    """

    def __init__(
        self,
        run: RunFolder,
        options: LoopOptions,
        write: Callable[[Path], None],
        context: Context,
        signals: SignalHandler,
    ) -> None:
        self._run, self._keep_every, self._write = run, options.keep_every, write
        self._context, self._signals = context, signals
        self._seconds = 60 * options.save_minutes or float("inf")
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Replace ``last.ckpt`` and keep it as ``previous.ckpt``; neither is ever missing."""
        if not self._context.is_main:
            return
        if self._run.last.exists():
            with atomic_path(self._run.previous) as copy:
                try:
                    os.link(self._run.last, copy)
                except OSError:  # a file system without hard links
                    shutil.copyfile(self._run.last, copy)
        self._write(self._run.last)
        self._saved_at = time.monotonic()

    def after_step(self, result: StepResult) -> None:
        """Save if the last checkpoint is old enough.

        Raises
        ------
        TrainingInterrupted
            After a signal, once the checkpoint is written.
        """
        interrupted = result.interrupted or self._stops_alone()
        if interrupted or time.monotonic() - self._saved_at > self._seconds:
            self.save()
        if interrupted:
            self._interrupt()

    def after_epoch(self, epoch: int) -> None:
        """Save after `epoch`, counted from 1."""
        self.save()
        if self._context.is_main and self._keep_every and epoch % self._keep_every == 0:
            self._write(self._run.path / f"epoch-{epoch}.ckpt")

    def before_epoch(self) -> None:
        """Raise TrainingInterrupted after a signal that arrived during validation; the state is saved."""
        if self._stops_alone():
            self._interrupt()

    def _stops_alone(self) -> bool:
        """Whether a signal ends this process now; distributed processes must agree in a step first."""
        return self._context.world_size == 1 and self._signals.received is not None

    def _interrupt(self) -> None:
        raise TrainingInterrupted(self._signals.received or signal.SIGTERM, self._run.path)
