"""When checkpoints are written, which are kept, and what happens when the process is told to end."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Callable, Dict, Optional, Type

from ..errors import MnssdError
from ..files import atomic_path
from .run_folder import RunFolder

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(MnssdError):
    """Training was told to end, and has saved where it was; the exit status is 128 plus the signal."""

    def __init__(self, number: int, run: Path) -> None:
        super().__init__(f"interrupted; everything is saved. Go on with: --resume {run}")
        self.exit_code = 128 + number


class SignalHandler:
    """Within ``with``, SIGINT (Ctrl-C) and SIGTERM are noted instead of ending the process at once.

    A second SIGINT ends it all the same, as for somebody who cannot wait for the step or the measurement.
    A signal that is ignored, as behind `nohup`, stays so. In another thread than the main one, which alone
    can, nothing is changed.

    Attributes
    ----------
    heard : int or None
        Number of the signal.
    """

    def __init__(self) -> None:
        self.heard: Optional[int] = None
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> SignalHandler:
        if threading.current_thread() is threading.main_thread():
            wanted = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._hear) for number in wanted}
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: Optional[FrameType]) -> None:
        if self.heard is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.heard = number


class CheckpointManager:
    """Writes the checkpoints of a run: ``last.ckpt``, the one before it, and some to keep.

    Parameters
    ----------
    run : RunFolder
    minutes : float
        Between two within an epoch; 0 for none.
    every : int
        Epochs between two that are kept as ``epoch-N.ckpt``; 0 for none.
    write : callable, optional
        Writes one to the path given; None where another process does.
    """

    def __init__(
        self, run: RunFolder, minutes: float, every: int, write: Optional[Callable[[Path], None]]
    ) -> None:
        self._run, self._every, self._write = run, every, write
        self._seconds = 60 * minutes if minutes else float("inf")
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last one is old enough."""
        return self._write is not None and time.monotonic() - self._saved > self._seconds

    def save(self) -> None:
        """Replace ``last.ckpt``; what it was stays as ``previous.ckpt``. Neither is missing at any moment."""
        if self._write is None:
            return
        if self._run.last.exists():
            with atomic_path(self._run.previous) as copy:
                try:
                    os.link(self._run.last, copy)
                except OSError:  # a file system without hard links
                    shutil.copyfile(self._run.last, copy)
        self._write(self._run.last)
        self._saved = time.monotonic()

    def save_epoch(self, epoch: int) -> None:
        """The same at the end of an epoch, counted from 1."""
        self.save()
        if self._write and self._every and epoch % self._every == 0:
            self._write(self._run.path / f"epoch-{epoch}.ckpt")
