"""A whole run, from options to a folder with a trained network."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

from .. import __version__
from ..errors import MnssdError, OptionError
from ..runtime import settings
from ..train.options import (
    CLASSIFICATION_KINDS,
    DETECTION_KINDS,
    LoopOptions,
    resolve_classification,
    resolve_detection,
)
from ..train.recipes import read_recipe
from ..train.run_folder import RunFolder

if TYPE_CHECKING:
    from ..distributed.context import DistributedContext
    from .classification import ClassificationTask
    from .detection import DetectionTask

    AnyTask = Union[DetectionTask, ClassificationTask]

MAY_CHANGE = (
    "resume", "output", "workers", "ctx", "data_root", "download", "cache_images",
    "save_minutes", "keep_every", "kvstore", "tensorboard",
)  # fmt: skip
"""Options that change nothing in what is learned, so a resumed run may have other ones."""


def train_detector(given: Mapping[str, Any]) -> Path:
    """Train a detector.

    Parameters
    ----------
    given : mapping
        Options by name (`train.options`); what is absent has its default, or, when resuming, the
        value of the run.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    MnssdError
        For bad options, data or weights; the text names them.
    """
    values, resumed = _values(given, "detection")
    task, options = make_task(values, "detection", str(resumed.config) if resumed else "options")
    return _train(task, options, resumed)


def train_classifier(given: Mapping[str, Any]) -> Path:
    """Train a classifier; as `train_detector`."""
    values, resumed = _values(given, "classification")
    task, options = make_task(values, "classification", str(resumed.config) if resumed else "options")
    return _train(task, options, resumed)


def make_task(values: Mapping[str, Any], kind: str, source: str) -> Tuple[AnyTask, Tuple[Any, ...]]:
    """What is to be learned, ready for `train.loop.fit`, and its options, those of the loop last.

    Parameters
    ----------
    values : mapping
        Options by name.
    kind : str
        ``'detection'`` or ``'classification'``.
    source : str
        Where the options come from, for messages.
    """
    values = dict(values)
    for key in ("size", "early_size", "crop_overlaps"):  # lists in a run's configuration
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])
    if kind == "detection":
        detection = resolve_detection(values, source)
        _prepare(detection.data.size, detection.data.width, detection.loop)
        from .detection import DetectionTask

        parts = (detection.data, detection.augment, detection.loop)
        return DetectionTask(*parts), parts
    classification = resolve_classification(values, source)
    _prepare(classification.data.size, classification.data.width, classification.loop)
    from .classification import ClassificationTask

    groups = (classification.data, classification.augment, classification.loop)
    return ClassificationTask(*groups), groups


def gradients(task: AnyTask, batches: int) -> Iterator[int]:
    """Go through training batches; after each step the parameters hold the gradients of the loss on one.

    BatchNorm's running statistics move; no weight does.
    """
    import mxnet as mx

    for number, batch in enumerate(itertools.islice(task.batches.epoch(0, 0), batches)):
        with mx.autograd.record():
            objective, _ = task.losses(batch)
        mx.autograd.backward(objective)
        yield number


def _values(given: Mapping[str, Any], kind: str) -> Tuple[Dict[str, Any], Optional[RunFolder]]:
    """The options of the run that is resumed, if one is, and those that were given."""
    given = dict(given)
    resumed = _resumed_run(given, kind)
    if given.get("recipe") and resumed is None:
        kinds = DETECTION_KINDS if kind == "detection" else CLASSIFICATION_KINDS
        given = {**read_recipe(given["recipe"], kind, kinds), **given}
    # Runs that were begun before the option existed learn on as they did, whatever its default is now.
    values = {**({"pretrained_lr": 1.0, **resumed.read_config()["options"]} if resumed else {}), **given}
    if resumed:
        # The checkpoint has what these would give.
        values["recalibrate_batchnorm"] = False
        if kind == "classification":
            values["linear_probe"] = False
    return values, resumed


def _prepare(size: Tuple[int, int], width: float, loop: LoopOptions) -> None:
    """Settings that MXNet reads while it is loaded; so the tasks, which load it, are imported after this."""
    settings.suit_small_steps(loop.batch_size * width * size[0] * size[1])
    settings.return_freed_memory()


def _train(task: AnyTask, options: Sequence[Any], resumed: Optional[RunFolder]) -> Path:
    loop = options[-1]
    peers = _join(loop)
    if peers and peers.rank:
        _follow(task, loop, resumed, peers)
        return resumed.path if resumed else Path(loop.output)
    run = resumed or RunFolder.create(loop.output, task.name)
    run.lock()
    try:
        if resumed is None:
            plain = {key: value for kind in options for key, value in _plain(kind).items()}
            run.write_config({"mnssd": __version__, **task.config(), "options": plain})
        _run(task, loop, run, resumed is not None, peers)
    except BaseException:
        if peers:
            peers.abandon()
        raise
    finally:
        run.unlock()
    return run.path


def _join(loop: LoopOptions) -> Optional[DistributedContext]:
    """The other workers, where there are some; all have looked at the run folder when this returns."""
    if loop.kvstore != "dist_sync":
        if os.environ.get("DMLC_ROLE") == "worker":
            raise OptionError("this is a worker of several (DMLC_ROLE is set); add --kvstore dist_sync")
        return None
    from ..distributed.context import DistributedContext

    peers = DistributedContext(loop.gradient_compression)
    if loop.batch_size % peers.size:
        raise OptionError(
            f"--batch-size {loop.batch_size} is that of all workers together and cannot be shared by "
            f"{peers.size}; take a multiple of it"
        )
    peers.wait()
    return peers


def _follow(
    task: AnyTask, loop: LoopOptions, resumed: Optional[RunFolder], peers: DistributedContext
) -> None:
    """What a worker does that neither measures nor writes."""
    from ..train.loop import fit

    try:
        fit(task, loop, resumed or RunFolder(Path(loop.output)), resumed is not None, peers)
    except BaseException:
        peers.abandon()
        raise


def _run(
    task: AnyTask, loop: LoopOptions, run: RunFolder, resume: bool, peers: Optional[DistributedContext]
) -> None:
    from ..train.loop import fit

    print(f"run {run.path}")
    for line in task.introduction():
        print(line)
    threads = settings.describe()["settings"]["OMP_NUM_THREADS"]
    print(f"{threads} threads for computing, {task.workers} beside them for images; on {task.ctx}")
    if peers:
        print(f"{peers.size} workers, {loop.batch_size // peers.size} images each a step")
    for note in task.notes:
        print(f"note: {note}")
    progress = fit(task, loop, run, resume, peers)
    if progress.best_score is not None:
        print(f"best {task.score_name} {progress.best_score:.4f}")
    print(f"weights: {run.best}\nlog: {run.log}")


def _resumed_run(given: Dict[str, Any], kind: str) -> Optional[RunFolder]:
    """The run folder to go on with, or None; options that would change what is learned are refused."""
    resume = given.pop("resume", "")
    if not resume:
        return None
    if resume == "auto":
        if not given.get("output"):
            raise OptionError("--resume auto needs --output, to know which run")
        resume = given["output"]
        if not RunFolder(Path(resume)).config.exists():
            return None
    run = RunFolder(Path(resume))
    config = run.read_config()
    if config.get("task") != kind:
        raise OptionError(f"{run.config}: a run of {config.get('task')}, not of {kind}; use its own command")
    stored = config["options"]
    for key, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if key not in MAY_CHANGE and stored.get(key) != value:
            raise OptionError(
                f"--{key.replace('_', '-')} {value} differs from the run's {stored.get(key)} ({run.config});"
                " leave it out to go on, or start a new run with another --output"
            )
    if run.has_begun():
        return run
    if run.log.exists():
        raise MnssdError(f"{run.last}: missing, so there is nothing to go on from; start a new run")
    # It ended before its first checkpoint, and starts again with its own options.
    run.lock()
    for file in (run.config, run.best):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
    run.unlock()
    given.update({**stored, **given, "output": resume})
    return None


def _plain(options: Any) -> Dict[str, Any]:
    values = dataclasses.asdict(options)
    return {
        k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if k not in ("resume", "output")
    }
