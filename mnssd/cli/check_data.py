"""Check a dataset before training: report each problem with its file, its line, and its effect on training.

The dataset is not changed. The exit status is 1 if there are errors: objects that would not be learned, or
results that would be wrong.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

from ..data.formats import Format, dataset_names, formats
from ..errors import DataError, MnssdError, OptionError
from ..options import NAMES, SIZE, Size, add_options, from_mapping, given, listed, option, require

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..validation.check import CheckResult


@dataclass(frozen=True)
class CheckOptions:
    """Validation."""

    dataset: str = option(
        "auto", "dataset format, or gluoncv:MODULE:NAME; auto recognizes it", choices=dataset_names
    )
    splits: Optional[str] = option(None, "lists to check, separated by commas", shown="all lists")
    classes: Optional[List[str]] = option(
        None, "classes to train on, separated by commas", type=NAMES, shown="all classes"
    )
    size: Size = option((300, 300), "input size of the network, for box sizes", type=SIZE)
    pixels: bool = option(True, "decode every image: find damaged, rotated and duplicate images")
    estimate: bool = option(True, "measure the speed and memory use of a few training steps")
    show: int = option(5, "places shown per kind of problem; 0 shows all")
    json: Optional[str] = option(None, "also write the results to this file", metavar="FILE")
    fix: Optional[str] = option(None, "write a fixed copy to this new folder", metavar="DIR")

    def __post_init__(self) -> None:
        require(self, "at least 0", lambda value: value >= 0, "show")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="FOLDER", help="folder of the dataset")
    add_options(parser, CheckOptions)


def run(args: argparse.Namespace) -> int:
    options = from_mapping(CheckOptions, given(args, CheckOptions))
    from ..data.open import read_lists, recognize
    from ..files import write_json

    root = Path(args.root)
    if options.fix and Path(options.fix).exists() and any(Path(options.fix).iterdir()):
        raise OptionError(f"--fix {options.fix}: not empty; choose a new folder")  # before the work
    if options.dataset == "auto":
        dataset_format, evidence = recognize(root)
        print(f"{root}: recognized as {dataset_format.name}: {evidence}")
    else:
        dataset_format = formats[options.dataset]
    parts = read_lists(dataset_format, root, options.splits and options.splits.split(","), options.classes)
    train_list = _train_list(dataset_format, root, parts)
    result = _check(dataset_format, root, parts, train_list, options)
    _print_result(result, options.show)
    if options.estimate:
        _print_estimate(parts[train_list], options)
    if options.json:
        write_json(options.json, result.as_dict())
    if options.fix:
        _write_fixed(parts, result, train_list, dataset_format, options)
    if result.has_errors:
        hint = "; --fix DIR writes a copy in which those are corrected whose solution is known"
        print("the dataset has errors" + ("" if options.fix else hint))
    return 1 if result.has_errors else 0


def _train_list(dataset_format: Format, root: Path, parts: Dict[str, Dataset]) -> str:
    """The training list; the first one, with a note, if the names do not tell."""
    try:
        name = dataset_format.default_splits(root, "train").partition(":")[0]
    except DataError as error:
        print(f"note: {error}", file=sys.stderr)
        name = ""
    return name if name in parts else next(iter(parts))


def _check(
    dataset_format: Format, root: Path, parts: Dict[str, Dataset], train_list: str, options: CheckOptions
) -> CheckResult:
    from tqdm import tqdm

    from .. import zoo
    from ..runtime.settings import compute_threads
    from ..validation.check import check_dataset

    spec = zoo.DetectorSpec(parts[train_list].classes, size=options.size)
    anchors = zoo.build_detector(spec).anchors
    images = sum(map(len, parts.values())) if options.pixels else 0
    with tqdm(total=images, unit="image", disable=None, leave=False) as bar:
        return check_dataset(
            dataset_format, root, parts, train_list, options.size, anchors,
            pixels=options.pixels, workers=compute_threads(), progress=bar.update,
        )  # fmt: skip


def _print_result(result: CheckResult, show: int) -> None:
    from ..data.findings import KINDS, count_levels

    for name, statistics in result.lists.items():
        classes = listed(f"{cls} {count}" for cls, count in statistics["objects_per_class"].items())
        print(f"{name}: {statistics['images']} images, {statistics['objects']} objects ({classes})")
        if statistics["boxes_without_anchor"] is not None:
            size = " x ".join(f"{side:g}" for side in statistics["median_box"])
            share = f"{statistics['boxes_without_anchor']:.1%} of boxes match no anchor (IoU below 0.5)"
            print(f"  median box: {size} px; {share}")
    by_kind: Dict[str, List[str]] = {}
    for finding in result.findings:
        kind = f"{finding.level}: {KINDS[finding.code].headline}"
        by_kind.setdefault(kind, []).append(finding.line(full_path=True))
    for kind, places in by_kind.items():
        shown = places[:show] if show else places
        print("\n    ".join([f"{kind}: {len(places)}", *shown]))
        if len(places) > len(shown):
            print(f"    and {len(places) - len(shown)} more; --show 0 shows all")
    counts = count_levels(result.findings)
    print(", ".join(f"{count} {level}{'s' if count != 1 else ''}" for level, count in counts.items()))


def _print_estimate(dataset: Dataset, options: CheckOptions) -> None:
    from .. import zoo
    from ..tasks.estimate import estimate
    from ..train.options import LoopOptions

    batch = LoopOptions().batch_size
    measured = estimate(zoo.DetectorSpec(dataset.classes, size=options.size), batch)
    speed, (width, height) = measured.images_per_second, options.size
    print(
        f"training at {width}x{height}, batch size {batch}: {speed:.1f} images per second and "
        f"{len(dataset) / speed / 60:.1f} minutes per epoch without loading images, "
        f"{measured.peak_megabytes} MB of memory"
    )


def _write_fixed(
    parts: Dict[str, Dataset],
    result: CheckResult,
    train_list: str,
    dataset_format: Format,
    options: CheckOptions,
) -> None:
    from ..data.convert import convert, list_file_name
    from ..data.findings import ERROR, summary
    from ..data.open import read_lists
    from ..validation.fix import fix_dataset

    fixed, changes = fix_dataset(dataset_format, parts, result, train_list)
    empty = [name for name, dataset in fixed.items() if not len(dataset)]
    if empty:
        raise MnssdError(f"{', '.join(empty)}: no usable image, so no fixed copy was written")
    output_format, folder = formats[dataset_format.copies_as or dataset_format.name], Path(options.fix or "")
    fixed = {list_file_name(name): dataset for name, dataset in fixed.items()}
    notes = convert(fixed, folder, output_format, False).notes
    for line in [*changes, *notes]:
        print(f"note: {line}", file=sys.stderr)
    print(f"{folder}: fixed copy written, {output_format.name} format")
    copy = read_lists(output_format, folder)
    first = train_list if train_list in copy else next(iter(copy))
    checked = _check(output_format, folder, copy, first, replace(options, pixels=False))
    for line in summary(finding for finding in checked.findings if finding.level == ERROR):
        print(f"not fixed: {line}")
