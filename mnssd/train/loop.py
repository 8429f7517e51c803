"""The training loop of all tasks."""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from typing import Any, Optional

import mxnet as mx

from ..distributed.context import SINGLE_PROCESS, Context
from ..errors import MnssdError
from ..runtime.signals import SignalHandler
from .checkpoint import Progress, load_checkpoint, save_checkpoint
from .checkpoint_manager import CheckpointManager
from .ema import ModelEMA
from .evaluator import Evaluator
from .logger import TrainingLogger
from .non_finite import NonFiniteGuard
from .optimizer import make_trainer
from .options import LoopOptions
from .patience import Patience
from .run_folder import RunFolder
from .schedule import Schedule
from .step import TrainingStep
from .task import Task
from .tensorboard import TensorBoardWriter
from .time_budget import TimeBudget


def fit(
    task: Task, options: LoopOptions, run: RunFolder, resume: bool = False, context: Context = SINGLE_PROCESS,
    started: Optional[float] = None,
) -> Progress:  # fmt: skip
    """Train `task` and keep checkpoints, log and best weights in `run`; returns the final progress.

    In distributed training all ranks call it; only the main one validates and writes. ``minutes`` count from
    `started`, as `time.monotonic`, by default from now.

    Raises
    ------
    MnssdError
        If the loss is not finite too often in a row, or the disk is full; the last checkpoint remains.
    TrainingInterrupted
        After SIGINT or SIGTERM, once everything is saved.
    """
    is_main, signals = context.is_main, SignalHandler()
    trainer = make_trainer(task.block, options, task.last_layers, task.pretrained)
    average = ModelEMA(task.block, options.ema)
    progress = load_checkpoint(run, task.block, trainer, average) if resume else Progress()
    context.start(trainer._params)
    task.batches.shard = context.rank, context.world_size
    step = TrainingStep(task, trainer, options.clip_gradient, context)
    schedule = Schedule(options, len(task.batches), progress)
    evaluator = Evaluator(task, options, run, average, progress, schedule, is_main)
    logger = TrainingLogger(run.log, schedule, is_main)
    tensorboard = TensorBoardWriter(run.tensorboard, progress.epoch, options.tensorboard and is_main)
    budget = TimeBudget(options, schedule, evaluator, context, logger.say, started)
    patience = Patience(options, schedule, context, logger.say, task.early_epochs)
    guard = NonFiniteGuard(run, options, task.batches.samples, progress, context.rank, logger.say)
    save = partial(save_checkpoint, block=task.block, trainer=trainer, progress=progress, average=average)
    checkpoints = CheckpointManager(run, options, save, context, signals)
    with closing(logger), closing(tensorboard), signals:
        if not progress.step:
            logger.before_training(evaluator.before_training())
            checkpoints.save()
        for epoch in schedule.remaining_epochs():
            checkpoints.before_epoch()
            task.start_epoch(epoch)
            logger.start_epoch(epoch, progress.partial)
            for batch in logger.timed(schedule.remaining(task.batches.epoch(epoch, progress.batch))):
                result = step(batch, schedule.learning_rate(), signals.received is not None)
                guard.after_step(result)
                average.after_step(result)
                logger.after_step(result)
                progress.end_step(logger.partial())
                budget.after_step(result)
                checkpoints.after_step(result)
            check_finite(task.block, run, epoch)
            row = logger.end_epoch()
            validation = evaluator.after_epoch(epoch + 1)
            patience.after_epoch(epoch + 1, validation)
            progress.end_epoch({**row, **validation.columns})
            checkpoints.after_epoch(epoch + 1)
            logger.after_epoch(progress.history, validation, task.batches.skipped)
            tensorboard.after_epoch(progress.history[-1], validation.images)
    return progress


def check_finite(block: Any, run: RunFolder, epoch: int) -> None:
    """Raise MnssdError if a weight or a BatchNorm statistic is not finite.

    The loss alone does not show it: oneDNN's ReLU turns NaN into 0, so a network with NaN weights can have a
    finite loss in the fast graph.
    """
    mx.nd.waitall()
    for name, parameter in block._collect_params_with_prefix().items():
        if not math.isfinite(float(parameter.data().sum().asscalar())):
            raise MnssdError(
                f"{name} is not finite after epoch {epoch + 1}: training has diverged. Lower --lr, raise "
                f"--warmup or set --clip-gradient; {run.path} holds the state after epoch {epoch}"
            )
