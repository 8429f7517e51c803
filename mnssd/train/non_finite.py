"""Steps whose loss is not finite: they are skipped and recorded, and too many in a row end the run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Sequence

import cv2
import numpy as np

from ..data.image import from_network_input
from ..errors import MnssdError
from ..files import write_bytes
from .checkpoint import Progress
from .options import LoopOptions
from .run_folder import RunFolder
from .step import StepResult

FOLDER = "not-finite"
"""Folder in the run folder with one folder per skipped step."""

MAX_RECORDS = 10
"""Number of steps recorded per run; each holds a batch of images."""


@dataclass
class NonFiniteGuard:
    """Records skipped steps and ends the run after too many in a row."""

    run: RunFolder
    options: LoopOptions
    samples: Sequence[Any]  # of the loader, dataclasses
    progress: Progress  # counts the skipped steps in a row
    rank: int
    say: Callable[[str], None]  # prints a warning

    def after_step(self, result: StepResult) -> None:
        """Record a skipped step; raise MnssdError after more than ``max_skipped_steps`` in a row."""
        progress = self.progress
        progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if result.skipped else 0
        if not result.skipped:
            return
        is_own = not all(map(math.isfinite, result.losses.values()))
        record = self._write(result) if is_own else "it is finite on this rank"
        losses = ", ".join(f"{name} {value}" for name, value in result.losses.items())
        message = f"the loss is not finite in step {progress.step + 1} ({losses})"
        if progress.skipped_in_a_row > self.options.max_skipped_steps:
            raise MnssdError(
                f"{message}, step {progress.skipped_in_a_row} in a row; {record}. Lower --lr, raise "
                f"--warmup or set --clip-gradient; {self.run.path} holds the last saved state"
            )
        self.say(f"warning: {message}; step skipped, {record}")

    def _write(self, result: StepResult) -> str:
        """Write the batch as JSON and images, as the network saw them; returns a note for the message."""
        batch, number = result.batch, self.progress.step + 1
        records = self.run.path / FOLDER
        folder = records / (f"step-{number}-rank-{self.rank}" if self.rank else f"step-{number}")
        if not folder.is_dir() and len(list(records.glob("*"))) >= MAX_RECORDS:
            return f"the batches of {MAX_RECORDS} earlier ones are in {records}"
        folder.mkdir(parents=True, exist_ok=True)
        images, targets = batch.arrays[0], batch.arrays[1:]
        finite = [all(np.isfinite(values[i]).all() for values in batch.arrays) for i in range(len(images))]
        record = {
            "step": number,
            "losses": {name: repr(value) for name, value in result.losses.items()},
            "samples": [
                {"image": f"{i}.png", "index": index, "finite": finite[i], **_as_json(self.samples[index])}
                for i, index in enumerate(batch.indices)
            ],
            "targets": [f"{values.dtype} {values.shape}" for values in targets],
        }
        write_bytes(folder / "batch.json", json.dumps(record, indent=1).encode("utf-8"))
        for i, pixels in enumerate(from_network_input(images)):
            encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
            write_bytes(folder / f"{i}.png", encoded.tobytes())
        return f"its batch is in {folder}"


def _as_json(sample: Any) -> Dict[str, Any]:
    """The fields of a dataclass that JSON can hold."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(sample).items()
        if isinstance(value, (np.ndarray, str, int, float, bool, list, tuple, type(None)))
    }
