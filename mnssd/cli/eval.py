"""Evaluate a detector as the Pascal VOC devkit does.

Give a trained detector to run on a dataset or, with --detections, a folder of detection files in the devkit's
format (comp4_det_SPLIT_CLASS.txt), written by any program.
"""

from __future__ import annotations

import argparse

from ..data.open import default_root
from ..errors import OptionError
from ..files import write_json
from ..options import add_options, from_mapping, given
from ..tasks.evaluate import EvalOptions, evaluate_detection_files, evaluate_detector, options_of_run

_NETWORK_ONLY = ("tiles", "flip", "batch_size", "workers", "ctx", "save_detections")
"""Options that have no effect on detection files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="run folder, or a parameter file in one")
    add_options(parser, EvalOptions)


def run(args: argparse.Namespace) -> int:
    values = given(args, EvalOptions)
    if bool(args.run) == bool(values.get("detections")):
        raise OptionError("give either RUN, the folder of a trained detector, or --detections DIR")
    if args.run:
        options = from_mapping(EvalOptions, options_of_run(args.run, values))
        result = evaluate_detector(args.run, options)
    else:
        for name in _NETWORK_ONLY:
            if name in values:
                option = name.replace("_", "-")
                raise OptionError(f"--{option} has no effect with --detections; leave it out")
        options = from_mapping(EvalOptions, values)
        result = evaluate_detection_files(options)
    print(f"{result.dataset.name}, {args.run or options.detections}\n\n{result}")
    if options.json:
        report = {
            **result.as_dict(),
            "dataset": options.dataset, "data_root": options.data_root or default_root(options.dataset),
            "splits": options.split_names, "hold_out": options.hold_out, "detector": args.run,
            "tiles": options.tiles, "flip": options.flip, "detections_folder": options.detections,
        }  # fmt: skip
        write_json(options.json, report)
    return 0
