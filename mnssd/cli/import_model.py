"""Import a detector or classifier that was trained with another framework.

The result is a run folder like any other: detect, eval, export and prune take it, and --weights starts
training from it. The imported network is compared with its file, operator by operator and in an independent
engine if one is installed.
"""

from __future__ import annotations

import argparse

from ..files import encodable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..importers.families import families

    known = "; ".join(family.description for family in families)
    parser.add_argument("file", metavar="FILE", help=known)
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the classes: one per line, or a .pbtxt label map"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="run folder to write (default: runs/NAME of the file)"
    )
    parser.add_argument(
        "--images", nargs="+", metavar="IMAGE", help="images to compare on (default: generated ones)"
    )


def run(args: argparse.Namespace) -> int:
    from ..importers.run import import_file

    imported = import_file(args.file, args.labels, args.output, args.images)
    print(encodable("\n".join([*imported.lines, f"run: {imported.path}"])))
    return 0
