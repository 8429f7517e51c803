"""From which size of a training step on do two computing threads pay? Writes a line for each network.

    python benchmarks/threads.py

Rivals are processes with OMP_NUM_THREADS=1 and 2 that take turns at the same training step of a detector.
"""

from __future__ import annotations

import sys

from rivals import Rival, compare

GRID = ((128, 0.5), (160, 0.5), (224, 0.5), (160, 1.0), (224, 1.0), (300, 1.0))
BATCH = 16


def main() -> None:
    """Compare one with two threads over `GRID`."""
    print("| size | width | batch x width x pixels | 1 thread, s | 2 threads, s | 2 are faster by |")
    print("|---|---|---|---|---|---|")
    for size, width in GRID:
        arguments = [str(BATCH), "6", str(size), str(width)]
        rivals = [
            Rival(n, sys.executable, "work_ours.py", "detector_step", {"OMP_NUM_THREADS": n}, arguments)
            for n in "12"
        ]
        seen = compare(rivals, rounds=5, times=3)
        low, high = seen.spread("2", "1")
        print(
            f"| {size} | {width} | {BATCH * width * size * size:,.0f} | {seen.median('1'):.3f} | "
            f"{seen.median('2'):.3f} | {seen.ratio('2', '1'):.2f} ({low:.2f} - {high:.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
