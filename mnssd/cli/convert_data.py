"""Convert a dataset to another format.

SOURCE is a dataset in any format that `--dataset auto` recognizes. It is not changed. OUTPUT is a new folder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

from ..data.formats import dataset_names, formats
from ..data.tiles import AUTO, NONE, parse_tiles
from ..options import NAMES, ValueType, add_options, from_mapping, given, option

if TYPE_CHECKING:
    from ..data.dataset import Dataset


@dataclass(frozen=True)
class ConvertOptions:
    """Conversion."""

    dataset: str = option(
        "auto", "format of SOURCE, or gluoncv:MODULE:NAME; auto recognizes it", choices=dataset_names
    )
    format: str = option("coco", "format to write", choices=formats.names)
    splits: Optional[str] = option(None, "lists to convert, separated by commas", shown="all lists")
    classes: Optional[List[str]] = option(
        None, "classes to convert, separated by commas", type=NAMES, shown="all classes"
    )
    tiles: str = option(
        NONE, "write ROWSxCOLUMNS overlapping windows of each image, in which small objects are larger; or "
        "auto", type=ValueType(parse_tiles), metavar="GRID",
    )  # fmt: skip
    link: bool = option(False, "make hard links to the images instead of copies")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="folder of the dataset")
    parser.add_argument("output", metavar="OUTPUT", help="new folder")
    add_options(parser, ConvertOptions)


def run(args: argparse.Namespace) -> int:
    options = from_mapping(ConvertOptions, given(args, ConvertOptions))
    from ..data.convert import convert, list_file_name, writable_format
    from ..data.findings import summary
    from ..data.open import find_format, read_lists, recognize
    from ..validation.frames import check_frames, mark_in_doubt

    target_format = writable_format(options.format)
    root = Path(args.source)
    if options.dataset == "auto":
        source_format, evidence = recognize(root)
        print(f"{root}: recognized as {source_format.name}: {evidence}")
    else:
        source_format = find_format(options.dataset, root)
    parts: Dict[str, Dataset] = {}
    splits = options.splits.split(",") if options.splits else None
    for split, dataset in read_lists(source_format, root, splits, options.classes).items():
        findings = list(check_frames(source_format, dataset))
        parts[list_file_name(split)] = mark_in_doubt(dataset, findings)
        for note in [*dataset.notes, *summary(findings)]:
            print(f"note: {note}", file=sys.stderr)
    if options.tiles != NONE:
        parts = _tiles_of(parts, options.tiles)
    result = convert(parts, Path(args.output), target_format, options.link)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    lists = ", ".join(f"{name} {len(dataset)}" for name, dataset in parts.items())
    print(f"{args.output}: {result.images} images ({lists}), {result.boxes} boxes, {options.format} format")
    return 0


def _tiles_of(parts: Dict[str, Dataset], tiles: str) -> Dict[str, Dataset]:
    """The tiles of each list; ``auto`` is for the default detector."""
    from ..data.tile_dataset import tile_dataset

    size, anchor = (300, 300), None
    if tiles == AUTO:
        from ..inference.tiled import smallest_anchor
        from ..zoo import DetectorSpec, build_detector

        spec = DetectorSpec(("object",))
        size, anchor = spec.size, smallest_anchor(build_detector(spec).anchors)
    divided = {name: tile_dataset(dataset, tiles, size, anchor) for name, dataset in parts.items()}
    for name, dataset in divided.items():
        for note in dataset.notes[len(parts[name].notes) :]:
            print(f"note: {name}: {note}", file=sys.stderr)
    return divided
