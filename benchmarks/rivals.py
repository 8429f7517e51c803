"""Driving the workers in turn, and what comes of it: medians, and ratios of pairs with their intervals."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

HERE = Path(__file__).resolve().parent

# Variables that set threads and instruction sets; not inherited from the shell that runs the benchmark.
SETTINGS = ("OMP_", "MXNET_", "DNNL_", "ONEDNN_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_NUM")


ROUNDS = 31
"""Rounds of a comparison."""

RESAMPLES = 2000
"""Bootstrap samples of the rounds."""


class Rival:
    """A worker process, stopped (SIGSTOP) while it does not work.

    Otherwise its threads take a processor from the next rival: those of ONNX Runtime spin for 40 ms after
    their work, and MobileNetV2 took 14 ms instead of 8 right after it. Worker processes of a loader go on
    loading.

    Parameters
    ----------
    name : str
    python : str or Path
        The interpreter of its environment.
    script, task : str
        A file of this folder, and what it is to do.
    settings : mapping of str to str
        Environment variables of its own.
    arguments : sequence of str
        For the script, after the task.
    """

    def __init__(
        self,
        name: str,
        python: object,
        script: str,
        task: str,
        settings: Optional[Mapping[str, str]] = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        clean = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        self._process = subprocess.Popen(
            [str(python), str(HERE / script), task, *arguments],
            env={**clean, **(settings or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # signals reach its own worker processes, too
        )
        self._line("ready")
        self._signal(signal.SIGSTOP)

    def work(self, times: int) -> List[float]:
        """Seconds of each of so many repetitions."""
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        seconds = [float(value) for value in json.loads(self._line("seconds"))]
        self._signal(signal.SIGSTOP)
        return seconds

    def megabytes(self, key: str) -> int:
        """Memory of the process by a key of ``/proc/PID/status``: VmRSS now, VmHWM at its peak."""
        with open(f"/proc/{self._process.pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        return round(int(fields[key].split()[0]) / 1024)

    def close(self) -> None:
        """Hang up and wait for the process to end; one that does not is killed."""
        assert self._process.stdin is not None
        if self._process.poll() is not None:  # it failed
            return
        self.peak = self.megabytes("VmHWM")
        with contextlib.suppress(ProcessLookupError, BrokenPipeError):
            self._signal(signal.SIGCONT)
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        os.killpg(self._process.pid, number)

    def _line(self, what: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()} instead of {what}")
        return line


class Ratio(NamedTuple):
    """How many times faster, with the 95 % bootstrap interval of the median over the rounds."""

    value: float
    low: float
    high: float

    @property
    def is_narrow(self) -> bool:
        """Whether the interval is within a tenth of the value on both sides."""
        return self.low >= 0.9 * self.value and self.high <= 1.1 * self.value

    def __str__(self) -> str:
        text = f"{self.value:.2f}x ({self.low:.2f} - {self.high:.2f})"
        return text if self.is_narrow else f"inconclusive: {text}"


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """The median of the rounds' ratios and its percentile bootstrap interval."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = (medians[round(share * (RESAMPLES - 1))] for share in (0.025, 0.975))
    return Ratio(statistics.median(ratios), low, high)


@dataclass
class Measured:
    """What one comparison gave.

    Attributes
    ----------
    seconds : dict of str to list of float
        For each rival the median of each round.
    """

    seconds: Dict[str, List[float]]

    def median(self, name: str) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, against: str) -> Ratio:
        """How many times faster `name` is than `against`."""
        return ratio_of([slow / fast for slow, fast in zip(self.seconds[against], self.seconds[name])])


def compare(
    rivals: Sequence[Rival],
    times: Union[int, Mapping[str, int]],
    unmeasured: int = 0,
    watch: Callable[[], object] = lambda: None,
    rounds: int = ROUNDS,
) -> Measured:
    """Let the rivals work in turn; each round begins with another one.

    Parameters
    ----------
    rivals : sequence of Rival
        Closed at the end.
    times : int or mapping of str to int
        Repetitions of a turn, whose median counts; or for each rival its own.
    unmeasured : int
        Repetitions before them, which fill the caches after the other rivals.
    watch : callable
        Called after each round.
    rounds : int
        Turns of each rival.
    """
    each = times if isinstance(times, Mapping) else {rival.name: times for rival in rivals}
    try:
        for rival in rivals:
            rival.work(unmeasured + max(2, each[rival.name] // 2))  # warm up
        measured: Dict[str, List[float]] = {rival.name: [] for rival in rivals}
        for number in range(rounds):
            shift = number % len(rivals)
            for rival in [*rivals[shift:], *rivals[:shift]]:
                seconds = rival.work(unmeasured + each[rival.name])[unmeasured:]
                measured[rival.name].append(statistics.median(seconds))
            watch()
    finally:
        for rival in rivals:
            rival.close()
    return Measured(measured)
