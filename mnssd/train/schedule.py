"""The learning rate over a run.

A pure function of the step, so that a resumed run needs nothing of it. GluonCV's `LRScheduler` is not
used: it divides by zero where a part is one step long, and its first step has rate 0 and is lost.
"""

from __future__ import annotations

from math import cos, pi

from .options import LoopOptions

STEP_AT = (2 / 3, 5 / 6)
"""Where in the run the `step` schedule divides by 10: 160 and 200 of 240 epochs, as GluonCV's train_ssd."""


def learning_rate(options: LoopOptions, step: int, steps_per_epoch: int) -> float:
    """The rate of step number `step`, counted from 0.

    A linear rise over the warm-up that ends at the full rate (Goyal et al. 2017, section 2.2), then half
    a cosine towards 0 (Loshchilov and Hutter 2017) or two divisions by 10.
    """
    total = options.epochs * steps_per_epoch
    rise = min(round(options.warmup * steps_per_epoch), total)
    if step < rise:
        return options.lr * (step + 1) / rise
    if options.schedule == "cosine":
        return options.lr * (1 + cos(pi * (step - rise) / (total - rise))) / 2
    return options.lr * 0.1 ** sum(step >= share * total for share in STEP_AT)
