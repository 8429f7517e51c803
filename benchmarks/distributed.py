"""Two workers with one core each against one worker with one core, through MXNet's parameter server.

    python benchmarks/distributed.py [--rounds 3] [--size 300] [--width 1.0] [--batch 8]

Both train the same detector on the built-in images, in turn; counted are the images per second of the epochs
after the first. Also measured: bytes that the loopback interface carries a step, of which follows what a
network has to.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Tuple

from mnssd.runtime import processor

EPOCHS, STEPS = 3, 6
"""The first epoch compiles kernels and is not counted."""


def loopback_bytes() -> int:
    """That the loopback interface has received since the machine started."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    raise OSError("no loopback interface")


def train(data: Path, output: Path, workers: int, args: argparse.Namespace) -> Tuple[float, float]:
    """Images a second over all workers, and bytes a step."""
    options = {
        "dataset": "shapes", "data-root": data, "size": args.size, "width": args.width, "epochs": EPOCHS,
        "batch-size": args.batch * workers, "val-interval": 0, "save-minutes": 0, "workers": 0,
        "output": output,
    }  # fmt: skip
    program = ["-m", "mnssd.cli.main", "train-ssd", *(f"--{key}={value}" for key, value in options.items())]
    command = [sys.executable, "-m", "mnssd.cli.main", "launch", "-n", str(workers), "--", *program]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:workers]))
    before = loopback_bytes()
    subprocess.run(
        ["taskset", "-c", cores, *command, f"--output={output}"],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    carried = loopback_bytes() - before
    with open(output / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))[1:]
    steps = EPOCHS * (STEPS * 2 // workers)
    return statistics.mean(float(row["images_per_second"]) for row in rows) * workers, carried / steps


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8, help="images of a worker in a step")
    args = parser.parse_args()
    from mnssd.data.shapes.dataset import make_shapes

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_shapes(folder / "shapes", train=2 * STEPS * args.batch, val=4, size=(args.size, args.size))
        print(f"{processor.model()}, {processor.usable_cores()} cores")
        print(f"{args.size} pixels, width {args.width}, {args.batch} images a worker and step\n")
        print(
            "| round | 1 worker, images/s | 2, images/s | ratio | MB per step, two |\n|---|---|---|---|---|"
        )
        ratios = []
        for number in range(args.rounds):
            one, _ = train(folder / "shapes", folder / f"one{number}", 1, args)
            two, carried = train(folder / "shapes", folder / f"two{number}", 2, args)
            ratios.append(two / one)
            print(
                f"| {number + 1} | {one:.2f} | {two:.2f} | {two / one:.2f} | {carried / 1e6:.0f} |",
                flush=True,
            )
        print(f"\nmedian ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
