"""A whole run, from options to a folder with a trained detector."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping

from .. import __version__, runtime
from ..errors import MnssdError, OptionError
from .options import resolve
from .run_folder import RunFolder

if TYPE_CHECKING:
    from .detection import DetectionTask

MAY_CHANGE = ("resume", "output", "workers", "ctx", "data_root", "download", "cache_images")
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
    given = dict(given)
    resumed = _resumed_run(given)
    values = {**(resumed.read_config()["options"] if resumed else {}), **given}
    for key in ("size", "crop_overlaps"):
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])
    detection, augment, loop = resolve(values, str(resumed.config) if resumed else "options")
    runtime.suit_small_steps(loop.batch_size * detection.width * detection.size[0] * detection.size[1])
    runtime.return_freed_memory()
    # These load MXNet, which reads the number of threads while it is loaded.
    from .detection import DetectionTask
    from .loop import fit

    task = DetectionTask(detection, augment, loop)
    options = {**_plain(detection), **_plain(augment), **_plain(loop)}
    if resumed is None:
        run = RunFolder.create(loop.output, f"{detection.head}-{detection.network}-{detection.dataset}")
        run.write_config({"mnssd": __version__, "task": "detection", **task.config(), "options": options})
    else:
        run = resumed
    _introduce(task, run)
    progress = fit(task, loop, run, resume=resumed is not None)
    if progress.best_score is not None:
        print(f"best {detection.metric} mAP {progress.best_score:.4f}")
    print(f"weights: {run.best}\nlog: {run.log}")
    return run.path


def _resumed_run(given: Dict[str, Any]) -> Any:
    """The run folder to go on with, or None; options that would change what is learned are refused."""
    resume = given.pop("resume", "")
    if not resume:
        return None
    if resume == "auto":
        if not given.get("output"):
            raise OptionError("--resume auto needs --output, to know which run")
        resume = given["output"]
        if not (RunFolder(Path(resume)).last).exists():
            return None
    run = RunFolder(Path(resume))
    stored = run.read_config()["options"]
    for key, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if key not in MAY_CHANGE and stored.get(key) != value:
            raise OptionError(
                f"--{key.replace('_', '-')} {value} differs from the run's {stored.get(key)} ({run.config});"
                " leave it out to go on, or start a new run with another --output"
            )
    if not run.last.exists():
        raise MnssdError(f"{run.last}: missing, so there is nothing to go on from; start a new run")
    return run


def _plain(options: Any) -> Dict[str, Any]:
    values = dataclasses.asdict(options)
    return {
        k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if k not in ("resume", "output")
    }


def _introduce(task: DetectionTask, run: RunFolder) -> None:
    machine = runtime.describe()
    val = f", measuring on {task.val_set.name}: {len(task.val_set)}" if task.val_set is not None else ""
    spec = task.spec
    width, height = spec.size
    threads = machine["settings"]["OMP_NUM_THREADS"]
    print(f"run {run.path}")
    print(f"{spec.head} on {spec.network} x{spec.width:g} at {width}x{height}")
    print(f"{len(spec.classes)} classes: {', '.join(spec.classes)}")
    print(f"training on {task.train_set.name}: {len(task.train_set)} images{val}")
    print(f"{threads} threads for computing, {task.workers} beside them for images; on {task.ctx}")
    for note in task.notes:
        print(f"note: {note}")
