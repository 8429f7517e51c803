"""Knowing when to stop: ``minutes`` and ``patience``.

No test measures time: the clock is one that the tests set.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.runs import assert_same_run, read_log

from mnssd.cli.main import main
from mnssd.data.loader import Batch, Loader
from mnssd.distributed.context import SINGLE_PROCESS
from mnssd.errors import OptionError
from mnssd.tasks.run import resolve
from mnssd.train import loop, time_budget
from mnssd.train.checkpoint import Progress, read_checkpoint
from mnssd.train.options import ClassificationTraining, DetectionTraining, LoopOptions
from mnssd.train.patience import Patience
from mnssd.train.run_folder import RunFolder
from mnssd.train.schedule import Schedule, learning_rate
from mnssd.train.task import ValidationResult
from mnssd.train.time_budget import TimeBudget, steps_that_fit


class Clock:
    """A clock to be set, in place of the module `time`."""

    def __init__(self, per_call: float = 0.0) -> None:
        self.now, self.per_call = 1000.0, per_call

    def monotonic(self) -> float:
        self.now += self.per_call
        return self.now


# ---- the schedule that fits


def simulate(
    monkeypatch: pytest.MonkeyPatch,
    options: LoopOptions,
    steps_per_epoch: int,
    per_step: float,
    per_validation: float = 0.0,
    report: float = 0.0,
    progress: Optional[Progress] = None,
    begin: float = 0.0,
) -> Tuple[float, Progress, List[float]]:
    """Go through a run as `fit` does; returns its seconds, final progress and learning rates.

    The first two steps take ten times as long as the others, as kernels are compiled.
    """
    clock, rates, progress = Clock(), [], progress or Progress()
    monkeypatch.setattr(time_budget, "time", clock)
    schedule, started = Schedule(options, steps_per_epoch, progress), clock.now
    task = SimpleNamespace(seconds_after_training=lambda validation: report)
    evaluator: Any = SimpleNamespace(seconds=0.0, estimate_seconds=lambda: per_validation, task=task)
    budget = TimeBudget(options, schedule, evaluator, SINGLE_PROCESS, lambda text: None, started)
    clock.now += begin
    result: Any = None
    for epoch in schedule.remaining_epochs():
        batches: Any = range(steps_per_epoch - progress.batch)
        for _ in schedule.remaining(batches):
            rates.append(schedule.learning_rate())
            clock.now += per_step * (10 if len(rates) <= 2 else 1)
            progress.end_step({})
            budget.after_step(result)
        clock.now += 0.01 * per_step
        if options.val_interval and (schedule.is_over or (epoch + 1) % options.val_interval == 0):
            clock.now += per_validation
            evaluator.seconds += per_validation
        progress.end_epoch({"epoch": epoch + 1})
    return clock.now - started + report, progress, rates


@pytest.mark.parametrize("schedule", ["cosine", "step"])
@pytest.mark.parametrize(
    ("minutes", "steps_per_epoch", "per_step", "per_validation", "interval"),
    [
        (20, 106, 0.5, 20.0, 1),  # a dozen epochs or so
        (20, 106, 0.5, 20.0, 5),
        (20, 7330, 0.5, 60.0, 1),  # less than one epoch
        (1, 3, 0.05, 0.5, 5),  # hundreds of short epochs
        (1, 1, 0.05, 0.1, 1),  # fewer images than a batch
        (480, 500, 0.3, 90.0, 2),
        (5, 40, 0.2, 0.0, 0),  # no validation
    ],
)
def test_run_ends_in_time_and_annealed(
    monkeypatch: pytest.MonkeyPatch, minutes: float, steps_per_epoch: int, per_step: float,
    per_validation: float, interval: int, schedule: str,
) -> None:  # fmt: skip
    options = LoopOptions(minutes=minutes, val_interval=interval, lr=0.1, schedule=schedule)
    report = 2 * per_validation
    seconds, progress, rates = simulate(
        monkeypatch, options, steps_per_epoch, per_step, per_validation, report, begin=2.0
    )
    assert abs(seconds - 60 * minutes) < 6 * minutes
    assert progress.plan
    assert progress.step == progress.plan.end == len(rates)
    assert progress.plan.start < 0.07 * progress.step + 12
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates[-1] < 0.02 * 0.1
    peak = int(np.argmax(rates))
    assert peak <= max(0.12 * len(rates), 12)
    assert (np.diff(rates[: peak + 1]) > -1e-12).all()
    assert (np.diff(rates[peak:]) < 1e-12).all()
    assert max(np.abs(np.diff(rates[peak:]))) < 0.095 or schedule == "cosine"
    assert sum(row.get("note") is not None for row in progress.history) == 1


@pytest.mark.parametrize("used", [0.0, 300.0, 900.0])
def test_time_before_a_resume_counts(monkeypatch: pytest.MonkeyPatch, used: float) -> None:
    options = LoopOptions(minutes=20, val_interval=0)
    seconds, progress, _ = simulate(monkeypatch, options, 50, 1.0, progress=Progress(seconds=used))
    assert abs(used + seconds - 1200) < 30
    assert progress.seconds == pytest.approx(used + seconds, abs=1)


def test_too_little_time_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two steps take the time of twenty."""
    seconds, progress, _ = simulate(monkeypatch, LoopOptions(minutes=0.1), 50, 1.0)
    assert progress.step == 2
    assert seconds == pytest.approx(20, abs=1)


