"""The training loop, for every task."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from typing import Any, Dict, NamedTuple, Optional, Protocol, Sequence, Tuple

import mxnet as mx

from ..data.loader import Batch, Loader
from ..distributed.context import DistributedContext, StepStatus
from ..errors import MnssdError
from .checkpoint import Progress, load_checkpoint, save_checkpoint, save_weights
from .checkpoint_manager import CheckpointManager, SignalHandler, TrainingInterrupted
from .ema import ModelEMA
from .logger import TrainingLogger
from .non_finite import NonFiniteGuard
from .optimizer import make_trainer
from .options import LoopOptions
from .run_folder import RunFolder
from .schedule import learning_rate
from .tensorboard import TensorBoardWriter


class ValidationResult(NamedTuple):
    """What a measurement gave: its name for people, the score if there is one, columns for the log; what the
    user should be warned of, and images, ``(height, width, 3)`` RGB uint8."""

    name: str
    score: Optional[float]
    columns: Dict[str, Any]
    warning: str = ""
    pictures: Sequence[Any] = ()


class Task(Protocol):
    """What is learned: detection, or classification."""

    block: Any
    """The Gluon block whose parameters are trained and saved, initialized, with all shapes known."""

    last_layers: Sequence[Any]
    """The layers of it that say the answer; they may have a learning rate of their own."""

    pretrained: Sequence[Any]
    """The parameters that weights trained before were loaded into; these may, too."""

    is_pretrained: bool
    """Whether its answers mean something before any training: the last layers were loaded, or fitted."""

    batches: Loader

    def weight(self, batch: Batch) -> float:
        """Of how many things the loss of a batch is the mean: positive anchors, or images."""

    def start_epoch(self, epoch: int) -> None:
        """Get ready for it, before its first batch is asked for; also when a run goes on with it."""

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        """What to go backward from, and scalars by name, ``loss`` among them; run under ``record``."""

    def validate(self) -> Optional[ValidationResult]:
        """Measure the weights as they are now; None when there is nothing to measure on."""


def fit(
    task: Task,
    options: LoopOptions,
    run: RunFolder,
    resume: bool = False,
    peers: Optional[DistributedContext] = None,
) -> Progress:
    """Train `task` as `options` say; everything is kept in `run`.

    With `peers` all of them call it alike; only the first of them measures and writes.

    Returns
    -------
    Progress
        With the log and the best score.

    Raises
    ------
    MnssdError
        When the loss was not finite too often in a row, or the disk is full; the last checkpoint stays.
    TrainingInterrupted
        After SIGINT or SIGTERM, when everything has been saved.
    """
    trainer = make_trainer(task.block, options, task.last_layers, task.pretrained)
    average = ModelEMA(task.block, options.ema) if options.ema else None
    progress = load_checkpoint(run, task.block, trainer, average, print) if resume else Progress()
    leads = peers is None or peers.rank == 0
    if peers:
        task.batches.share = (peers.rank, peers.size)
        peers.follow(trainer._params)
    per_epoch = len(task.batches)
    saver = CheckpointManager(
        run, options.save_minutes, options.keep_every,
        (lambda path: save_checkpoint(path, task.block, trainer, progress, average)) if leads else None,
    )  # fmt: skip
    listener = SignalHandler()
    journal = TrainingLogger(
        run.log if leads else None, options.epochs, options.epochs * per_epoch, progress.step
    )
    board = (
        TensorBoardWriter(run.path / "tensorboard", progress.epoch) if options.tensorboard and leads else None
    )
    bad_steps = NonFiniteGuard(
        run.path,
        task.batches.samples,
        options.max_skipped_steps,
        progress.bad_in_a_row,
        peers.rank if peers else 0,
    )
    said_bad = 0
    with contextlib.ExitStack() as stack:
        stack.callback(journal.close)
        if board:
            stack.callback(board.close)
        stack.enter_context(listener)
        if not progress.step:
            if leads and task.is_pretrained and options.val_interval and not progress.history:
                _measure_start(task, progress, run, journal)
            saver.save()
        for epoch in range(progress.epoch, options.epochs):
            journal.start_epoch(epoch, progress.partial)
            task.start_epoch(epoch)
            rate, asked = learning_rate(options, max(0, progress.step - 1), per_epoch), time.monotonic()
            for batch in task.batches.epoch(epoch, progress.batch):
                waited = time.monotonic() - asked
                rate = learning_rate(options, progress.step, per_epoch)
                trainer.set_learning_rate(rate)
                with mx.autograd.record():
                    objective, named = task.losses(batch)
                losses = {name: float(value.asscalar()) for name, value in named.items()}
                together = StepStatus(1.0, not math.isfinite(losses["loss"]), listener.heard is not None)
                if not together.is_bad:
                    mx.autograd.backward(objective)
                if peers:
                    together = peers.step(task.weight(batch), together.is_bad, together.ends)
                if not together.is_bad:
                    if options.clip_gradient:
                        clip_gradients(trainer, options.clip_gradient * together.weight)
                    trainer.step(together.weight)
                    if average:
                        average.step()
                    journal.step(progress.step, len(batch.indices), rate, losses, waited)
                    bad_steps.good()
                else:  # Without a backward pass BatchNorm's statistics stay as they are, too.
                    journal.left_out(bad_steps.bad(progress.step, batch, losses))
                progress.step, progress.batch = progress.step + 1, progress.batch + 1
                progress.bad_in_a_row = bad_steps.in_a_row
                ends = together.ends if peers else listener.heard is not None  # together, or now
                if ends or saver.is_due():
                    progress.partial = journal.partial()
                    saver.save()
                if ends:
                    raise TrainingInterrupted(listener.heard or signal.SIGTERM, run.path)
                asked = time.monotonic()
            mx.nd.waitall()
            check_finite(task.block, run, epoch)
            row = journal.end_epoch(rate)
            progress.epoch, progress.batch, progress.partial = epoch + 1, 0, {}
            last = progress.epoch == options.epochs
            due = leads and options.val_interval and (last or progress.epoch % options.val_interval == 0)
            with average.in_place() if average else contextlib.nullcontext():
                measured = task.validate() if due else None
                better = _is_better(measured, progress)
                if better or (leads and last and progress.best_score is None):
                    save_weights(run.best, task.block)
            row.update(measured.columns if measured else {})
            progress.history.append(row)
            saver.save_epoch(progress.epoch)
            journal.finish_row(progress.history, _in_words(measured, better))
            if board:
                board.epoch(row, measured.pictures if measured else ())
            if measured and measured.warning:
                journal.say(f"warning: {measured.warning}")
            if listener.heard and not last and not peers:
                raise TrainingInterrupted(listener.heard, run.path)
            if len(task.batches.bad) > said_bad:
                said_bad = len(task.batches.bad)
                first = next(iter(task.batches.bad.values()))
                journal.say(
                    f"warning: {said_bad} images could not be used and were skipped; the first: {first}"
                )
    return progress


def _measure_start(task: Task, progress: Progress, run: RunFolder, journal: TrainingLogger) -> None:
    """Measure what is trained already: it may stay the best, and people see what training adds."""
    measured = task.validate()
    if _is_better(measured, progress):
        save_weights(run.best, task.block)
    progress.history.append({"epoch": 0, **(measured.columns if measured else {})})
    journal.say(f"before training: {_in_words(measured, False) or 'nothing to measure on'}")


def clip_gradients(trainer: mx.gluon.Trainer, longest: float) -> None:
    """Scale all gradients so that together they are at most `longest` (L2 norm)."""
    gradients = [p.grad() for p in trainer._params if p.grad_req != "null"]
    mx.gluon.utils.clip_global_norm(gradients, longest, check_isfinite=False)


def check_finite(block: Any, run: RunFolder, epoch: int) -> None:
    """Raise MnssdError when a weight or a statistic is not finite.

    The loss does not always tell: oneDNN's ReLU turns NaN into 0, so a network of NaN weights can have a
    finite loss in the fast graph.
    """
    for name, parameter in block._collect_params_with_prefix().items():
        if not math.isfinite(float(parameter.data().sum().asscalar())):
            raise MnssdError(
                f"{name} is not finite after epoch {epoch + 1}: training has diverged. Lower --lr, raise "
                f"--warmup or set --clip-gradient; {run.path} holds the state after epoch {epoch}"
            )


def _in_words(measured: Optional[ValidationResult], better: bool) -> str:
    if measured is None or measured.score is None:
        return ""
    skipped = measured.columns.get("val_skipped")
    without = f" without {skipped} unreadable images" if skipped else ""
    return f"{measured.name} {measured.score:.4f}{' (best)' if better else ''}{without}"


def _is_better(measured: Optional[ValidationResult], progress: Progress) -> bool:
    score = measured.score if measured else None
    if score is None or (progress.best_score is not None and score <= progress.best_score):
        return False
    progress.best_score = score
    return True
