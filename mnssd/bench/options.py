"""Options of `mnssd bench`. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..data.formats import dataset_names
from ..metrics import VOC_METRICS
from ..nn.backbones import backbones
from ..nn.choices import HEADS
from ..options import SIZE, Size, option, require

WORKLOADS = ("train", "infer", "data", "eval")
"""What `mnssd bench` can measure, in the order of its table."""

DETECTOR_WORKLOADS = ("infer", "eval")
"""Workloads that can use the detector of a run."""


@dataclass(frozen=True)
class BenchOptions:
    """Measurement."""

    dataset: str = option("shapes", "format of the dataset", choices=dataset_names)
    data_root: Optional[str] = option(
        None, "folder of the dataset (default: data/shapes, data/VOCdevkit)", metavar="DIR"
    )
    splits: Optional[str] = option(None, "image lists (default: the training lists)")
    run: Optional[str] = option(
        None,
        "run folder: measure its detector instead of an untrained one (infer, eval), or beside its exports "
        "(export)",
        metavar="RUN",
    )
    network: str = option("mobilenet_v2", "backbone", choices=backbones.names)
    width: float = option(1.0, "width multiplier of the backbone")
    size: Size = option((300, 300), "network input: 300 or a multiple of 32, or WIDTHxHEIGHT", type=SIZE)
    head: str = option("ssd", "heads and extra layers, as in train_ssd.py", choices=HEADS)
    batch_size: int = option(16, "images per step (train, data, eval)")
    workers: int = option(-1, "threads that load images; -1 chooses a number that suits this machine")
    metric: str = option(
        "voc07", "mAP metric: 11-point (voc07) or area under the curve (voc12)", choices=VOC_METRICS
    )
    seconds: float = option(10.0, "approximate duration of each measurement")
    max_loss: float = option(
        0.0, "mAP that --engine auto may lose for speed; 0 keeps to engines that compute in float32 (export)"
    )
    fast_graph: bool = option(True, "train with the optimized graph")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "also write the results to this file", metavar="FILE")

    def __post_init__(self) -> None:
        require(self, "at least 1", lambda value: value >= 1, "batch_size")
        require(self, "0 to 1", lambda value: 0 <= value <= 1, "max_loss")
        require(self, "at least -1", lambda value: value >= -1, "workers")
        require(self, "a finite number above 0", lambda value: 0 < value < float("inf"), "seconds")