def test_run_without_minutes_has_the_steps_of_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    options = LoopOptions(epochs=3, lr=0.1)
    _, progress, rates = simulate(monkeypatch, options, 7, 1.0)
    assert progress.plan is None
    assert rates == [learning_rate(options, step, 7) for step in range(21)]


@pytest.mark.parametrize(
    ("done", "seconds", "per_step", "per_validation", "interval"),
    [
        (1, 100.0, 1.0, 7.0, 10),
        (13, 61.5, 0.7, 3.3, 9),
        (10, 40.0, 1.0, 7.0, 10),
        (5, 3.0, 1.0, 50.0, 10),
        (4, -1.0, 1.0, 0.0, 0),
    ],
)
def test_one_step_more_would_not_fit(
    done: int, seconds: float, per_step: float, per_validation: float, interval: int
) -> None:
    def time_of(steps: int) -> float:
        after = [s for s in range(max(1, done), steps + 1) if interval and (s % interval == 0 or s == steps)]
        return (steps - done) * per_step + len(after) * per_validation

    fitting = [steps for steps in range(done, done + 500) if time_of(steps) <= seconds]
    assert steps_that_fit(done, seconds, per_step, per_validation, interval) == max([done, *fitting])


# ---- patience


def epochs_with(
    scores: List[Optional[float]], steps: int = 10, early_epochs: int = 0, before: Any = None, **options: Any
) -> Tuple[Progress, List[float]]:
    """Progress and learning rates of a run whose validations have these scores, the last one repeated."""
    chosen = LoopOptions(epochs=100, lr=0.1, warmup=0, **options)
    progress, rates = Progress(best_score=before), []
    schedule = Schedule(chosen, steps, progress)
    patience = Patience(chosen, schedule, SINGLE_PROCESS, lambda text: None, early_epochs)
    for epoch in schedule.remaining_epochs():
        for _ in range(steps):
            rates.append(schedule.learning_rate())
            progress.end_step({})
        due = (epoch + 1) % chosen.val_interval == 0
        score = scores[min(epoch, len(scores) - 1)] if due else None
        if score is not None and (progress.best_score is None or score > progress.best_score):
            progress.best_score = score
        patience.after_epoch(epoch + 1, ValidationResult("mAP", score))
        progress.end_epoch({"epoch": epoch + 1})
    return progress, rates


