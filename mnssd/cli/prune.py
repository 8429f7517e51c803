"""Take channels out of a trained network where it misses them least, and train what is left.

RUN is the run folder of a detector or a classifier. The result is a run like any other, of a smaller dense
network: it is measured, exported and trained on like any other. Beside it, OUTPUT-start holds the network
as it was cut.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from ..errors import MnssdError, OptionError
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option


@dataclass(frozen=True)
class PruneOptions:
    """Pruning."""

    keep: float = option(0.7, "share of the multiply-adds that is kept")
    epochs: int = option(5, "epochs of training afterwards; 0 for none")
    lr: float = option(0.0, "highest learning rate of these (default: a tenth of the run's)")
    data_root: Optional[str] = option(None, "where the data set lies (default: as in the run)", metavar="DIR")
    output: Optional[str] = option(None, "new run folder (default: RUN-pruned)", metavar="DIR")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ValueError(f"keep is above 0 and below 1, not {self.keep}")
        if self.epochs < 0 or not 0 <= self.lr < float("inf"):
            raise ValueError("epochs and lr must not be negative")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the options of pruning."""
    parser.add_argument("run", metavar="RUN", help="run folder of a detector or a classifier")
    add_options(parser, PruneOptions)


def run(args: argparse.Namespace) -> int:
    """Prune, train, say what it gave; returns the exit status."""
    options = from_mapping(PruneOptions, given(args, PruneOptions))
    source = Path(args.run)
    output = Path(options.output or f"{source}-pruned")
    start = output.with_name(f"{output.name}-start")
    for folder in (output, start):
        if folder.exists() and any(folder.iterdir()):
            raise OptionError(f"{folder}: exists already; choose another --output")

    from ..train.run_folder import RunFolder

    config = RunFolder(source).read_config()
    stored = dict(config["options"])
    _cut(source, start, config, options)
    if not options.epochs:
        return 0
    changes: Dict[str, Any] = {
        "epochs": options.epochs,
        "lr": options.lr or stored.get("lr", 0.01) / 10,
        "warmup": 0.5,
        "val_interval": 1,
        "structure": str(start),
        "weights": str(start / "best.params"),
        "output": str(output),
        "ctx": options.ctx,
        # The cut network is to be normalised anew, by its batches; its present answers need not be kept.
        "adopt_statistics": False,
        "pretrained_lr": 1.0,  # everything is
    }
    if options.data_root:
        changes["data_root"] = options.data_root
    from ..train.run import train_classifier, train_detector

    train = train_detector if config.get("task") == "detection" else train_classifier
    train({**stored, **changes})
    return 0


def _cut(source: Path, start: Path, config: Dict[str, Any], options: PruneOptions) -> None:
    """Write the pruned network as a run of its own."""
    import mxnet as mx

    from .. import runtime, zoo
    from ..graph.prune import prune
    from ..train.checkpoint import save_weights
    from ..train.run_folder import RunFolder
    from ..weights import assign, settle_shapes

    ctx = runtime.pick_context(options.ctx)
    what = "detector" if config.get("task") == "detection" else "classifier"
    if what == "detector":
        net = zoo.load_detector(str(source), ctx)
        block, (width, height) = net.heads, net.size
    else:
        block, spec = zoo.load_classifier(str(source), ctx)
        width, height = spec.size
    try:
        pruned = prune(block, (1, 3, height, width), options.keep)
    except ValueError as error:
        raise OptionError(f"--keep {options.keep}: {error}") from error
    structure = dict(config[what])
    structure["channels"] = {**structure.get("channels", {}), **pruned.channels}
    if what == "detector":
        smaller = zoo.build_detector(zoo.DetectorSpec.from_dict(structure)).heads
    else:
        smaller = zoo.build_classifier(zoo.ClassifierSpec.from_dict(structure))
    settle_shapes(smaller)
    report = assign(smaller, pruned.arrays, str(source), ctx)
    if report.missing or report.mismatched or report.unused:
        raise MnssdError("the pruned arrays do not fit the pruned network:\n" + "\n".join(report.lines()))
    mx.nd.waitall()
    folder = RunFolder.create(str(start), start.name)
    folder.write_config({**config, what: structure})
    save_weights(folder.best, smaller)
    folder.unlock()
    share = pruned.after / pruned.before
    print(
        f"{len(pruned.channels)} convolutions with fewer channels: {pruned.after / 1e6:.1f} of "
        f"{pruned.before / 1e6:.1f} million multiply-adds ({share:.3f}); as it was cut: {start}"
    )
