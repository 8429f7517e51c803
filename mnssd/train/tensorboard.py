"""What TensorBoard shows of a run: every number of its log, and detections on a few validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from ..errors import OptionError


class TensorBoardWriter:
    """Writes ``RUN/tensorboard``.

    Parameters
    ----------
    folder : Path
    epoch : int
        Epochs done; what an interrupted run wrote of later ones is passed over.

    Raises
    ------
    OptionError
        When tensorboardX is not installed.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise OptionError(
                "--tensorboard needs tensorboardX: pip install 'mnssd[tensorboard]'; or leave it out"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=epoch + 1 if epoch else None)

    def epoch(self, row: Mapping[str, Any], pictures: Sequence[np.ndarray]) -> None:
        """Add a row of the log, and images ``(height, width, 3)`` RGB uint8."""
        step = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(name.replace(" ", "/", 1), value, step)
        for number, picture in enumerate(pictures):
            self._writer.add_image(f"detections/{number}", picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