@pytest.mark.parametrize(
    ("scores", "options", "decided", "last"),
    [
        ([0.1, 0.2, 0.3], {"patience": 7}, 10, 12),  # best in epoch 3; a fifth of 10 follows
        ([0.1, 0.2, 0.3], {"patience": 1}, 4, 5),
        ([0.1, 0.2, 0.3, 0.3, 0.3, 0.4], {"patience": 4}, 10, 12),
        ([0.5], {"patience": 3, "val_interval": 5}, 10, 12),  # judged in epochs 5, 10
        ([None, None, 0.5], {"patience": 5}, 8, 10),  # a validation without objects
        ([0.0] * 20 + [0.5], {"patience": 4}, 25, 30),  # nothing found at first
        ([0.5], {"patience": 4, "early_epochs": 21}, 25, 30),
        ([0.6, 0.5, 0.55, 0.5], {"patience": 4, "before": 0.7}, 5, 6),  # as if there were none before
        ([0.4, 0.5, 0.55, 0.6, 0.65], {"patience": 3, "before": 0.7}, 8, 10),
    ],
)
def test_run_ends_annealed_after_epochs_without_a_better_score(
    scores: List[Optional[float]], options: Dict[str, Any], decided: int, last: int
) -> None:
    progress, rates = epochs_with(scores, **options)
    assert progress.epoch == last
    assert progress.step == len(rates) == 10 * last
    assert [row["epoch"] for row in progress.history if row.get("note")] == [decided]
    assert rates[10 * decided] == pytest.approx(rates[10 * decided - 1], rel=0.05)
    assert rates[-1] < 0.06 * rates[10 * decided]
    assert (np.diff(rates) < 0).all()


@pytest.mark.parametrize(
    ("scores", "options"),
    [
        ([0.5], {}),
        ([None], {"patience": 3}),
        ([0.005 * epoch for epoch in range(1, 101)], {"patience": 3, "before": 0.7}),
        ([0.0], {"patience": 3}),
        ([0.01 * epoch for epoch in range(1, 101)], {"patience": 3}),
        ([0.01 * epoch for epoch in range(1, 91)], {"patience": 9}),  # the end is near anyway
    ],
)
def test_run_goes_to_its_end_while_there_is_hope(
    scores: List[Optional[float]], options: Dict[str, Any]
) -> None:
    progress, rates = epochs_with(scores, **options)
    assert progress.epoch == 100
    chosen = LoopOptions(epochs=100, lr=0.1, warmup=0)
    assert rates == [learning_rate(chosen, step, 10) for step in range(1000)]


# ---- whole runs of a small network


class Sample(NamedTuple):
    image_path: str


class SmallTask:
    """A linear layer on random numbers, with validation scores that are given."""

    name, score_name, ctx, workers, notes = "small", "score", mx.cpu(), 0, ()
    last_layers, pretrained, is_pretrained, early_epochs = (), (), False, 0

    def __init__(self, *scores: float) -> None:
        mx.random.seed(0)
        self.block = mx.gluon.nn.Dense(2, in_units=3)
        self.block.initialize(mx.init.Normal(1.0))
        samples = [Sample(str(number)) for number in range(32)]
        self.batches = Loader(samples, lambda sample, rng: (rng.normal(size=(3,)),), 4, seed=0, workers=0)
        self.scores, self.stop_at, self.steps = list(scores), float("inf"), 0

    def losses(self, batch: Batch) -> Any:
        if self.steps == self.stop_at:
            raise KeyboardInterrupt
        self.steps += 1
        x = mx.nd.array(batch.arrays[0])
        loss = (self.block(x) ** 2).mean()
        return loss, {"loss": loss}

    def normalizer(self, batch: Batch) -> float:
        return float(len(batch.indices))

    def start_epoch(self, epoch: int) -> None:
        pass

    def validate(self) -> ValidationResult:
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return ValidationResult("score", score, {"score": score})

    def validation_seconds(self) -> float:
        return 2.0

    def seconds_after_training(self, validation: float) -> float:
        return validation


def train(
    folder: Path, options: LoopOptions, *scores: float, stop_at: float = float("inf"), resume: bool = False
) -> Progress:
    """Train a `SmallTask`, or stop it before a step as if it were killed."""
    task: Any = SmallTask(*scores)
    task.stop_at = stop_at
    options = replace(options, save_minutes=1e-9 if stop_at < float("inf") else 0.0)
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        loop.fit(task, options, RunFolder(folder), resume)
    return read_checkpoint(folder / "last.ckpt")[1]


def content(folder: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "stop_at", [pytest.param(31, marks=pytest.mark.slow), 33], ids=lambda step: f"step-{step}"
)
def test_patience_ends_a_run_which_resumes_exactly_and_is_not_started_again(
    tmp_path: Path, stop_at: int
) -> None:
    options = LoopOptions(epochs=30, patience=2, lr=0.1, ema=0.9)
    scores = (0.5, 0.7, 0.6)
    whole, run = tmp_path / "whole", tmp_path / "run"
    progress = train(whole, options, *scores)
    assert (progress.epoch, progress.step) == (5, 40)
    assert (progress.best_epoch, progress.best_score) == (2, 0.7)
    assert [row["note"] != "" for row in read_log(whole)] == [False, False, False, True, False]
    assert float(read_log(whole)[-1]["lr"]) < 0.05
    done = train(run, options, *scores, stop_at=stop_at)
    assert done.step == stop_at
    train(run, options, *scores[done.epoch :], 0.6, resume=True)
    assert_same_run(run, whole)
    before = content(whole)
    train(whole, options, 0.9, resume=True)
    assert content(whole) == before


