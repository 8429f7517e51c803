"""Checkpoints: everything a run needs to go on, in one file that is whole or refused.

The file is a line with the format's version, a line with the SHA-256 of the rest, and the rest: a
safetensors file whose metadata hold the progress as JSON. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..errors import MnssdError
from ..files import atomic_path, write_bytes, write_error_reason
from ..runtime.settings import wait_all
from .ema import ModelEMA
from .optimizer import optimizer_arrays, restore_optimizer
from .run_folder import RunFolder

FIRST_LINE = b"mnssd checkpoint 1\n"


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    epoch, step : int
        Epochs and steps completed.
    batch : int
        Steps completed in the epoch that is under way.
    partial : dict
        The journal's sums of that epoch.
    best_score : float or None
        Best validation score so far; None before the first.
    history : list of dict
        The log so far, a row an epoch.
    bad_in_a_row : int
        Steps with a loss that is not finite, up to now without a good one between.
    """

    epoch: int = 0
    step: int = 0
    best_score: Optional[float] = None
    history: List[Dict[str, Any]] = field(default_factory=list)
    batch: int = 0
    partial: Dict[str, Any] = field(default_factory=dict)
    bad_in_a_row: int = 0


def save_checkpoint(
    path: Path, block: Any, trainer: Any, progress: Progress, average: Optional[ModelEMA] = None
) -> None:
    """Write block, optimizer states, averaged weights and progress; the file is replaced in one stroke."""
    names = _names(block)
    wait_all()
    arrays = {f"weights/{name}": parameter.data().asnumpy() for name, parameter in names.items()}
    arrays.update(optimizer_arrays(trainer, names))
    if average:
        arrays.update({f"average/{name}": value for name, value in average.arrays.items()})
    body = save_tensors(arrays, {"progress": json.dumps(asdict(progress))})
    digest = hashlib.sha256(body).hexdigest().encode("ascii")
    write_bytes(path, FIRST_LINE + digest + b"\n" + body)


def save_weights(path: Path, block: Any) -> None:
    """Write a ``.params`` file that Gluon's `load_parameters` reads, in one stroke.

    Raises
    ------
    MnssdError
        When it cannot be written; what was there before stays.
    """
    wait_all()
    try:
        with atomic_path(path) as temporary:
            try:
                block.save_parameters(str(temporary))
            except mx.MXNetError as error:  # the disk is examined before the temporary file is deleted
                raise OSError(0, write_error_reason(error, path.parent)) from error
    except OSError as error:
        reason = write_error_reason(error, path.parent)
        raise MnssdError(
            f"{path}: cannot be written ({reason}); what was there before is unchanged"
        ) from error


def load_checkpoint(
    run: RunFolder, block: Any, trainer: Any, average: Optional[ModelEMA], say: Callable[[str], None]
) -> Progress:
    """Put the last checkpoint of a run back into `block`, `trainer` and `average`; returns the progress.

    The one before it is taken where the last is damaged, and `say` is told so.

    Raises
    ------
    MnssdError
        When both are missing or damaged, or of another network.
    """
    path = run.last
    try:
        arrays, progress = read_checkpoint(path)
    except MnssdError as error:
        if not run.previous.exists():
            raise
        path = run.previous
        arrays, progress = read_checkpoint(path)
        say(f"warning: {error}. Going on from the one before it, {path}")
    names = _names(block)
    found = {name[len("weights/") :]: value for name, value in arrays.items() if name.startswith("weights/")}
    wrong = [
        n for n, p in names.items() if n not in found or (0 not in p.shape and p.shape != found[n].shape)
    ]
    if wrong or set(found) - set(names):
        odd = (wrong + sorted(set(found) - set(names)))[0]
        raise MnssdError(
            f"{path}: a checkpoint of another network (see {odd}); resume with the run's own options"
        )
    for name, parameter in names.items():
        parameter.set_data(mx.nd.array(found[name]))
    restore_optimizer(trainer, names, arrays, progress.step)
    if average:
        kept = {name[len("average/") :]: v for name, v in arrays.items() if name.startswith("average/")}
        average.restore(progress.step, kept)
    return progress


def read_checkpoint(path: Path) -> Tuple[Dict[str, np.ndarray], Progress]:
    """The arrays and the progress in a checkpoint.

    Raises
    ------
    MnssdError
        When the file is missing, damaged or something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MnssdError(f"{path}: no checkpoint to go on from ({error.strerror})") from error
    if not content.startswith(FIRST_LINE):
        raise MnssdError(f"{path}: not a checkpoint that this version reads; start a new run")
    digest, _, body = content[len(FIRST_LINE) :].partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode("ascii") != digest:
        raise MnssdError(
            f"{path}: damaged (its checksum does not fit); start a new run with --weights best.params"
        )
    try:
        size = int.from_bytes(body[:8], "little")
        metadata = json.loads(body[8 : 8 + size])["__metadata__"]
        return load_tensors(body), Progress(**json.loads(metadata["progress"]))
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MnssdError(
            f"{path}: not a checkpoint that this version reads ({error}); start a new run"
        ) from error


def _names(block: Any) -> Dict[str, Any]:
    """Parameters by structural name: the prefixes in their own names differ from process to process."""
    return dict(block._collect_params_with_prefix())
