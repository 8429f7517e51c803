"""List published ImageNet weights and detectors, and fill the cache from which --weights takes them.

`mnssd weights` lists them, `mnssd weights fetch NAME` downloads one, and `mnssd weights add FILE` copies a
file that was downloaded elsewhere into the cache. In the list, "imagenet" marks what --weights imagenet means
for a network. A detector also becomes a run folder in the cache, and `mnssd detect --detector NAME` uses it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

from ..errors import OptionError, WeightsError
from ..files import encodable
from ..options import unknown_name

if TYPE_CHECKING:
    from ..weights.catalog import PublishedDetector, PublishedWeights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", default="list", metavar="ACTION", help="list, fetch or add")
    parser.add_argument(
        "items", nargs="*", metavar="ITEM", help="for fetch: names, as in the list; for add: files"
    )


def run(args: argparse.Namespace) -> int:
    if args.action not in ACTIONS:
        raise OptionError(unknown_name("action", args.action, ACTIONS))
    if bool(args.items) == (args.action == "list"):
        expected = {"list": "nothing after it", "fetch": "names of weights", "add": "files"}[args.action]
        raise OptionError(f"mnssd weights {args.action}: expected {expected}")
    return ACTIONS[args.action](args.items)


def _list(_: Sequence[str]) -> int:
    from ..weights.published import CATALOG, DETECTORS, cache_folder

    print("\n".join([*_table(CATALOG), "", *_detector_table(DETECTORS)]))
    print(encodable(f"\ncache: {cache_folder()}"))
    return 0


def _fetch(names: Sequence[str]) -> int:
    from ..weights.catalog import PublishedDetector
    from ..weights.detectors import detector_run
    from ..weights.published import fetch_published, find_published

    for entry in [find_published(name) for name in names]:
        path = detector_run(entry) if isinstance(entry, PublishedDetector) else fetch_published(entry)
        print(encodable(f"{entry.name}: {path}"))
    return 0


def _add(files: Sequence[str]) -> int:
    from ..weights.published import add_to_cache

    failed = 0
    for file in files:
        try:
            entry, path = add_to_cache(Path(file))
        except WeightsError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
        else:
            print(encodable(f"{file}: {entry.name}, now in the cache: {path}"))
    return int(failed > 0)


ACTIONS = {"list": _list, "fetch": _fetch, "add": _add}


def _table(catalog: Sequence[PublishedWeights]) -> List[str]:
    from ..weights.published import IMAGENET, best_published, cached_path, megabytes

    rows = [("name", "network", "width", "top-1", "size", "license", "")]
    for entry in catalog:
        best = best_published(entry.network, entry.width, entry.activation)
        marks = [IMAGENET] if entry is best else []
        marks += ["cached"] if cached_path(entry).exists() else []
        network = f"{entry.network} {entry.activation}".rstrip()
        rows.append((
            entry.name, network, f"{entry.width:g}", f"{entry.top1:.1f}", megabytes(entry), entry.license,
            ", ".join(marks),
        ))  # fmt: skip
    return _aligned(rows)


def _detector_table(catalog: Sequence[PublishedDetector]) -> List[str]:
    from ..weights.published import cached_path, megabytes

    rows = [("detector", "network", "classes", "size", "license", "")]
    for entry in catalog:
        mark = "cached" if cached_path(entry).exists() else ""
        rows.append((entry.name, entry.network, entry.classes, megabytes(entry), entry.license, mark))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
