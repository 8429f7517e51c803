"""Learning rate schedule."""

from __future__ import annotations

import numpy as np
import pytest

from mnssd.train.options import LoopOptions
from mnssd.train.schedule import learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "step"])
@pytest.mark.parametrize(
    ("epochs", "steps", "warmup"), [(1, 1, 0.0), (1, 1, 1.0), (10, 7, 1.0), (3, 5, 0.5), (2, 4, 9.0)]
)
def test_learning_rate_rises_then_falls_and_is_never_zero(
    schedule: str, epochs: int, steps: int, warmup: float
) -> None:
    options = LoopOptions(epochs=epochs, schedule=schedule, warmup=warmup, lr=0.4)
    rates = np.array([learning_rate(options, step, steps) for step in range(epochs * steps)])
    assert (rates > 0).all()
    assert rates.max() <= 0.4 + 1e-12
    peak = int(rates.argmax())
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) <= 1e-12).all()


def test_step_schedule_divides_by_ten_twice() -> None:
    options = LoopOptions(epochs=24, schedule="step", warmup=0, lr=1.0)
    rates = [learning_rate(options, step, 10) for step in (0, 159, 160, 199, 200, 239)]
    assert np.allclose(rates, [1, 1, 0.1, 0.1, 0.01, 0.01])
