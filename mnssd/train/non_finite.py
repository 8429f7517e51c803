"""Steps whose loss is not finite: they are left out, written down, and too many in a row end the run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

import cv2
import numpy as np

from ..data.image import from_network_input
from ..data.loader import Batch
from ..errors import MnssdError
from ..files import write_bytes

FOLDER = "not-finite"
"""In the run folder: a folder for each such step."""

KEPT = 10
"""So many of them are written down in a run: each holds a batch of images."""


class NonFiniteGuard:
    """Counts them.

    Parameters
    ----------
    run : Path
        The run folder.
    samples : sequence
        What the batches are made of (`data.sample.Sample`, or `data.classification.image_label.LabeledImage`).
    most : int
        So many in a row are passed over; the next ends the run.
    in_a_row : int
        Of a run that goes on: how many there were when it was interrupted.
    worker : int
        The number of this one among several.
    """

    def __init__(self, run: Path, samples: Sequence[Any], most: int, in_a_row: int, worker: int = 0) -> None:
        self._folder, self._samples, self._most = run / FOLDER, samples, most
        self._suffix = f"-worker-{worker}" if worker else ""
        self.in_a_row = in_a_row

    def good(self) -> None:
        """A step that was like any other."""
        self.in_a_row = 0

    def bad(self, step: int, batch: Batch, losses: Mapping[str, float]) -> str:
        """Write down a step, counted from 0; returns a line for the user.

        Raises
        ------
        MnssdError
            When it is one too many.
        """
        self.in_a_row += 1
        own = not all(map(math.isfinite, losses.values()))
        where = self._write(step, batch, losses) if own else "it is another worker's"
        shown = ", ".join(f"{name} {value}" for name, value in losses.items())
        if self.in_a_row > self._most:
            times = f", and so were the {self._most} before it" if self._most else ""
            raise MnssdError(
                f"the loss is not finite in step {step + 1} ({shown}){times}; {where}. Lower --lr, raise "
                f"--warmup or set --clip-gradient; {self._folder.parent} holds the last state that was saved"
            )
        return f"warning: the loss is not finite in step {step + 1} ({shown}), which is left out; {where}"

    def _write(self, step: int, batch: Batch, losses: Mapping[str, float]) -> str:
        """The batch as a JSON file and images, as the network saw them; says where they are."""
        folder = self._folder / f"step-{step + 1}{self._suffix}"
        if self._folder.is_dir() and not folder.is_dir() and len(list(self._folder.iterdir())) >= KEPT:
            return f"the batches of {KEPT} such steps are in {self._folder}"
        folder.mkdir(parents=True, exist_ok=True)
        images, targets = batch.arrays[0], batch.arrays[1:]
        finite = [[bool(np.isfinite(values[i]).all()) for values in batch.arrays] for i in range(len(images))]
        facts = {
            "step": step + 1,
            "losses": {name: repr(value) for name, value in losses.items()},
            "samples": [
                {
                    "picture": f"{i}.png",
                    "index": index,
                    "finite": all(finite[i]),
                    **_plain(self._samples[index]),
                }
                for i, index in enumerate(batch.indices)
            ],
            "targets": [f"{values.dtype} {values.shape}" for values in targets],
        }
        write_bytes(folder / "batch.json", json.dumps(facts, indent=1).encode("utf-8"))
        for i, pixels in enumerate(from_network_input(images)):
            encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
            write_bytes(folder / f"{i}.png", encoded.tobytes())
        return f"its batch is in {folder}"


def _plain(sample: Any) -> Dict[str, Any]:
    """A dataclass as JSON can hold it."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(sample).items()
        if isinstance(value, (np.ndarray, str, int, float, bool, list, tuple, type(None)))
    }
