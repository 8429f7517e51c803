"""From which size of a training step on do two computing threads pay? Writes a line for each network.

    python benchmarks/threads.py
    python benchmarks/threads.py --others 1 --sizes 300:1.0 --batch 8 --rounds 3

Rivals are processes with OMP_NUM_THREADS=1 and 2 that take turns at the same training step of a detector,
beside --others programs that compute all the time in one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import contextmanager
from typing import Iterator

from rivals import Rival, compare

GRID = "128:0.5,160:0.5,224:0.5,160:1.0,224:1.0,300:1.0"


@contextmanager
def other_programs(count: int) -> Iterator[None]:
    """`count` processes that compute all the time."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Compare one with two threads for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default=GRID, help="SIZE:WIDTH, ... of the networks")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--others", type=int, default=0)
    args = parser.parse_args()
    print("| size | width | batch x width x pixels | 1 thread, s | 2 threads, s | 2 are faster by |")
    print("|---|---|---|---|---|---|")
    for size, width in (pair.split(":") for pair in args.sizes.split(",")):
        arguments = [str(args.batch), "6", size, width]
        rivals = [
            Rival(n, sys.executable, "work_ours.py", "detector_step", {"OMP_NUM_THREADS": n}, arguments)
            for n in "12"
        ]
        with other_programs(args.others):
            seen = compare(rivals, times=3, rounds=args.rounds)
        ratio, work = seen.ratio("2", "1"), args.batch * float(width) * int(size) ** 2
        print(
            f"| {size} | {width} | {work:,.0f} | {seen.median('1'):.3f} | {seen.median('2'):.3f} | "
            f"{ratio.value:.2f} ({ratio.low:.2f} - {ratio.high:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
