"""Convert a dataset to another format.

SOURCE is a dataset in any format that `--dataset auto` recognizes. It is not changed. OUTPUT is a new folder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from ..data.formats import formats
from ..options import add_options, from_mapping, given, option


@dataclass(frozen=True)
class ConvertOptions:
    """Conversion."""

    format: str = option("coco", "format to write", choices=formats.names)
    splits: Optional[str] = option(None, "lists to convert, separated by commas", shown="all lists")
    link: bool = option(False, "make hard links to the images instead of copies")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="folder of the dataset")
    parser.add_argument("output", metavar="OUTPUT", help="new folder")
    add_options(parser, ConvertOptions)


def run(args: argparse.Namespace) -> int:
    options = from_mapping(ConvertOptions, given(args, ConvertOptions))
    from ..data.convert import convert, writable_format
    from ..data.dataset import Dataset
    from ..data.open import lists_to_read, recognize

    target_format = writable_format(options.format)
    root = Path(args.source)
    source_format, evidence = recognize(root)
    print(f"{root}: recognized as {source_format.name}: {evidence}")
    splits = options.splits.split(",") if options.splits else lists_to_read(source_format, root)
    parts: Dict[str, Dataset] = {}
    classes: Optional[List[str]] = None
    for split in splits:
        dataset = source_format.read(root, split, classes, allow_absent=classes is not None)
        classes = list(dataset.classes)
        parts[split.replace("+", "-").replace(":", "-")] = dataset
        for note in dataset.notes:
            print(f"note: {note}", file=sys.stderr)
    result = convert(parts, Path(args.output), target_format, options.link)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    lists = ", ".join(f"{name} {len(dataset)}" for name, dataset in parts.items())
    print(f"{args.output}: {result.images} images ({lists}), {result.boxes} boxes, {options.format} format")
    return 0
