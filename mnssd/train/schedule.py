"""Learning rate schedule: a pure function of the step, so that resuming needs no state.

GluonCV's `LRScheduler` is not used: it divides by zero if a part is one step long, and its first step has
learning rate 0.
"""

from __future__ import annotations

from math import cos, pi

from .options import LoopOptions

STEP_AT = (2 / 3, 5 / 6)
"""When the ``step`` schedule divides by 10: after epochs 160 and 200 of 240 in GluonCV's train_ssd."""


def learning_rate(options: LoopOptions, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step, counted from 0.

    Linear warm-up (Goyal et al. 2017, section 2.2), then half a cosine towards 0 (Loshchilov and Hutter 2017)
    or two divisions by 10.
    """
    total = options.epochs * steps_per_epoch
    warmup = min(round(options.warmup * steps_per_epoch), total)
    if step < warmup:
        return options.lr * (step + 1) / warmup
    if options.schedule == "cosine":
        return options.lr * (1 + cos(pi * (step - warmup) / (total - warmup))) / 2
    return options.lr * 0.1 ** sum(step >= fraction * total for fraction in STEP_AT)
