"""What pruning gave: a detector and its pruned successor, timed in turn in one process.

    python benchmarks/pruned.py RUN PRUNED [--seconds 60]

Timed are the network with boxes and NMS at batch 1 and 8, as `mnssd detect` runs it, and the network
alone. Accuracy is not measured here: `eval_voc.py RUN` does.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

from mnssd.runtime import processor, settings


def answer(block: Any, x: Any) -> None:
    """Run it to the end."""
    for output in block(x):
        output.asnumpy()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("pruned")
    parser.add_argument("--seconds", type=float, default=60, help="for each row of the table")
    args = parser.parse_args()
    settings.use_synchronous_engine()  # as `mnssd detect` does
    ctx = settings.pick_context("cpu")
    import mxnet as mx

    from mnssd import zoo
    from mnssd.bench.measure import medians_in_turn
    from mnssd.compress.cost import count_block
    from mnssd.graph.inference import inference_block

    nets = [zoo.load_detector(path, ctx) for path in (args.run, args.pruned)]
    width, height = nets[0].size
    costs = [count_block(net.heads, (1, 3, height, width)) for net in nets]
    print(f"{processor.model()}, {processor.usable_cores()} cores; {width}x{height}\n")
    print("| what | as trained | pruned | ratio |\n|---|---|---|---|")
    for name in ("multiply_adds", "parameters"):
        before, after = (getattr(cost, name) / 1e6 for cost in costs)
        print(f"| {name.replace('_', '-')}, millions | {before:.1f} | {after:.1f} | {after / before:.3f} |")
    for batch in (1, 8):
        x = mx.nd.array(np.random.default_rng(0).normal(0, 1, (batch, 3, height, width)), ctx=ctx)
        for what, part in (("network alone", "heads"), ("with boxes and NMS", "")):
            blocks = [inference_block(getattr(net, part) if part else net, net.size, ctx) for net in nets]
            seconds = medians_in_turn([partial(answer, block, x) for block in blocks], args.seconds)
            before, after = (each / batch * 1e3 for each in seconds)
            row = (
                f"| {what}, batch {batch}, ms per image | {before:.2f} | {after:.2f} | {after / before:.3f} |"
            )
            print(row, flush=True)


if __name__ == "__main__":
    main()
