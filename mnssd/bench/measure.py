"""Timing, measurement results and text tables. Standard library only."""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

WARM_UP = 3
"""Repetitions before a measurement: in the first ones MXNet plans memory and oneDNN compiles kernels."""


@dataclass(frozen=True)
class Measurement:
    """One row of the table.

    Attributes
    ----------
    milliseconds : float
        Per image.
    parts : dict of str to float
        Milliseconds per image of each part, each waited for before the next one starts. Parts that overlap
        in the whole add up to more than `milliseconds`.
    peak_megabytes : int, optional
        Peak resident memory of the process up to the end of this measurement.
    """

    name: str
    images_per_second: float
    milliseconds: float
    parts: Mapping[str, float] = field(default_factory=dict)
    peak_megabytes: Optional[int] = None

    def as_dict(self) -> Dict[str, Any]:
        """The measurement for JSON, numbers rounded to three decimals."""
        values = {**asdict(self), "parts": {name: round(value, 3) for name, value in self.parts.items()}}
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}


class Clock:
    """Accumulated seconds of named parts.

    `wait` is called at the end of each part, so that asynchronous work is counted where it was launched.
    """

    def __init__(self, wait: Callable[[], object] = lambda: None) -> None:
        self.seconds: Dict[str, float] = {}
        self._wait = wait

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the duration of the ``with`` block to the part `name`."""
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def milliseconds(self, images: int) -> Dict[str, float]:
        """Milliseconds per image of each part."""
        return {name: seconds / images * 1e3 for name, seconds in self.seconds.items()}


def median_seconds(work: Callable[[], object], seconds: float, least: int = 5) -> float:
    """Median duration of `work`, repeated for about `seconds` and at least `least` times."""
    return medians_in_turn([work], seconds, least)[0]


def medians_in_turn(works: Sequence[Callable[[], object]], seconds: float, least: int = 5) -> List[float]:
    """Median duration of each of `works`, as `median_seconds`, with `seconds` for all of them.

    They run in turn, so that a machine that slows down affects all of them.
    """
    for work in [*works] * WARM_UP:
        work()
    durations: List[List[float]] = [[] for _ in works]
    end = time.perf_counter() + seconds
    while len(durations[0]) < least or time.perf_counter() < end:
        for work, taken in zip(works, durations):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in durations]


def format_measurements(rows: Sequence[Mapping[str, Any]]) -> str:
    """Measurements (`Measurement.as_dict`) as a text table."""
    head = ["measurement", "images/s", "ms/image", "peak MB", "breakdown, ms/image"]
    cells = [
        [
            row["name"],
            _three_digits(row["images_per_second"]),
            _three_digits(row["milliseconds"]),
            str(row["peak_megabytes"] or "?"),
            ", ".join(f"{name} {_three_digits(value)}" for name, value in row["parts"].items()),
        ]
        for row in rows
    ]
    return format_table(head, cells)


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows of cells as a text table, columns of numbers aligned to the right; or as a Markdown table."""
    if markdown:
        return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    is_numeric = [all(_is_number(row[i]) or not row[i] for row in rows) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, is_numeric)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(line, [head, *rows]))


def _is_number(cell: str) -> bool:
    digits = cell.rstrip(" M%").replace(",", "").replace(".", "")
    return digits.isdigit() or cell == "?"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
