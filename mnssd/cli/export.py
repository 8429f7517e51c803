"""Write a trained detector as files that plain MXNet runs.

They are loaded back and compared with the network on photographs: those of the run's validation set, or of
--images. What does not answer as the network does is not written.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

from ..errors import DataError, OptionError
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2")


@dataclass(frozen=True)
class ExportOptions:
    """Exporting."""

    output: Optional[str] = option(
        None, "folder to write; an earlier export there is replaced", metavar="DIR"
    )
    name: Optional[str] = option(None, "beginning of the file names (default: that of the run's folder)")
    compare: int = option(50, "images to compare on")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")

    def __post_init__(self) -> None:
        if self.compare < 1:
            raise ValueError(f"compare must be at least 1, not {self.compare}: an export is never unchecked")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the options of exporting."""
    parser.add_argument("run", metavar="RUN", help="run folder, or a parameter file in one")
    parser.add_argument(
        "--images", nargs="+", metavar="IMAGE", help="photographs to compare on, or folders of them"
    )
    add_options(parser, ExportOptions)


def run(args: argparse.Namespace) -> int:
    """Export, compare, say what was written; returns the exit status."""
    options = from_mapping(ExportOptions, given(args, ExportOptions))
    if not options.output:
        raise OptionError("--output DIR is missing: the folder to write")

    from tqdm import tqdm

    from .. import runtime, zoo
    from ..deploy.export import export_symbol

    path = Path(args.run)
    net = zoo.load_detector(str(path), runtime.pick_context(options.ctx))
    folder = path if path.is_dir() else path.parent
    images = _images(args.images) if args.images else _validation_images(folder, net.classes)
    chosen = _spread(images, options.compare)
    name = options.name or _file_name(folder.resolve().name)
    spec = zoo.read_spec(str(folder / zoo.CONFIG_FILE))
    with tqdm(total=len(chosen), desc="comparing", unit="image", disable=None, leave=False) as bar:
        exported = export_symbol(net, options.output, chosen, name, spec, progress=bar.update)
    for written in exported.paths:
        print(f"{written}  {written.stat().st_size / 1e6:.1f} MB")
    for how, comparison in exported.compared.items():
        print(f"{how}: {comparison.line()}")
    print("exported")
    return 0


def _images(given_paths: Sequence[str]) -> List[str]:
    """The files named, and those in the folders named, whatever is below them."""
    found: List[str] = []
    for path in map(Path, given_paths):
        if not path.is_dir():
            found.append(str(path))
            continue
        inside = sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())
        if not inside:
            raise OptionError(f"--images {path}: no image in this folder ({', '.join(IMAGE_ENDINGS)})")
        found += inside
    return found


def _validation_images(run_folder: Path, classes: Sequence[str]) -> List[str]:
    """The images on which the run measured itself, if they are still where they were."""
    from ..data.registry import KINDS, open_dataset
    from ..train.run_folder import RunFolder

    advice = "give photographs to compare the export on by --images"
    stored = RunFolder(run_folder).read_config()["options"]
    kind = stored.get("dataset")
    if kind not in KINDS:
        raise OptionError(f"{run_folder}: its data set {kind!r} is not known here; {advice}")
    root = Path(stored.get("data_root") or KINDS[kind].root)
    if not root.is_dir():
        raise OptionError(f"{root}: the run's data set is not there (any more); {advice}")
    try:
        dataset = open_dataset(kind, root, stored.get("val_splits"), classes, "val", allow_absent=True)
    except DataError as error:
        raise OptionError(f"{error}; or {advice}") from error
    return [sample.image_path for sample in dataset]


def _spread(paths: List[str], count: int) -> List[str]:
    """At most `count` of them, evenly from first to last."""
    return [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else paths


def _file_name(text: str) -> str:
    """`text` as far as the name of an export may have it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-") or "detector"
