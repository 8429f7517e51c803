"""Compare two runs on the same images: mAP or top-1 of both, their difference, and how sure it is.

A and B are run folders, parameter files in them, exports, or folders of detection files. The images are
resampled with replacement 1000 times (paired bootstrap). B is better beyond chance if the 95 % interval of
the difference is above 0. The interval tells how much the result depends on the images, not how much it
depends on the random seed of the training.
"""

from __future__ import annotations

import argparse

from ..files import write_json
from ..options import add_options, given
from ..tasks.compare_runs import CompareRunsOptions, compare_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("A", "B"):
        parser.add_argument(name.lower(), metavar=name, help="run, export, or folder of detection files")
    add_options(parser, CompareRunsOptions)


def run(args: argparse.Namespace) -> int:
    values = given(args, CompareRunsOptions)
    comparison = compare_runs(args.a, args.b, values)
    print(comparison)
    if "json" in values:
        write_json(values["json"], comparison.as_dict())
    return 0
