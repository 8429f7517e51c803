"""The training step, and the moving average of the weights."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mnssd.data.loader import Batch
from mnssd.distributed.context import SingleProcess, StepStatus
from mnssd.train.ema import INTERVAL, ModelEMA
from mnssd.train.optimizer import make_trainer
from mnssd.train.options import LoopOptions
from mnssd.train.step import StepResult, TrainingStep


class Quadratic:
    """Objective whose gradient is twice the batch's only value in each of four weights."""

    def __init__(self) -> None:
        self.block = nn.Dense(1, in_units=4, use_bias=False)
        self.block.initialize(mx.init.Zero())

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        loss = self.block(mx.nd.full((1, 4), batch.arrays[0][0])).sum() * 2
        return loss, {"loss": loss + batch.arrays[0][0]}

    def normalizer(self, batch: Batch) -> float:
        return 4.0


class FourRanks(SingleProcess):
    """Context in which three other ranks have no gradients and the same status."""

    def sum_gradients(self, normalizer: float, is_finite: bool, interrupted: bool) -> StepStatus:
        return StepStatus(normalizer, is_finite, interrupted)


def batch_of(value: float) -> Batch:
    return Batch((np.array([value], np.float32),), (0,))


def step_with(clip_gradient: float = 0.0, context: Any = None) -> Tuple[TrainingStep, Any]:
    objective = Quadratic()
    trainer = make_trainer(objective.block, LoopOptions(momentum=0, wd=0))
    step = TrainingStep(objective, trainer, clip_gradient, context or SingleProcess())
    return step, objective.block.weight


def test_step_updates_by_the_learning_rate_times_the_gradient() -> None:
    step, weight = step_with()
    result = step(batch_of(3.0), lr=0.5)
    assert result[1:] == (0.5, {"loss": 3.0}, False, False)
    np.testing.assert_allclose(weight.data().asnumpy(), -3)


def test_clipping_limits_the_norm_over_all_weights() -> None:
    step, weight = step_with(clip_gradient=1.0)
    step(batch_of(3.0), lr=0.5)
    assert np.linalg.norm(weight.data().asnumpy()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("clip_gradient", [0.0, 1.0])
def test_summed_gradients_are_divided_by_the_normalizer_before_clipping(clip_gradient: float) -> None:
    step, weight = step_with(clip_gradient, FourRanks())
    step(batch_of(3.0), lr=0.5)
    norm = np.linalg.norm(weight.data().asnumpy())
    assert norm == pytest.approx(0.5 * (clip_gradient or 2 * 3.0 * 2 / 4), rel=1e-4)


def test_step_with_a_loss_that_is_not_finite_is_skipped() -> None:
    step, weight = step_with()
    result = step(batch_of(float("nan")), lr=0.5, interrupted=True)
    assert result.skipped
    assert result.interrupted
    np.testing.assert_array_equal(weight.data().asnumpy(), 0)


def result(skipped: bool) -> StepResult:
    return StepResult(batch_of(1.0), 0.1, {"loss": 1.0}, skipped, False)


def test_average_follows_the_weights_and_restores_them() -> None:
    block = nn.Dense(1, in_units=1, use_bias=False)
    block.initialize()
    average = ModelEMA(block, decay=0.9)
    expected = None
    for number in range(1, 8 * INTERVAL + 1):
        block.weight.set_data(mx.nd.array([[float(number)]]))
        average.after_step(result(skipped=False))
        average.after_step(result(skipped=True))
        if number % INTERVAL == 0:
            updates = number // INTERVAL
            keep = min(0.9**INTERVAL, (1 + updates) / (10 + updates))
            expected = number if expected is None else keep * expected + (1 - keep) * number
    with average.applied():
        assert block.weight.data().asscalar() == pytest.approx(expected, rel=1e-5)
    assert block.weight.data().asscalar() == 8 * INTERVAL


def test_average_with_decay_zero_is_disabled() -> None:
    block = nn.Dense(1, in_units=1)
    block.initialize()
    average = ModelEMA(block, decay=0.0)
    for _ in range(INTERVAL):
        average.after_step(result(skipped=False))
    assert average.arrays == {}
    with average.applied():
        pass
