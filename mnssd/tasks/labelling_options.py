"""Options of `mnssd check-labels` and `mnssd suggest`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..options import option, require
from .given_datasets import DATASET_AGAIN


@dataclass(frozen=True)
class CheckLabelsOptions:
    """Labels."""

    dataset: str = option("", DATASET_AGAIN, metavar="NAME")
    data_root: Optional[str] = option(
        None, "folder of the dataset, if it is not that of the run", metavar="DIR"
    )
    splits: Optional[str] = option(None, "image lists joined by +", shown="all lists of the dataset")
    number: int = option(50, "most suspects listed, the most suspicious first; 0 for all")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "also write the suspects to this file", metavar="FILE")
    output: Optional[str] = option(
        None, "also draw the suspects, one image each, into this new folder", metavar="DIR"
    )

    def __post_init__(self) -> None:
        require(self, "at least 0", lambda value: value >= 0, "number")


@dataclass(frozen=True)
class SuggestOptions:
    """Suggesting."""

    number: int = option(50, "how many images to suggest")
    data_root: Optional[str] = option(
        None, "folder of the labeled images, if the run's dataset has moved", metavar="DIR"
    )
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "also write the result to this file", metavar="FILE")

    def __post_init__(self) -> None:
        require(self, "at least 1", lambda value: value >= 1, "number")
