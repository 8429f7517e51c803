"""Steps whose loss is not finite: they are skipped and recorded, and too many in a row end the run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
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


class NonFiniteGuard:
    """Records skipped steps and ends the run after too many in a row.

    Parameters
    ----------
    run : RunFolder
    options : LoopOptions
    samples : sequence
        Samples of the loader: `data.sample.Sample`, or `data.classification.labeled_image.LabeledImage`.
    progress : Progress
        Holds the current number of skipped steps in a row.
    rank : int
    say : callable
        Prints a warning.
    """

    def __init__(
        self,
        run: RunFolder,
        options: LoopOptions,
        samples: Sequence[Any],
        progress: Progress,
        rank: int,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._samples = run.path / FOLDER, samples
        self._max_skipped = options.max_skipped_steps
        self._progress, self._say = progress, say
        self._suffix = f"-rank-{rank}" if rank else ""

    def after_step(self, result: StepResult) -> None:
        """Record a skipped step.

        Raises
        ------
        MnssdError
            If more than ``max_skipped_steps`` steps in a row were skipped.
        """
        if not result.skipped:
            self._progress.skipped_in_a_row = 0
            return
        self._progress.skipped_in_a_row += 1
        is_own = not all(map(math.isfinite, result.losses.values()))
        record = self._write(result) if is_own else "it is finite on this rank"
        losses = ", ".join(f"{name} {value}" for name, value in result.losses.items())
        message = f"the loss is not finite in step {self._progress.step + 1} ({losses})"
        if self._progress.skipped_in_a_row > self._max_skipped:
            raise MnssdError(
                f"{message}, step {self._progress.skipped_in_a_row} in a row; {record}. Lower --lr, raise "
                f"--warmup or set --clip-gradient; {self._folder.parent} holds the last saved state"
            )
        self._say(f"warning: {message}; step skipped, {record}")

    def _write(self, result: StepResult) -> str:
        """Write the batch as JSON and images, as the network saw them; returns a note for the message."""
        batch, number = result.batch, self._progress.step + 1
        folder = self._folder / f"step-{number}{self._suffix}"
        if self._folder.is_dir() and not folder.is_dir() and len(list(self._folder.iterdir())) >= MAX_RECORDS:
            return f"the batches of {MAX_RECORDS} earlier ones are in {self._folder}"
        folder.mkdir(parents=True, exist_ok=True)
        images, targets = batch.arrays[0], batch.arrays[1:]
        finite = [all(np.isfinite(values[i]).all() for values in batch.arrays) for i in range(len(images))]
        record = {
            "step": number,
            "losses": {name: repr(value) for name, value in result.losses.items()},
            "samples": [
                {"image": f"{i}.png", "index": index, "finite": finite[i], **_as_json(self._samples[index])}
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
