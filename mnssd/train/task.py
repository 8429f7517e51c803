"""What the training loop, the commands and the benchmarks require of a task."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

from ..data.loader import Batch, Loader
from .automatic import Choice


class ValidationResult(NamedTuple):
    """Result of a validation; empty if there is no validation set."""

    metric: str = ""  # name of the score, such as "top-1"
    score: Optional[float] = None  # higher is better
    columns: Mapping[str, Any] = {}  # values for the log
    warning: str = ""
    images: Sequence[Any] = ()  # to show, (height, width, 3) RGB uint8
    is_best: bool = False  # of the run so far

    def __str__(self) -> str:
        if self.score is None:
            return ""
        skipped = self.columns.get("val_skipped")
        note = f" (unreadable images, skipped: {skipped})" if skipped else ""
        return f"{self.metric} {self.score:.4f}{' (best)' if self.is_best else ''}{note}"


class Objective(Protocol):
    """A loss function over batches."""

    def losses(self, batch: Batch) -> Tuple[Any, Dict[str, Any]]:
        """The arrays to differentiate, and scalars by name, ``loss`` among them; called under ``record``."""

    def normalizer(self, batch: Batch) -> float:
        """Number of items that the loss is the mean over: positive anchors, or images."""


class Task(Objective, Protocol):
    """A network with its datasets, loss and validation: detection or classification."""

    name: str  # default name of a run folder
    ctx: Any  # MXNet context of the network
    spec: Any  # structure of `net`, a `DetectorSpec` or `ClassifierSpec`
    net: Any  # Gluon network that is validated and exported
    train_set: Any  # dataset, see `data.dataset.Dataset`
    val_set: Any  # dataset, or None if nothing is validated
    block: Any  # the part of `net` that is trained and saved, initialized, all shapes known
    last_layers: Sequence[Any]  # prediction layers of `block`, to which ``predictor_lr`` applies
    pretrained: Sequence[Any]  # parameters loaded from weights, to which ``pretrained_lr`` applies
    is_pretrained: bool  # the last layers were loaded or fitted, so untrained predictions are meaningful
    early_epochs: int  # epochs with smaller images
    batches: Loader
    workers: int  # threads that load images
    choice: Optional[Choice]  # options chosen from the data, if any
    notes: List[str]  # messages for the user, printed before training
    transform_names: Mapping[str, str]  # of the user's transforms, by argument
    score_name: str  # name of the validation score

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, before its first batch is loaded; also called when a run resumes in it."""

    def validate(self) -> ValidationResult:
        """Evaluate the current weights on the validation set."""

    def validation_seconds(self) -> float:
        """Estimated time of a validation."""

    def seconds_after_training(self, validation: float) -> float:
        """Estimated time of the report, if a validation takes `validation` seconds."""

    def introduction(self) -> List[str]:
        """Lines printed before training: network, classes, datasets."""
