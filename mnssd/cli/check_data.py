"""Look a dataset over before training on it: every fault with its file, its line, and what becomes of it.

The folder is never changed. The exit status is 1 when there are errors: something that was meant to be
learned is lost, or what would be measured is untrue.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..data.open import KINDS, default_splits, lists_to_read, open_dataset, recognise
from ..errors import MnssdError, OptionError
from ..options import add_arguments as add_options
from ..options import from_mapping, given, names_list, option
from ..train.options import parse_size

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..validation.check import CheckResult


@dataclass(frozen=True)
class CheckOptions:
    """Checking."""

    dataset: str = option("auto", "its format; auto, whatever it is", choices=tuple(KINDS))
    splits: Optional[str] = option(None, "lists to check, separated by commas (default: all that there are)")
    classes: Optional[List[str]] = option(
        None, "the classes wanted, separated by commas (default: all of them)", parse=names_list
    )
    size: Tuple[int, int] = option((300, 300), "network input that boxes are measured for", parse=parse_size)
    pixels: bool = option(True, "decode every image: damage, turns, and the same image twice")
    estimate: bool = option(True, "train a few steps on noise, to tell the time and memory it takes")
    show: int = option(5, "places named of each kind; 0 for all")
    json: Optional[str] = option(None, "write everything to this file, too", metavar="FILE")
    fix: Optional[str] = option(None, "write a corrected copy into this new folder", metavar="DIR")

    def __post_init__(self) -> None:
        if self.show < 0:
            raise ValueError(f"show must not be negative, not {self.show}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the options."""
    parser.add_argument("root", metavar="FOLDER", help="folder of the dataset")
    add_options(parser, CheckOptions)


def run(args: argparse.Namespace) -> int:
    """Check, print what was found; returns the exit status."""
    options = from_mapping(CheckOptions, given(args, CheckOptions))
    root = Path(args.root)
    if options.fix and Path(options.fix).exists() and any(Path(options.fix).iterdir()):
        raise OptionError(f"{options.fix}: holds something already; choose a new folder")  # before the work
    kind, why = recognise(root) if options.dataset == "auto" else (options.dataset, "you say so")
    print(f"{root}: read as {kind}, for {why if why.startswith('you') else 'it ' + why}")
    parts = _open(kind, root, options)
    trained = default_splits(kind, "train", root).partition(":")[0]
    trained = trained if trained in parts else next(iter(parts))
    examined = _examine(kind, root, parts, trained, options)
    _print(examined, options.show)
    if options.estimate:
        _print_estimate(parts[trained], options)
    if options.json:
        from ..files import write_json

        write_json(options.json, examined.as_dict())
    if options.fix:
        _write_corrected(parts, examined, trained, kind, options.fix)
    if examined.has_errors:
        print("there are errors" + ("" if options.fix else "; --fix DIR writes a copy without them"))
    return 1 if examined.has_errors else 0


def _open(kind: str, root: Path, options: CheckOptions) -> Dict[str, Dataset]:
    names = options.splits.split(",") if options.splits else lists_to_read(kind, root)
    parts = {name: open_dataset(kind, root, name, options.classes, allow_absent=True) for name in names}
    # Names may differ from list to list; those of all of them are meant.
    classes = tuple(dict.fromkeys(name for dataset in parts.values() for name in dataset.classes))
    return {name: dataset.relabelled(classes) for name, dataset in parts.items()}


def _examine(
    kind: str, root: Path, parts: Dict[str, Dataset], trained: str, options: CheckOptions
) -> CheckResult:
    from tqdm import tqdm

    from .. import zoo
    from ..runtime.settings import compute_threads
    from ..validation.check import check_dataset

    spec = zoo.DetectorSpec(parts[trained].classes, size=options.size)
    anchors = zoo.build_detector(spec).anchors
    images = sum(map(len, parts.values())) if options.pixels else 0
    with tqdm(total=images, unit="image", disable=None, leave=False) as bar:
        return check_dataset(
            kind, root, parts, trained, options.size, anchors,
            pixels=options.pixels, workers=compute_threads(), progress=bar.update,
        )  # fmt: skip


def _print(examined: CheckResult, show: int) -> None:
    from ..data.findings import KINDS as FINDINGS
    from ..data.findings import count_levels

    for name, known in examined.lists.items():
        classes = ", ".join(f"{cls} {count}" for cls, count in known["objects_per_class"].items())
        print(f"{name}: {known['images']} images, {known['objects']} objects ({classes})")
        if known["boxes_without_anchor"] is not None:
            typical = " x ".join(f"{side:g}" for side in known["median_box"])
            share = f"{known['boxes_without_anchor']:.1%} overlap no anchor by half"
            print(f"  boxes are typically {typical} px; {share}")
    by_kind: Dict[Tuple[str, str], List[str]] = {}
    for finding in examined.findings:
        key = (finding.level, FINDINGS[finding.code].headline)
        by_kind.setdefault(key, []).append(finding.line(whole_path=True))
    for (level, headline), places in by_kind.items():
        print(f"{level}: {headline}: {len(places)}")
        shown = places[:show] if show else places
        for place in shown:
            print(f"    {place}")
        if len(places) > len(shown):
            print(f"    and {len(places) - len(shown)} more; --show 0 names all")
    counts = count_levels(examined.findings)
    print(", ".join(f"{count} {level}{'s' if count != 1 else ''}" for level, count in counts.items()))


def _print_estimate(trained: Dataset, options: CheckOptions) -> None:
    from .. import zoo
    from ..tasks.estimate import estimate
    from ..train.options import LoopOptions

    batch = LoopOptions().batch_size
    measured = estimate(zoo.DetectorSpec(trained.classes, size=options.size), batch)
    minutes = len(trained) / measured.images_per_second / 60
    how = f"{options.size[0]}x{options.size[1]}, batch {batch}"
    print(
        f"training at {how}: {measured.images_per_second:.1f} images a second, {minutes:.1f} minutes an epoch"
        f" without reading them, {measured.peak_megabytes} MB of memory"
    )


def _write_corrected(
    parts: Dict[str, Dataset], examined: CheckResult, trained: str, kind: str, folder: str
) -> None:
    from ..data.convert import convert
    from ..validation.fix import corrected

    mended, done = corrected(parts, examined, trained)
    empty = [name for name, dataset in mended.items() if not len(dataset)]
    if empty:
        raise MnssdError(f"{', '.join(empty)}: no image is left, so no corrected copy was written")
    kind = "voc" if kind == "shapes" else kind  # which is VOC's layout
    notes: List[Any] = convert(mended, Path(folder), kind, False).notes
    for line in [*done, *notes]:
        print(f"note: {line}", file=sys.stderr)
    print(f"{folder}: a corrected copy, in {kind}'s format")
