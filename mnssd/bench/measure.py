"""What a measurement is, and how it is shown. Standard library only."""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

WARM_UP = 3
"""Repetitions before a measurement: MXNet plans memory and oneDNN compiles its kernels in the first ones."""


@dataclass(frozen=True)
class Measurement:
    """One line of the table.

    Attributes
    ----------
    what : str
    images_per_second : float
    milliseconds : float
        An image.
    parts : dict of str to float
        Milliseconds an image of each part, every part waited for before the next begins. Where parts run
        beside one another in the whole, their sum is more than `milliseconds`.
    peak_megabytes : int, optional
        The most resident memory that the process has had until the end of this measurement.
    """

    what: str
    images_per_second: float
    milliseconds: float
    parts: Mapping[str, float] = field(default_factory=dict)
    peak_megabytes: Optional[int] = None

    def as_dict(self) -> Dict[str, Any]:
        """For JSON, rounded to three digits behind the point."""
        plain = asdict(self)
        plain["parts"] = {name: round(value, 3) for name, value in self.parts.items()}
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in plain.items()}


class Clock:
    """Adds up the seconds of named parts.

    Parameters
    ----------
    wait : callable, optional
        Called at the end of each part, so that what was only launched there is counted there.
    """

    def __init__(self, wait: Optional[Callable[[], object]] = None) -> None:
        self.seconds: Dict[str, float] = {}
        self._wait = wait

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Everything inside ``with`` belongs to `name`."""
        begun = time.perf_counter()
        yield
        if self._wait:
            self._wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def milliseconds(self, images: int) -> Dict[str, float]:
        """An image, by part."""
        return {name: seconds / images * 1e3 for name, seconds in self.seconds.items()}


def median_seconds(work: Callable[[], object], seconds: float, least: int = 5) -> float:
    """Median duration of `work`, repeated for about so many `seconds`, at least `least` times."""
    return medians_in_turn([work], seconds, least)[0]


def medians_in_turn(works: Sequence[Callable[[], object]], seconds: float, least: int = 5) -> List[float]:
    """Median duration of each of `works`, done in turn, so that a machine that slows down slows all of them.

    Repeated for about so many `seconds` in all, each at least `least` times.
    """
    for work in [*works] * WARM_UP:
        work()
    durations: List[List[float]] = [[] for _ in works]
    end = time.perf_counter() + seconds
    while len(durations[0]) < least or time.perf_counter() < end:
        for work, taken in zip(works, durations):
            begun = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begun)
    return [statistics.median(taken) for taken in durations]


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The measurements (`Measurement.as_dict`) as a table for people."""
    width = max(len("what"), *(len(row["what"]) for row in rows))
    lines = [f"{'what':{width}}  images/s  ms/image  peak MB  where the time goes, ms/image"]
    for row in rows:
        peak = row["peak_megabytes"] if row["peak_megabytes"] is not None else "-"
        parts = ", ".join(f"{name} {_short(value)}" for name, value in row["parts"].items())
        speed, time_each = _short(row["images_per_second"]), _short(row["milliseconds"])
        lines.append(f"{row['what']:{width}}  {speed:>8}  {time_each:>8}  {peak:>7}  {parts}".rstrip())
    return "\n".join(lines)


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows of texts in columns, numbers to the right; or the same in Markdown."""
    if markdown:
        return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    right = [all(_is_number(row[i]) or not row[i] for row in rows) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, [head, *rows]))


def _is_number(cell: str) -> bool:
    digits = cell.rstrip(" M%").replace(",", "").replace(".", "")
    return digits.isdigit() or cell == "?"


def _short(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
