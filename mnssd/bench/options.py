"""What can be said about a measurement on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from ..data.open import KINDS
from ..options import option
from ..train.options import parse_size


@dataclass(frozen=True)
class BenchOptions:
    """Measuring speed."""

    dataset: str = option("shapes", "whose images are used", choices=tuple(KINDS))
    data_root: Optional[str] = option(
        None, "where it lies (default: data/shapes, data/VOCdevkit)", metavar="DIR"
    )
    splits: Optional[str] = option(None, "image lists (default: those of training)")
    run: Optional[str] = option(
        None,
        "run folder: measure its detector, not an untrained one (infer, eval); beside its exports (export)",
        metavar="RUN",
    )
    network: str = option("mobilenet_v2", "backbone", choices=("mobilenet_v1", "mobilenet_v2"))
    width: float = option(1.0, "width multiplier of the backbone")
    size: Tuple[int, int] = option(
        (300, 300), "network input: 300 or a multiple of 32, or WIDTHxHEIGHT", parse=parse_size
    )
    head: str = option(
        "ssd", "plain or depthwise-separable heads and extra layers", choices=("ssd", "ssdlite")
    )
    batch_size: int = option(16, "images a step (train, data, eval)")
    workers: int = option(-1, "threads that prepare images beside the computation; -1 for what suits here")
    metric: str = option(
        "voc07", "of mAP: 11 points, or the area under the curve", choices=("voc07", "voc12")
    )
    seconds: float = option(10.0, "about so long is each figure measured")
    fast_graph: bool = option(True, "train through the rewritten graph")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "write the figures to this file too", metavar="FILE")

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < -1:
            raise ValueError(
                f"batch_size is at least 1 and workers at least -1, not {self.batch_size} and {self.workers}"
            )
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be above 0, not {self.seconds}")
