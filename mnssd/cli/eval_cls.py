"""Evaluate a classifier: top-1 and top-5 accuracy, recall and precision per class, confusion matrix."""

from __future__ import annotations

import argparse

from ..files import printable, write_json
from ..options import add_options, from_mapping, given
from ..tasks.evaluate import EvalClassOptions, evaluate_classifier_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or a parameter file in one")
    add_options(parser, EvalClassOptions)


def run(args: argparse.Namespace) -> int:
    from ..metrics.table import format_classification

    options = from_mapping(EvalClassOptions, given(args, EvalClassOptions))
    result = evaluate_classifier_run(args.run, options)
    print(f"{result.dataset}, {args.run}\n\n{format_classification(result)}")
    for path, reason in result.skipped[:3]:
        print(f"skipped: {printable(path)}: {reason}")
    if len(result.skipped) > 3:
        print(f"skipped: {len(result.skipped)} images in all")
    if options.json:
        write_json(options.json, result.as_dict())
    return 0
