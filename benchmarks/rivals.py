"""Driving the workers in turn, and what comes of it: medians and ratios of pairs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

HERE = Path(__file__).resolve().parent

# Variables that set threads and instruction sets; not inherited from the shell that runs the benchmark.
SETTINGS = ("OMP_", "MXNET_", "DNNL_", "ONEDNN_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_NUM")


class Rival:
    """A worker process.

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
        )
        self._line("ready")

    def work(self, times: int) -> List[float]:
        """Seconds of each of so many repetitions."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return [float(value) for value in json.loads(self._line("seconds"))]

    def close(self) -> None:
        """Hang up and wait for the process to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self, what: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()} instead of {what}")
        return line


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

    def ratio(self, name: str, against: str) -> float:
        """How many times faster `name` is than `against`: the median of the rounds' own ratios."""
        pairs = zip(self.seconds[against], self.seconds[name])
        return statistics.median(slow / fast for slow, fast in pairs)

    def spread(self, name: str, against: str) -> List[float]:
        """The lowest and the highest of the rounds' ratios."""
        ratios = [slow / fast for slow, fast in zip(self.seconds[against], self.seconds[name])]
        return [min(ratios), max(ratios)]


REST = 0.5
"""Seconds between two rivals. The threads of some go on spinning after their work, ONNX Runtime's for 40 ms,
and take a processor from the program that comes next: MobileNetV2 took 14 ms instead of 8 right after it."""


def compare(rivals: Sequence[Rival], rounds: int, times: int) -> Measured:
    """Let the rivals work in turn, with a rest between them; each round begins with another one."""
    for rival in rivals:
        rival.work(max(2, times // 2))  # warm up
    measured: Dict[str, List[float]] = {rival.name: [] for rival in rivals}
    for number in range(rounds):
        shift = number % len(rivals)
        for rival in [*rivals[shift:], *rivals[:shift]]:
            time.sleep(REST)
            measured[rival.name].append(statistics.median(rival.work(times)))
    for rival in rivals:
        rival.close()
    return Measured(measured)
