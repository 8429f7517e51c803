"""TensorBoard output: the numbers of the log, and detections on a few validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from ..errors import OptionError


class TensorBoardWriter:
    """Writes event files, if enabled; raises OptionError if tensorboardX is not installed.

    `epoch` is the number of completed epochs. TensorBoard hides what an interrupted run wrote for later ones.
    """

    def __init__(self, folder: Path, epoch: int, enabled: bool = True) -> None:
        self._writer: Any = None
        if not enabled:
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise OptionError(
                "--tensorboard needs tensorboardX: pip install 'mnssd[tensorboard]', or drop the option"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=epoch + 1 if epoch else None)

    def after_epoch(self, row: Mapping[str, Any], images: Sequence[np.ndarray]) -> None:
        """Add a row of the log, and images ``(height, width, 3)`` RGB uint8."""
        if self._writer is None:
            return
        step = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(name.replace(" ", "/", 1), value, step)
        for number, image in enumerate(images):
            self._writer.add_image(f"detections/{number}", image, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write pending events and close the file."""
        if self._writer is not None:
            self._writer.close()
