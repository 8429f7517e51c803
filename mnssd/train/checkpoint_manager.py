"""When checkpoints are written and which are kept, and how a signal ends a run."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass, field
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


@dataclass
class CheckpointManager:
    """Writes the checkpoints of a run: ``last.ckpt``, ``previous.ckpt`` and those of ``keep_every``."""

    run: RunFolder
    options: LoopOptions
    write: Callable[[Path], None]  # called by the main process only
    context: Context
    signals: SignalHandler
    saved_at: float = field(default_factory=time.monotonic)

    def save(self) -> None:
        """Replace ``last.ckpt`` and keep it as ``previous.ckpt``; neither is ever missing."""
        if not self.context.is_main:
            return
        if self.run.last.exists():
            with atomic_path(self.run.previous) as copy:
                try:
                    os.link(self.run.last, copy)
                except OSError:  # a file system without hard links
                    shutil.copyfile(self.run.last, copy)
        self.write(self.run.last)
        self.saved_at = time.monotonic()

    def after_step(self, result: StepResult) -> None:
        """Save if the last checkpoint is old enough; raise TrainingInterrupted after a signal, once saved."""
        interrupted = result.interrupted or self._stops_alone()
        interval = 60 * self.options.save_minutes or float("inf")
        if interrupted or time.monotonic() - self.saved_at > interval:
            self.save()
        if interrupted:
            self._interrupt()

    def after_epoch(self, epoch: int) -> None:
        """Save after `epoch`, counted from 1."""
        self.save()
        keep_every = self.options.keep_every
        if self.context.is_main and keep_every and epoch % keep_every == 0:
            self.write(self.run.path / f"epoch-{epoch}.ckpt")

    def before_epoch(self) -> None:
        """Raise TrainingInterrupted after a signal that arrived during validation; the state is saved."""
        if self._stops_alone():
            self._interrupt()

    def _stops_alone(self) -> bool:
        """Whether a signal ends this process now; distributed processes must agree in a step first."""
        return self.context.world_size == 1 and self.signals.received is not None

    def _interrupt(self) -> None:
        raise TrainingInterrupted(self.signals.received or signal.SIGTERM, self.run.path)