@pytest.mark.parametrize(
    "stop_after",
    [pytest.param(-3, marks=pytest.mark.slow), 2],
    ids=lambda steps: f"{steps}-after-the-decision",
)
def test_minutes_end_within_an_epoch_and_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    """Each step takes one look at the clock, which takes a second; so does the start and the decision."""
    options = LoopOptions(minutes=1.0, lr=0.1, ema=0.9, val_interval=2)
    whole, run = tmp_path / "whole", tmp_path / "run"
    monkeypatch.setattr(time_budget, "time", Clock(per_call=1.0))
    progress = train(whole, options, 0.5)
    assert progress.plan
    assert progress.step == progress.plan.end
    assert 45 <= progress.step <= 60
    assert progress.epoch == len(read_log(whole)) == -(-progress.step // 8)
    assert [row["note"] != "" for row in read_log(whole)].count(True) == 1
    assert "score" in read_log(whole)[-1]
    time_budget.time.now = 1000.0
    done = train(run, options, 0.5, stop_at=progress.plan.start + stop_after)
    assert (done.plan is None) == (stop_after < 0)
    if stop_after >= 0:
        monkeypatch.setattr(time_budget, "time", Clock(per_call=7.0))  # the machine has become slower
        train(run, options, 0.5, resume=True)
        assert_same_run(run, whole)
    else:
        train(run, options, 0.5, resume=True)  # measured anew; the time before counts
        assert 40 <= progress_of(run).step <= 60
    before = content(run)
    train(run, options, 0.9, resume=True)
    assert content(run) == before


def test_scheduled_end_stays_if_it_is_near(tmp_path: Path) -> None:
    progress = train(tmp_path / "run", LoopOptions(epochs=6, patience=4, lr=0.1), 0.5)
    assert (progress.epoch, progress.plan) == (6, None)


def progress_of(run: Path) -> Progress:
    return read_checkpoint(run / "last.ckpt")[1]


# ---- options


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"minutes": 5, "epochs": 20}, ["--minutes 5", "--epochs 20"]),
        ({"patience": 3, "val_interval": 0}, ["--patience 3", "--val-interval 0"]),
        ({"minutes": -1}, ["minutes", "-1"]),
        ({"patience": "1.5"}, ["patience", "1.5"]),
        ({"minutes": "nan"}, ["minutes", "nan"]),
        ({"minutes": float("inf")}, ["minutes", "inf"]),
    ],
)
@pytest.mark.parametrize("kind", [DetectionTraining, ClassificationTraining])
def test_options_that_make_no_sense_are_refused(kind: Any, given: Dict[str, Any], named: List[str]) -> None:
    with pytest.raises(OptionError) as error:
        resolve(kind, given)
    assert all(name.replace(" 0", "") in str(error.value) for name in named)


def test_minutes_and_epochs_override_those_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: detection\noptions: {epochs: 9}")
    assert resolve(DetectionTraining, {"recipe": str(recipe), "minutes": 5}).options.loop.minutes == 5
    recipe.write_text("task: detection\noptions: {minutes: 9}")
    assert resolve(DetectionTraining, {"recipe": str(recipe)}).options.loop.minutes == 9
    chosen = resolve(DetectionTraining, {"recipe": str(recipe), "epochs": 5}).options.loop
    assert (chosen.minutes, chosen.epochs) == (0, 5)


def test_smaller_early_images_have_no_measured_time(shapes: str, capsys: pytest.CaptureFixture) -> None:
    size = ["--early-size", "96", "--early-epochs", "2", "--data-root", shapes, "--dataset", "shapes"]
    assert main(["train-ssd", "--minutes", "5", *size]) != 0
    message = capsys.readouterr().err
    assert "--minutes" in message
    assert "--early-size" in message
