"""Measure a classifier: top-1, top-5, recall and precision of each class, what is taken for what."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any, Dict, Optional

from ..errors import DataError, MnssdError
from ..files import write_whole
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option
from ..train.options import CLASS_DATASETS


@dataclass(frozen=True)
class EvalClassOptions:
    """Measuring."""

    dataset: Optional[str] = option(
        None, "what to measure on (default: the run's own dataset)", choices=CLASS_DATASETS
    )
    data_root: Optional[str] = option(None, "where it lies", metavar="DIR")
    batch_size: int = option(32, "images computed together; changes nothing in the result")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    json: Optional[str] = option(None, "write the result, with all confusions, to this file", metavar="FILE")

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the classifier and the options of measuring."""
    parser.add_argument("run", metavar="RUN", help="run folder, or a parameter file in one")
    add_options(parser, EvalClassOptions)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table; returns the exit status."""
    options = from_mapping(EvalClassOptions, given(args, EvalClassOptions))

    from tqdm import tqdm

    from .. import zoo
    from ..data.classification.datasets import open_classification_dataset
    from ..metrics.classification import evaluate_classifier, format_classes
    from ..runtime import settings

    ctx = settings.pick_context(options.ctx)
    net, spec = zoo.load_classifier(args.run, ctx)
    stored = _stored(args.run)
    kind = options.dataset or stored.get("dataset", "folder")
    same = kind == stored.get("dataset")
    root = options.data_root or (stored.get("data_root") if same else None)
    dataset = open_classification_dataset(kind, root, "val")
    if dataset.classes != spec.classes:
        raise DataError(
            f"{dataset.name} has the classes {', '.join(dataset.classes[:10])}; the classifier knows "
            f"{', '.join(spec.classes[:10])}"
        )
    with tqdm(total=len(dataset), unit="image", disable=None, leave=False) as bar:
        result = evaluate_classifier(
            net, dataset, spec.size, spec.val_crop, options.batch_size, ctx, watch=lambda *_: bar.update()
        )
    print(f"{dataset.name}, {args.run}\n\n{format_classes(result)}")
    for path, reason in result.skipped[:3]:
        print(f"skipped: {path}: {reason}")
    if len(result.skipped) > 3:
        print(f"skipped: {len(result.skipped)} images in all")
    if options.json:
        write_whole(options.json, (json.dumps(result.as_dict(), indent=2) + "\n").encode("utf-8"))
    return 0


def _stored(path: str) -> Dict[str, Any]:
    """The options of the run, as far as it is one."""
    from pathlib import Path

    from ..train.run_folder import RunFolder

    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    try:
        return dict(RunFolder(folder).read_config()["options"])
    except MnssdError:
        return {}
