"""How much of the processor other programs use, from Linux's ``/proc/stat``.

Imports neither MXNet nor NumPy; Python 3.6 syntax as in `environment`.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple, Optional

from .processor import allowed_cpus

FIELDS = (1, 2, 3, 6, 7)
"""Columns of a line of ``/proc/stat``: user, nice, system, irq and softirq
(https://man7.org/linux/man-pages/man5/proc_stat.5.html). Programs started with ``nice`` count in full: the
scheduler's groups of sessions (``sched_autogroup_enabled``) make them equal to those of other sessions."""


class CpuTimes(NamedTuple):
    """Seconds: the clock's, those of all programs on the CPUs of this process, and those of this process."""

    clock: float
    all: float
    own: float


def cpu_times(root: str = "/") -> Optional[CpuTimes]:
    """The times now; None on systems without ``/proc/stat``."""
    try:
        lines = (Path(root) / "proc/stat").read_text().splitlines()
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):  # not Linux
        return None
    names = {f"cpu{cpu}" for cpu in allowed_cpus()}
    rows = [line.split() for line in lines if line.split(" ", 1)[0] in names]
    ticks = sum(int(row[field]) for row in rows for field in FIELDS)
    return CpuTimes(time.monotonic(), ticks / per_second, sum(os.times()[:4]))


def used_by_others(before: Optional[CpuTimes], after: Optional[CpuTimes]) -> float:
    """CPUs that other programs used on average between two times; 0 if that is unknown."""
    if before is None or after is None or after.clock <= before.clock:
        return 0.0
    return max(0.0, (after.all - before.all) - (after.own - before.own)) / (after.clock - before.clock)


def threads_beside(others: float, threads: int) -> int:
    """How many of so many threads have a CPU of their own if other programs use `others` CPUs; at least one.

    With half a CPU too few, a thread counts as having none. Beside less than half a CPU all are kept, also if
    there were more than CPUs before.
    """
    if others < 0.5:
        return threads
    return min(threads, max(1, int(len(allowed_cpus()) - others + 0.5)))
