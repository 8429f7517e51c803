"""Take channels out of a trained network where it misses them least, and train what is left.

RUN is the run folder of a detector or a classifier. The result is a run like any other, of a smaller dense
network: it is measured, exported and trained on like any other. Beside it, OUTPUT-start holds the network
as it was cut.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional, Tuple

from ..errors import MnssdError, OptionError
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option

if TYPE_CHECKING:
    from ..train.run_folder import RunConfig

GRADIENT_BATCHES = 64
"""On so many training batches the loss is asked which channels it would miss."""

LR_SHARE = {"sgd": 0.1, "adamw": 0.6}
"""Of the run's learning rate, for training what is left: benchmarks/PRUNING.md."""


@dataclass(frozen=True)
class PruneOptions:
    """Pruning."""

    keep: float = option(0.7, "share of the multiply-adds that is kept")
    importance: str = option(
        "gradients",
        "what tells how much a channel matters: the loss on training images, or weights and gammas alone",
        choices=("gradients", "magnitude"),
    )
    epochs: int = option(5, "epochs of training afterwards; 0 for none")
    lr: float = option(
        0.0, "highest learning rate of these (default: a tenth of the run's, with AdamW six tenths)"
    )
    data_root: Optional[str] = option(None, "where the dataset lies (default: as in the run)", metavar="DIR")
    output: Optional[str] = option(None, "new run folder (default: RUN-pruned)", metavar="DIR")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ValueError(f"keep is above 0 and below 1, not {self.keep}")
        if self.importance not in ("gradients", "magnitude"):
            raise ValueError(f"importance is gradients or magnitude, not {self.importance!r}")
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
    if options.data_root:
        config = replace(config, options=config.options.replace(data_root=options.data_root))
    _cut(source, start, config, options)
    if not options.epochs:
        return 0
    loop = config.options.loop

    from ..tasks.run import train

    train(
        config.options.replace(
            epochs=options.epochs,
            lr=options.lr or loop.lr * LR_SHARE[loop.optimizer],
            warmup=0.5,
            val_interval=1,
            structure=str(start),
            weights=str(start / "best.params"),
            output=str(output),
            ctx=options.ctx,
            # The pruned network is normalized anew by its batches; its present outputs need not be preserved.
            recalibrate_batchnorm=False,
            pretrained_lr=1.0,  # all parameters are pretrained
        )
    )
    return 0


def _cut(source: Path, start: Path, config: RunConfig, options: PruneOptions) -> None:
    """Write the pruned network as a run of its own."""
    by_loss = options.importance == "gradients"
    block, ctx, (width, height), gradients = (_learner if by_loss else _answerer)(source, config, options)
    import mxnet as mx

    from .. import zoo
    from ..compress.prune import prune
    from ..train.checkpoint import save_weights
    from ..train.run_folder import RunFolder
    from ..weights import assign, infer_shapes

    try:
        pruned = prune(block, (1, 3, height, width), options.keep, gradients)
    except ValueError as error:
        raise OptionError(f"--keep {options.keep}: {error}") from error
    spec = replace(config.spec, channels={**config.spec.channels, **pruned.channels})
    if isinstance(spec, zoo.DetectorSpec):
        smaller = zoo.build_detector(spec).heads
    else:
        smaller = zoo.build_classifier(spec)
    infer_shapes(smaller)
    report = assign(smaller, pruned.arrays, str(source), ctx)
    if report.missing or report.mismatched or report.unused:
        raise MnssdError("the pruned arrays do not fit the pruned network:\n" + "\n".join(report.lines()))
    mx.nd.waitall()
    folder = RunFolder.create(str(start), start.name)
    folder.write_config(replace(config, spec=spec))
    save_weights(folder.best, smaller)
    folder.unlock()
    share = pruned.after / pruned.before
    print(
        f"{len(pruned.channels)} convolutions with fewer channels: {pruned.after / 1e6:.1f} of "
        f"{pruned.before / 1e6:.1f} million multiply-adds ({share:.3f}); as it was cut: {start}"
    )


_Block = Tuple[Any, Any, Tuple[int, int], Optional[Iterable[object]]]
"""A block, its context, the (width, height) of its input, and gradients for `compress.prune.prune`."""


def _answerer(source: Path, config: RunConfig, options: PruneOptions) -> _Block:
    """The network of a run as it answers; no dataset is needed."""
    from .. import zoo
    from ..runtime import settings

    ctx = settings.pick_context(options.ctx)
    if config.task == "detection":
        net = zoo.load_detector(str(source), ctx)
        return net.heads, ctx, net.size, None
    block, spec = zoo.load_classifier(str(source), ctx)
    return block, ctx, spec.size, None


def _learner(source: Path, config: RunConfig, options: PruneOptions) -> _Block:
    """The network of a run as it trains, on its own images and with its own loss."""
    from ..tasks.run import make_task
    from ..train.run_folder import RunFolder
    from ..train.step import gradients

    changes: Dict[str, Any] = {
        "weights": str(RunFolder(source).best),
        "structure": str(source),
        "ctx": options.ctx,
        "recalibrate_batchnorm": False,
        "freeze": "",  # frozen parameters have no gradient
        "val_interval": 0,
    }
    if config.task == "detection":
        changes.update(early_size=None, early_epochs=0)
    else:
        changes["linear_probe"] = False
    task = make_task(config.options.replace(**changes))
    return task.block, task.ctx, config.spec.size, gradients(task, GRADIENT_BATCHES)
