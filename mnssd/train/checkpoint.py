"""Checkpoints: the complete state of a run in one verified file.

The first line is the format version, the second the SHA-256 of the rest, and the rest a safetensors file
whose metadata hold the progress as JSON. Reading it executes nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..errors import MnssdError
from ..files import atomic_path, encodable, utf8_path, write_bytes, write_error_reason
from ..runtime.settings import wait_all
from .ema import ModelEMA
from .optimizer import optimizer_arrays, restore_optimizer
from .run_folder import RunFolder
from .schedule import Plan

FIRST_LINE = b"mnssd checkpoint 1\n"


@dataclass
class Progress:
    """Progress of a run, with completed epochs and steps."""

    epoch: int = 0
    step: int = 0
    best_score: Optional[float] = None  # also before training
    history: List[Dict[str, Any]] = field(default_factory=list)  # rows of the log, one per epoch
    batch: int = 0  # completed steps of the current epoch
    partial: Dict[str, Any] = field(default_factory=dict)  # the logger's sums of the current epoch
    skipped_in_a_row: int = 0  # last steps, skipped because their loss is not finite
    trained_score: Optional[float] = None  # the best after an epoch
    best_epoch: int = 0  # of `trained_score`, counted from 1
    plan: Optional[Plan] = None  # decided during the run
    is_ending: bool = False  # the score has not improved for long
    seconds: float = 0.0  # used so far, also before a resume
    note: str = ""  # for the next row of the log

    def end_step(self, partial: Dict[str, Any]) -> None:
        """Count a step; `partial` are the logger's sums of the epoch up to it."""
        self.step, self.batch, self.partial = self.step + 1, self.batch + 1, partial

    def end_epoch(self, row: Dict[str, Any]) -> None:
        """Count an epoch and add its row to the log."""
        self.epoch, self.batch, self.partial = self.epoch + 1, 0, {}
        self.history.append({**row, "note": self.note} if self.note else row)
        self.note = ""


def save_checkpoint(path: Path, block: Any, trainer: Any, progress: Progress, average: ModelEMA) -> None:
    """Write weights, optimizer states, averaged weights and progress; the file is replaced atomically."""
    names = _parameters(block)
    wait_all()
    arrays = {f"weights/{name}": parameter.data().asnumpy() for name, parameter in names.items()}
    arrays.update(optimizer_arrays(trainer, names))
    arrays.update({f"average/{name}": value for name, value in average.arrays.items()})
    body = save_tensors(arrays, {"progress": json.dumps(asdict(progress))})
    digest = hashlib.sha256(body).hexdigest().encode("ascii")
    write_bytes(path, FIRST_LINE + digest + b"\n" + body)


def save_weights(path: Path, block: Any) -> None:
    """Write a ``.params`` file for Gluon's `load_parameters`; the file is replaced atomically.

    Raises MnssdError if it cannot be written; the previous file remains.
    """
    wait_all()
    try:
        with atomic_path(path) as temporary:
            try:
                with utf8_path(temporary) as path_for_mxnet:
                    block.save_parameters(path_for_mxnet)
            except mx.MXNetError as error:  # the disk is checked before the temporary file is deleted
                raise OSError(0, write_error_reason(error, path.parent)) from error
    except OSError as error:
        reason = write_error_reason(error, path.parent)
        raise MnssdError(f"{path}: cannot be written ({reason}); the previous file is unchanged") from error


def load_checkpoint(run: RunFolder, block: Any, trainer: Any, average: ModelEMA) -> Progress:
    """Restore `block`, `trainer` and `average` from the last checkpoint of a run; returns the progress.

    If it is damaged, prints a warning and reads the one before it. Raises MnssdError if both are missing or
    damaged, or belong to another network.
    """
    path = run.last
    try:
        arrays, progress = read_checkpoint(path)
    except MnssdError as error:
        if not run.previous.exists():
            raise
        path = run.previous
        arrays, progress = read_checkpoint(path)
        print(encodable(f"warning: {error}. Resuming from the checkpoint before it, {path}"))
    parameters, weights = _parameters(block), _with_prefix("weights/", arrays)
    misfits = sorted(weights.keys() ^ parameters.keys()) or [
        name for name, p in parameters.items() if 0 not in p.shape and p.shape != weights[name].shape
    ]
    if misfits:
        raise MnssdError(
            f"{path}: checkpoint of another network ({misfits[0]} differs); resume with the run's own options"
        )
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(weights[name]))
    restore_optimizer(trainer, parameters, arrays, progress.step)
    average.restore(progress.step, _with_prefix("average/", arrays))
    return progress


def read_checkpoint(path: Path) -> Tuple[Dict[str, np.ndarray], Progress]:
    """Arrays and progress of a checkpoint; raises MnssdError if it is missing, damaged or another file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MnssdError(f"{path}: no checkpoint to resume from ({error.strerror})") from error
    if not content.startswith(FIRST_LINE):
        raise MnssdError(f"{path}: not a checkpoint of this version; start a new run")
    digest, _, body = content[len(FIRST_LINE) :].partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode("ascii") != digest:
        raise MnssdError(f"{path}: damaged (checksum mismatch); start a new run with --weights best.params")
    try:
        size = int.from_bytes(body[:8], "little")
        metadata = json.loads(body[8 : 8 + size])["__metadata__"]
        progress = json.loads(metadata["progress"])
        plan = progress.pop("plan", None)
        return load_tensors(body), Progress(**progress, plan=Plan(**plan) if plan else None)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MnssdError(f"{path}: not a checkpoint of this version ({error}); start a new run") from error


def _parameters(block: Any) -> Dict[str, Any]:
    """Parameters by structural name; the prefixes of their own names differ between processes."""
    return dict(block._collect_params_with_prefix())


def _with_prefix(prefix: str, arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}
