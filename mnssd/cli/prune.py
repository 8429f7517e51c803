"""Prune channels of a trained network, then fine-tune it.

RUN is the run of a detector or classifier. The result is a run of a smaller dense network, which can be
evaluated, exported and trained as usual. OUTPUT-start is a run of the network before fine-tuning.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional, Tuple

from ..errors import DataError, MnssdError, OptionError
from ..options import add_options, from_mapping, given, listed, option, require
from ..tasks.given_datasets import DATASET_AGAIN, check_named

if TYPE_CHECKING:
    from ..train.run_folder import RunConfig

GRADIENT_BATCHES = 64
"""Training batches whose gradients measure the importance of channels."""

LR_SHARE = {"sgd": 0.1, "adamw": 0.6}
"""Learning rate of fine-tuning as a share of the run's, see benchmarks/PRUNING.md."""


@dataclass(frozen=True)
class PruneOptions:
    """Pruning."""

    keep: float = option(0.7, "share of the multiply-adds to keep")
    importance: str = option(
        "gradients",
        "importance of channels: gradients of the loss on training images, or magnitude of weights",
        choices=("gradients", "magnitude"),
    )
    epochs: int = option(5, "epochs of fine-tuning; 0 for none")
    lr: float = option(
        0.0, "peak learning rate of fine-tuning", shown="0.1 of the run's, with AdamW 0.6 of it"
    )
    dataset: str = option("", DATASET_AGAIN, metavar="NAME")
    data_root: Optional[str] = option(None, "folder of the dataset", metavar="DIR", shown="that of the run")
    output: Optional[str] = option(None, "new run folder", metavar="DIR", shown="RUN-pruned")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")

    def __post_init__(self) -> None:
        require(self, "a number above 0 and below 1", lambda value: 0 < value < 1, "keep")
        require(
            self, "a finite number of at least 0", lambda value: 0 <= value < float("inf"), "epochs", "lr"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of a detector or classifier")
    add_options(parser, PruneOptions)


def run(args: argparse.Namespace) -> int:
    options = from_mapping(PruneOptions, given(args, PruneOptions))
    source = Path(args.run)
    output = Path(options.output or f"{source}-pruned")
    start = output.with_name(f"{output.name}-start")
    for folder in (output, start):
        if folder.exists() and any(folder.iterdir()):
            raise OptionError(f"{folder}: already exists; choose another --output")
    from ..train.run_folder import RunFolder

    config = RunFolder(source).read_config()
    check_named(source, options.dataset)
    if options.data_root:
        config = replace(config, options=config.options.replace(data_root=options.data_root))
    _prune(source, start, config, options)
    if not options.epochs:
        return 0
    loop = config.options.loop
    from ..tasks.run import train

    tuned = config.options.replace(
        epochs=options.epochs, minutes=0.0, lr=options.lr or loop.lr * LR_SHARE[loop.optimizer], warmup=0.5,
        val_interval=1, structure=str(start), weights=str(start / "best.params"), output=str(output),
        ctx=options.ctx,
        # The pruned network is normalized anew by its batches; its present outputs need not be preserved.
        recalibrate_batchnorm=False,
        pretrained_lr=1.0,  # all parameters are pretrained
    )  # fmt: skip
    train(tuned)
    return 0


def _prune(source: Path, start: Path, config: RunConfig, options: PruneOptions) -> None:
    """Prune the network and write it as a run."""
    load = _load_for_training if options.importance == "gradients" else _load_for_inference
    block, ctx, (width, height), gradients = load(source, config, options)

    from .. import zoo
    from ..compress.prune import prune
    from ..runtime.settings import wait_all
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
        raise MnssdError("the pruned arrays do not match the pruned network:\n" + "\n".join(report.lines()))
    wait_all()
    folder = RunFolder.create(str(start), start.name)
    folder.write_config(replace(config, spec=spec))
    save_weights(folder.best, smaller)
    folder.unlock()
    print(
        f"pruned {len(pruned.channels)} convolutions: {pruned.after / 1e6:.1f} of {pruned.before / 1e6:.1f} "
        f"million multiply-adds ({pruned.after / pruned.before:.3f}); before fine-tuning: {start}"
    )


_Block = Tuple[Any, Any, Tuple[int, int], Optional[Iterable[object]]]
"""A block, its context, the (width, height) of its input, and gradients for `compress.prune.prune`."""


def _load_for_inference(source: Path, config: RunConfig, options: PruneOptions) -> _Block:
    """The trained network of a run; needs no dataset."""
    from .. import zoo
    from ..runtime import settings

    ctx = settings.pick_context(options.ctx)
    if config.task == "detection":
        net = zoo.load_detector(str(source), ctx)
        return net.heads, ctx, net.size, None
    block, spec = zoo.load_classifier(str(source), ctx)
    return block, ctx, spec.size, None


def _load_for_training(source: Path, config: RunConfig, options: PruneOptions) -> _Block:
    """The network of a run with its training images and loss."""
    from ..tasks.run import make_task
    from ..train.run_folder import RunFolder
    from ..train.step import gradients

    changes: Dict[str, Any] = {
        "weights": str(RunFolder(source).best), "structure": str(source), "ctx": options.ctx,
        "recalibrate_batchnorm": False, "val_interval": 0,
        "freeze": "",  # frozen parameters have no gradient
    }  # fmt: skip
    if config.task == "detection":
        changes.update(early_size=None, early_epochs=0)
    else:
        changes["linear_probe"] = False
    task = make_task(config.options.replace(**changes))
    if task.spec.classes != config.spec.classes:
        raise DataError(
            f"{task.train_set.name} has the classes {listed(task.spec.classes)}, but {source} was trained on "
            f"{listed(config.spec.classes)}, in this order; restore the dataset, train on this one first with"
            f" --weights {source}, or prune with --importance magnitude --epochs 0"
        )
    return task.block, task.ctx, config.spec.size, gradients(task, GRADIENT_BATCHES)
