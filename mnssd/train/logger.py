"""Training log: progress bar or plain lines on the terminal, and one row per epoch in ``log.csv``."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping

from tqdm import tqdm

from ..data.loader import Batch
from ..files import encodable, write_text
from ..runtime import load, processor, settings
from .schedule import Schedule
from .step import StepResult
from .task import ValidationResult

LINE_SECONDS = 30.0
"""Seconds between progress lines if the output is not a terminal."""

SLOW_DATA = 0.2
"""Fraction of the time spent waiting for data above which a warning is printed."""


class TrainingLogger:
    """Prints the progress of a run, if enabled, and rewrites its `log` after each epoch."""

    def __init__(self, log: Path, schedule: Schedule, enabled: bool = True) -> None:
        self._log, self._schedule = log, schedule
        self._enabled, self._terminal = enabled, enabled and sys.stderr.isatty()
        self._first_step = self._step = schedule.progress.step  # above 0 when a run resumes
        self._bar = tqdm(
            total=schedule.steps or None,
            initial=self._first_step,
            disable=not self._terminal,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        )
        self._warned_of_slow_data, self._warned_of_others, self._unreadable = False, False, 0
        self._last_line = self._started = time.monotonic()
        self.start_epoch(0, {})

    def say(self, text: str) -> None:
        """Print a line above the progress bar; nothing for an empty text."""
        if not self._enabled or not text:
            return
        self._bar.clear()
        print(encodable(text), flush=True)
        self._bar.refresh()

    def start_epoch(self, epoch: int, partial: Mapping[str, Any]) -> None:
        """Start the averages of an epoch, or continue those of `partial`."""
        self._bar.set_description_str(f"epoch {self._of(epoch + 1, self._schedule.epochs)}")
        self._sums: Dict[str, float] = dict(partial.get("sums", {}))
        self._images, self._steps = partial.get("images", 0), partial.get("steps", 0)
        self._waited, self._lr = partial.get("waited", 0.0), partial.get("lr", 0.0)
        self._epoch, self._epoch_started = epoch, time.monotonic() - partial.get("seconds", 0.0)
        self._cpu_times = load.cpu_times()

    def partial(self) -> Dict[str, Any]:
        """The averages of the epoch so far, for `start_epoch`."""
        return {
            "sums": dict(self._sums),
            "images": self._images,
            "steps": self._steps,
            "waited": self._waited,
            "lr": self._lr,
            "seconds": time.monotonic() - self._epoch_started,
        }

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches, measuring the time spent waiting for them."""
        started = time.monotonic()
        for batch in batches:
            self._waited += time.monotonic() - started
            yield batch
            started = time.monotonic()

    def after_step(self, result: StepResult) -> None:
        """Add a step to the averages of the epoch, unless it was skipped, and show progress."""
        self._step, self._lr = self._step + 1, result.lr
        self._bar.total = self._schedule.steps or None
        self._bar.update(1)
        if result.skipped:
            return
        self._steps += 1
        self._images += len(result.batch.indices)
        for name, value in result.losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        now = time.monotonic()
        speed = self._images / (now - self._epoch_started)
        loss, wait = self._mean("loss"), self._data_wait(now)
        status = f"loss {loss:.3f} lr {result.lr:.2g} {speed:.1f} images/s{wait}"
        if self._terminal:
            self._bar.set_postfix_str(status, refresh=False)
        elif now - self._last_line > LINE_SECONDS:
            self._last_line = now
            steps, epochs = self._schedule.steps, self._schedule.epochs
            seconds = (now - self._started) / (self._step - self._first_step) * (steps - self._step)
            where = f"epoch {self._of(self._epoch + 1, epochs)} step {self._of(self._step, steps)}"
            self.say(f"  {where}: {status}" + (f", {tqdm.format_interval(seconds)} left" if steps else ""))

    def _data_wait(self, now: float) -> str:
        """The fraction of the epoch spent waiting for data, if it is noticeable."""
        share = self._waited / max(now - self._epoch_started, 1e-9)
        return f" data {share:.0%}" if share >= 0.01 else ""

    def end_epoch(self) -> Dict[str, Any]:
        """The averages of the epoch as a row of the log; warns of slow data and of other programs once."""
        seconds = time.monotonic() - self._epoch_started
        row: Dict[str, Any] = {"epoch": self._epoch + 1, "lr": round(self._lr, 8)}
        row.update({name: round(self._mean(name), 5) for name in self._sums})
        row.update(
            images_per_second=round(self._images / seconds, 2),
            seconds=round(seconds, 1),
            data_wait=round(self._waited / seconds, 3),
            memory_mb=processor.resident_megabytes(),
        )
        if self._waited / seconds > SLOW_DATA and not self._warned_of_slow_data:
            self._warned_of_slow_data = True
            self.say(
                f"warning: {self._waited / seconds:.0%} of the time is spent waiting for images; "
                "--cache-images keeps large files decoded and reduced; more --workers may help"
            )
        self._warn_of_others()
        return row

    def _warn_of_others(self) -> None:
        """Warn if other programs used cores that this one needed; see `settings.leave_busy_cores`."""
        threads = settings.computing_threads()
        others = load.used_by_others(self._cpu_times, load.cpu_times())
        fitting = load.threads_beside(others, threads)
        if fitting < threads and not self._warned_of_others:
            self._warned_of_others = True
            self.say(
                f"warning: other programs used {others:.1f} of {len(processor.allowed_cpus())} CPUs in this "
                f"epoch, and steps may take several times as long. End them, or stop here and continue with "
                f"OMP_NUM_THREADS={fitting} and --resume"
            )

    def before_training(self, result: ValidationResult) -> None:
        """Print the validation of a pretrained network, if there is one."""
        self.say(f"before training: {result}" if result.metric else "")

    def after_epoch(
        self, history: List[Dict[str, Any]], result: ValidationResult, unreadable: Mapping[str, str]
    ) -> None:
        """Print the newest row of `history` and any warnings, and write all rows to the log.

        `unreadable` has the reason by path of all images skipped so far.
        """
        row, score = history[-1], str(result)
        self.say(
            f"epoch {self._of(row['epoch'], self._schedule.epochs):>6}  loss {row.get('loss', math.nan):.4f}"
            f"  lr {row['lr']:.2g}  {row['images_per_second']:.1f} images/s  {row['seconds']:.0f} s"
            + (f"  {score}" if score else "")
        )
        self.say(f"warning: {result.warning}" if result.warning else "")
        if len(unreadable) > self._unreadable:
            self._unreadable, first = len(unreadable), next(iter(unreadable.values()))
            self.say(f"warning: images that cannot be used, skipped: {len(unreadable)}; the first: {first}")
        if self._enabled:
            write_text(self._log, to_csv(history))

    def close(self) -> None:
        """Remove the progress bar."""
        self._bar.close()

    @staticmethod
    def _of(number: int, total: int) -> str:
        """``3/60``, or ``3`` while the total is unknown."""
        return f"{number}/{total}" if total else str(number)

    def _mean(self, name: str) -> float:
        return self._sums.get(name, 0.0) / max(1, self._steps)


def to_csv(rows: List[Dict[str, Any]]) -> str:
    """Rows as CSV with the columns of all rows in order of appearance; missing values are empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
