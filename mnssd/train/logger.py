"""What a run says: a bar or plain lines on the terminal, a row an epoch in ``log.csv``."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from tqdm import tqdm

from ..files import write_text
from ..runtime import processor

LINES_EVERY = 30.0
"""Seconds between progress lines where the output is no terminal."""

SLOW_DATA = 0.2
"""Share of the time spent waiting for data above which the user is told."""


class TrainingLogger:
    """Progress of a run.

    Parameters
    ----------
    log : Path, optional
        ``log.csv``; written anew, whole, at each epoch's end. None for a process that says nothing.
    epochs : int
    total_steps : int
    first_step : int
        Where a resumed run goes on.
    """

    def __init__(self, log: Optional[Path], epochs: int, total_steps: int, first_step: int) -> None:
        self._log, self._epochs, self._total = log, epochs, total_steps
        self._terminal = log is not None and sys.stderr.isatty()
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            disable=not self._terminal,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        )
        self._slow_data_said = False
        self._last_line = time.monotonic()
        self._begun, self._begun_step = time.monotonic(), first_step
        self.start_epoch(0, {})

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._log is None:
            return
        self._bar.clear()
        print(text, flush=True)
        self._bar.refresh()

    def start_epoch(self, epoch: int, partial: Mapping[str, Any]) -> None:
        """Begin the averages of an epoch, or go on with those that `partial` gave."""
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}")
        self._sums: Dict[str, float] = dict(partial.get("sums", {}))
        self._images, self._steps = partial.get("images", 0), partial.get("steps", 0)
        self._waited = partial.get("waited", 0.0)
        self._epoch, self._epoch_begun = epoch, time.monotonic() - partial.get("seconds", 0.0)

    def partial(self) -> Dict[str, Any]:
        """The averages of the epoch so far, for `start_epoch`."""
        return {
            "sums": dict(self._sums),
            "images": self._images,
            "steps": self._steps,
            "waited": self._waited,
            "seconds": time.monotonic() - self._epoch_begun,
        }

    def left_out(self, text: str) -> None:
        """One step that changed nothing, and why."""
        self._bar.update(1)
        self.say(text)

    def step(self, step: int, images: int, rate: float, losses: Mapping[str, float], waited: float) -> None:
        """One step done: `losses` by name, `waited` seconds for data."""
        self._steps += 1
        self._images += images
        self._waited += waited
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        now = time.monotonic()
        speed = self._images / (now - self._epoch_begun)
        if self._terminal:
            self._bar.set_postfix_str(
                f"loss {self._mean('loss'):.3f} lr {rate:.2g} {speed:.1f} img/s{self._waiting(now)}",
                refresh=False,
            )
            self._bar.update(1)
        elif now - self._last_line > LINES_EVERY:
            self._last_line = now
            done = step + 1 - self._begun_step
            left = (now - self._begun) / done * (self._total - step - 1)
            self.say(
                f"  epoch {self._epoch + 1}/{self._epochs} step {step + 1}/{self._total}:"
                f" loss {self._mean('loss'):.3f} lr {rate:.2g} {speed:.1f} images/s{self._waiting(now)},"
                f" {_clock(left)} left"
            )

    def _waiting(self, now: float) -> str:
        """The share of the epoch's time that went into waiting for images, where it can be seen."""
        share = self._waited / max(now - self._epoch_begun, 1e-9)
        return f" data {share:.0%}" if share >= 0.01 else ""

    def end_epoch(self, rate: float) -> Dict[str, Any]:
        """The epoch's averages as a row of the log."""
        seconds = time.monotonic() - self._epoch_begun
        row: Dict[str, Any] = {"epoch": self._epoch + 1, "lr": round(rate, 8)}
        row.update({name: round(self._mean(name), 5) for name in self._sums})
        row.update(
            images_per_second=round(self._images / seconds, 2),
            seconds=round(seconds, 1),
            data_wait=round(self._waited / seconds, 3),
            memory_mb=processor.resident_megabytes(),
        )
        if self._waited / seconds > SLOW_DATA and not self._slow_data_said:
            self._slow_data_said = True
            self.say(
                f"warning: {self._waited / seconds:.0%} of the time goes into waiting for images;"
                " --cache-images keeps large files decoded and shrunk; more --workers may help"
            )
        return row

    def finish_row(self, history: List[Dict[str, Any]], score: str = "") -> None:
        """Print the newest row, with what was measured, and write all of them to the log."""
        row = history[-1]
        self.say(
            f"epoch {row['epoch']:>3}/{self._epochs}  loss {row.get('loss', math.nan):.4f}"
            f"  lr {row['lr']:.2g}  {row['images_per_second']:.1f} images/s  {row['seconds']:.0f} s"
            + (f"  {score}" if score else "")
        )
        if self._log:
            write_text(self._log, to_csv(history))

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def _mean(self, name: str) -> float:
        return self._sums.get(name, 0.0) / max(1, self._steps)


def to_csv(rows: List[Dict[str, Any]]) -> str:
    """Rows as CSV; the columns are those of all rows, in order of appearance; what a row lacks is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
