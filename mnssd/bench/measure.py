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
    for _ in range(WARM_UP):
        work()
    durations: List[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < least or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        durations.append(time.perf_counter() - begun)
    return statistics.median(durations)


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


def _short(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
