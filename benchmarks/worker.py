"""One rival in a benchmark: a process that prepares once and then works when it is told to.

The driver (`rivals.Rival`) writes a number of repetitions on a line; the worker does the work so many times
and answers with a JSON list of seconds, one for each. Rivals thus run in turn, in one another's minutes, on
the same inputs, and none works while another is measured. Nothing of any framework is imported here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Callable, Dict, List

BATCH, SIZE = 8, 300
CLASSES = 1000
DETECTOR_CLASSES = 20
BACKGROUND = 6.0  # bias of the background in untrained detectors: few boxes pass the threshold
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 4e-5


class Turns:
    """The worker's side of the protocol.

    Whatever a library prints goes to stderr: stdout belongs to the protocol.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def start(self) -> None:
        """Say that all is prepared, and wait for the first turn."""
        print("ready", file=self._answers, flush=True)
        self._wait()

    def add(self, seconds: float) -> None:
        """Take the time of a repetition; after the last one of a turn answer, and wait for the next turn."""
        self._seconds.append(seconds)
        if len(self._seconds) == self._wanted:
            print(json.dumps(self._seconds), file=self._answers, flush=True)
            self._wait()

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:  # the driver hung up; os._exit, because loops are in the middle of something
            os._exit(0)
        self._wanted = int(line)
        self._seconds: List[float] = []


def serve(tasks: Dict[str, Callable[[], Callable[[], object]]]) -> None:
    """Prepare the task named on the command line and work on demand until the driver hangs up."""
    turns = Turns()
    work = tasks[sys.argv[1]]()
    turns.start()
    while True:
        begun = time.perf_counter()
        work()
        turns.add(time.perf_counter() - begun)
