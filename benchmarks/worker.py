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
from typing import Callable, Dict

BATCH, SIZE = 8, 300
CLASSES = 1000
DETECTOR_CLASSES = 20
BACKGROUND = 6.0  # bias of the background in untrained detectors: few boxes pass the threshold
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 4e-5


def serve(tasks: Dict[str, Callable[[], Callable[[], object]]]) -> None:
    """Prepare the task named on the command line and work on demand until the driver hangs up."""
    # Whatever a library prints goes to stderr: stdout belongs to the protocol.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = tasks[sys.argv[1]]()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begun = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begun)
        print(json.dumps(seconds), file=answers, flush=True)
