"""Suggest which images to label next for a trained detector: those that it is unsure of, each different.

Prints the path of one image per line, the best one first. Images of the run's dataset are left out, and the
suggestions differ from them.
"""

from __future__ import annotations

import argparse
import sys

from ..files import encodable, write_json
from ..options import add_options, given
from ..tasks.labelling_options import SuggestOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of a detector, or a parameter file in one")
    parser.add_argument("folder", metavar="FOLDER", help="folder of images without labels")
    add_options(parser, SuggestOptions)


def run(args: argparse.Namespace) -> int:
    from ..tasks.suggest import suggest

    values = given(args, SuggestOptions)
    result = suggest(args.run, args.folder, values)
    for path, _ in result.images:
        print(encodable(path))
    print(
        f"{len(result.images)} of {result.candidates} images without labels; {result.labeled} have labels",
        file=sys.stderr,
    )
    for reason in result.skipped:
        print(encodable(f"error: {reason}"), file=sys.stderr)
    if "json" in values:
        write_json(values["json"], result.as_dict())
    return 1 if result.skipped else 0
