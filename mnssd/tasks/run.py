"""Training runs: from options to a run folder with a trained network."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Type, TypeVar

from ..errors import DataError, MnssdError, OptionError
from ..files import encodable
from ..nn.choices import backbone_options
from ..runtime import settings
from ..train.options import ClassificationTraining, DetectionTraining, LoopOptions, Training
from ..train.recipes import read_recipe
from ..train.run_folder import RunConfig, RunFolder
from .conflicts import refuse_conflicts, unused_options
from .given_transforms import NO_TRANSFORMS, Transforms
from .imported_start import with_structure, with_weights_file

if TYPE_CHECKING:
    from ..distributed.context import Context
    from ..train.automatic import Automatic
    from ..train.task import Task

T = TypeVar("T", DetectionTraining, ClassificationTraining)

MAY_CHANGE = (
    "resume", "output", "workers", "ctx", "data_root", "download", "cache_images",
    "save_minutes", "keep_every", "kvstore", "tensorboard",
)  # fmt: skip
"""Options that do not change what is learned, so a resumed run may change them."""


def train_detector(given: Mapping[str, Any], transforms: Transforms = NO_TRANSFORMS) -> Path:
    """Train a detector; returns the run folder.

    Parameters
    ----------
    given : mapping
        Options by name, as Python values or as parsed from the command line; see `train.options`. Options
        that are absent default to those of the resumed run, the recipe or the dataset, in this order; for
        datasets without defaults of their own, some are chosen from the data (`train.automatic`).
    transforms : Transforms, optional
        Used in place of the augmentation of the options.

    Raises
    ------
    MnssdError
        For invalid options, data or weights; the message names them.
    """
    options, automatic = resolve(DetectionTraining, given, transforms.train is not None)
    return train(options, automatic, transforms)


def train_classifier(given: Mapping[str, Any]) -> Path:
    """Train a classifier; see `train_detector`."""
    return train(*resolve(ClassificationTraining, given))


class Resolved(NamedTuple):
    """Options of a run, and what is left to its data; None if nothing is."""

    options: Any
    automatic: Optional[Automatic]


def resolve(kind: Type[T], given: Mapping[str, Any], has_transform: bool = False) -> Resolved:
    """Resolve the options of a run; given options override those of the resumed run or of the recipe.

    Nothing is chosen from the data for a resumed run, with a recipe without a budget, and for a dataset with
    defaults of its own. `has_transform` tells that a transform of the user replaces the augmentation.

    Raises
    ------
    OptionError
        For an unknown option, an invalid value, or one that a resumed run cannot change.
    MnssdError
        If the run to resume cannot be read or has no checkpoint.
    """
    values = kind.convert(given)
    run = _run_to_resume(values)
    if run is not None:
        return Resolved(_resume(kind, values, run), None)
    values = with_structure(kind, values)
    refuse_conflicts(values)
    budget: Optional[float] = 1.0
    if values.get("recipe"):
        recipe = read_recipe(values["recipe"], kind)
        length = {"minutes": 0.0} if "epochs" in values else {}
        values, budget = {**recipe.options, **length, **values}, recipe.budget
    options = kind.resolve(values)
    if isinstance(options, DetectionTraining):
        values = {**values, **unused_options(options, values, has_transform)}
    if budget is None or options.data.dataset in kind.defaults:
        return Resolved(options, None)
    from ..train.automatic import Automatic

    return Resolved(options, Automatic(values, budget))


def train(
    options: Training, automatic: Optional[Automatic] = None, transforms: Transforms = NO_TRANSFORMS
) -> Path:
    """Train with resolved options, of which some may be left to the data; returns the run folder.

    Raises
    ------
    MnssdError
        For unusable data or weights, or a run folder that is in use.
    """
    loop, started = options.loop, time.monotonic()
    run = RunFolder(Path(loop.resume or loop.output))
    resumes = bool(loop.resume) and run.has_checkpoint()  # before rank 0 can write one, see `_join`
    options, note = name_weights(options)
    task = make_task(options, run if resumes else None, automatic, transforms)
    if task.choice:
        options = options.replace(**task.choice.values)
        loop = options.loop
    if note and not resumes:
        task.notes.insert(0, note)
    context = _join(loop)

    from ..train.loop import fit
    from ..train.run_start import RunStart

    try:
        if not context.is_main:
            fit(task, loop, run, resumes, context, started)
            return run.path
        run = run if loop.resume else RunFolder.create(loop.output, task.name)
        run.lock()
        if resumes != run.has_checkpoint():
            raise MnssdError(f"{run.path}: another process has changed the run; resume it again")
        if not resumes:
            run.best.unlink(missing_ok=True)  # of a run that ended before its first checkpoint
            run.write_config(RunConfig(task.spec, options, chosen=_chosen(task, run)))
        else:
            _update_data_root(run, options)
        if not (resumes and run.start.exists()):
            RunStart.of(task, run).write()
        _print_introduction(task, loop, run, context)
        progress = fit(task, loop, run, resumes, context, started)
        if progress.best_score is not None:
            print(f"best {task.score_name} {progress.best_score:.4f}")
        print(encodable(f"weights: {run.best}\nlog: {run.log}"))
    except BaseException:
        context.abort()
        raise
    finally:
        run.unlock()
    return run.path


def name_weights(options: Training) -> Tuple[Training, str]:
    """Options in which the name of a file replaces ``imagenet``, and a line for the user.

    Raises WeightsError if the weights are for another network.
    """
    from ..weights.published import choose_weights

    data = options.data
    weights, note = choose_weights(
        data.weights, data.network, data.width, data.activation, pruned=bool(data.structure),
        options=backbone_options(data),
    )  # fmt: skip
    return options.replace(weights=weights), note


def _chosen(task: Task, run: RunFolder) -> str:
    """Line about the options chosen from the data: of the task, or of a run that starts again."""
    if task.choice:
        return task.choice.text
    return run.read_config().chosen if run.config.exists() else ""


def make_task(
    options: Training,
    resumed: Optional[RunFolder] = None,
    automatic: Optional[Automatic] = None,
    transforms: Transforms = NO_TRANSFORMS,
) -> Task:
    """Build the network, load its weights and prepare it for `train.loop.fit`.

    `resumed` is the run folder if there is a checkpoint to resume from, `automatic` what the options leave to
    the data, and `transforms` are for a detector; see `tasks.base.BaseTask`.
    """
    (width, height), loop = options.data.size, options.loop
    # MXNet reads these settings while it is loaded, so the tasks, which load it, are imported afterwards.
    settings.tune_for_small_steps(loop.batch_size * options.data.width * width * height)
    settings.leave_busy_cores()
    settings.release_freed_memory()
    from ..train.run_start import RunStart

    start = RunStart.read(resumed) if resumed else None
    if start:
        start.check_transforms(transforms.names())
    if options.data.weights and (start is None or start.pretrained is None):
        options = _find_weights(options)
    if isinstance(options, DetectionTraining):
        from .detection import DetectionTask

        return DetectionTask(options, start, automatic, transforms)
    from .classification import ClassificationTask

    return ClassificationTask(options, start, automatic)


def _find_weights(options: Training) -> Training:
    """Options with the path of the weights, which are downloaded if they are missing.

    This comes before the dataset is read or rendered, but a mistyped folder or module of the dataset is
    noticed first.
    """
    from ..data.open import default_root
    from ..weights.published import weights_path

    data = options.data
    if isinstance(options, DetectionTraining):
        default_root(data.dataset)  # imports a module
    appears = data.dataset == "shapes" or data.download  # it is rendered or downloaded
    if data.data_root and not appears and not os.path.exists(data.data_root):
        raise DataError(f"{data.data_root}: no such folder; check --data-root")
    assert data.weights
    return options.replace(weights=weights_path(data.weights))


def _run_to_resume(values: Dict[str, Any]) -> Optional[RunFolder]:
    """Take ``resume`` out of `values`; returns its run folder."""
    resume = values.pop("resume", "")
    if resume == "auto":
        resume = values.get("output")
        if not resume:
            raise OptionError("--resume auto: --output is missing; it names the run")
        if not RunFolder(Path(resume)).config.exists():
            return None
    return RunFolder(Path(resume)) if resume else None


def _resume(kind: Type[T], values: Mapping[str, Any], run: RunFolder) -> T:
    task = run.read_task()
    if task != kind.task:
        raise OptionError(f"{run.path}: expected a run for {kind.task}, got one for {task}")
    stored: Any = run.read_config().options
    options: Any = name_weights(stored.replace(**with_weights_file(values)))[0]
    name, old, new = next(_changes(stored, options), ("", "", ""))
    if name:
        raise OptionError(
            f"--{name.replace('_', '-')} {new}: the run has {old} ({run.config}); omit the option, or start "
            "a new run with another --output"
        )
    if run.has_checkpoint():
        # The checkpoint contains the results of both.
        done = {"recalibrate_batchnorm": False, "linear_probe": False}
        known = options.values()
        return options.replace(resume=str(run.path), **{name: done[name] for name in done if name in known})
    if run.log.exists():
        raise MnssdError(f"{run.last}: missing, so the run cannot be resumed; start a new run")
    return options.replace(resume=str(run.path))  # it ended before its first checkpoint, so it starts again


def _update_data_root(run: RunFolder, options: Training) -> None:
    """Store where the dataset is now, for evaluation, report and export."""
    config = run.read_config()
    stored, root = config.options, options.data.data_root
    if stored.data.data_root != root:
        run.write_config(replace(config, options=stored.replace(data_root=root)))


def _changes(stored: Training, options: Training) -> Iterator[Tuple[str, str, str]]:
    """Name, old and new value of the options that a resumed run cannot change."""
    new = options.values()
    for name, value in stored.values().items():
        if new[name] != value and name not in MAY_CHANGE:
            yield name, stored.format(name), options.format(name)


def _join(loop: LoopOptions) -> Context:
    """Join the other ranks, if any; all of them have read the run folder when this returns."""
    from ..distributed.context import SINGLE_PROCESS, DistributedContext

    if loop.kvstore != "dist_sync":
        if os.environ.get("DMLC_ROLE") == "worker":
            raise OptionError("DMLC_ROLE is set, so this is a distributed process; add --kvstore dist_sync")
        return SINGLE_PROCESS
    context = DistributedContext(loop.gradient_compression)
    if loop.batch_size % context.world_size:
        raise OptionError(
            f"--batch-size {loop.batch_size}: expected a multiple of the {context.world_size} processes"
        )
    context.barrier()
    return context


def _print_introduction(task: Task, loop: LoopOptions, run: RunFolder, context: Context) -> None:
    threads = settings.describe()["settings"]["OMP_NUM_THREADS"]
    print(encodable("\n".join((f"run {run.path}", *task.introduction()))))
    print(f"threads: {threads} for computing, {task.workers} for loading images; device {task.ctx}")
    if context.world_size > 1:
        images = loop.batch_size // context.world_size
        print(f"{context.world_size} processes, {images} images per step each")
    for note in task.notes:
        print(encodable(f"note: {note}"))
