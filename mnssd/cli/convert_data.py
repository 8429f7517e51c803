"""Write a dataset in another format: VOC's XML, COCO's JSON, YOLO's text files, tables or record files.

SOURCE is whatever `--dataset auto` reads. It stays as it is; OUTPUT is a new folder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..options import add_arguments as add_options
from ..options import from_mapping, given, option

FORMATS = (
    "voc",
    "coco",
    "yolo",
    "csv",
    "recordio",
)  # as data.convert.FORMATS, which loads OpenCV; a test compares


@dataclass(frozen=True)
class ConvertOptions:
    """Conversion."""

    format: str = option("coco", "what is written", choices=FORMATS)
    splits: Optional[str] = option(
        None, "lists to take, each for itself, separated by commas (default: all that there are)"
    )
    link: bool = option(False, "hard links to the images in place of copies")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where from, where to, and the options."""
    parser.add_argument("source", metavar="SOURCE", help="folder of a dataset")
    parser.add_argument("output", metavar="OUTPUT", help="new folder")
    add_options(parser, ConvertOptions)


def run(args: argparse.Namespace) -> int:
    """Read, write, say what was lost; returns the exit status."""
    options = from_mapping(ConvertOptions, given(args, ConvertOptions))
    from ..data.convert import convert
    from ..data.open import lists_to_read, open_dataset, recognise

    root = Path(args.source)
    kind, why = recognise(root)
    print(f"{root}: read as {kind}, for it {why}")
    splits = options.splits.split(",") if options.splits else lists_to_read(kind, root)
    parts, classes = {}, None
    for split in splits:
        dataset = open_dataset(kind, root, split, classes, allow_absent=classes is not None)
        classes = list(dataset.classes)
        parts[split.replace("+", "-").replace(":", "-")] = dataset
        for note in dataset.notes:
            print(f"note: {note}", file=sys.stderr)
    done = convert(parts, Path(args.output), options.format, options.link)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    lists = ", ".join(f"{name} {len(dataset)}" for name, dataset in parts.items())
    print(f"{args.output}: {done.images} images ({lists}), {done.boxes} boxes, in {options.format}'s format")
    return 0
