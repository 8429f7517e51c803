"""Write a trained detector or classifier as files that plain MXNet or ONNX Runtime runs.

They are loaded back and compared with the network on images: those of the run's validation set, or of
--images. What does not answer as the network does is not written. 8-bit integers take their scales from
images of the run's training set, or of --images, and answer nearly the same; how nearly is said.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, TypeVar

from ..errors import DataError, OptionError
from ..export.options import CALIBRATIONS, NAMES, Formats
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option, parse_names, unknown_name

if TYPE_CHECKING:
    import numpy as np

    from ..export.folder import Exported
    from ..train.options import ClassificationOptions, DetectionOptions
    from ..zoo import ClassifierSpec

T = TypeVar("T")


@dataclass(frozen=True)
class ExportOptions:
    """Exporting."""

    output: Optional[str] = option(
        None, "folder to write; an earlier export there is replaced", metavar="DIR"
    )
    format: List[str] = option(
        ("symbol",),
        "symbol (MXNet's), onnx, int8 (MXNet's in 8 bits), onnx-int8, several separated by commas, or all",
        type=parse_names,
    )
    pixels: bool = option(False, "the files take uint8 pixels and normalise them themselves")
    raw_heads: bool = option(
        False, "a detector's files end before decoding and suppression, as OpenCV's DNN module needs it"
    )
    fp16_weights: bool = option(False, "symbol keeps its weights in 16 bits, in half the space")
    calibration: str = option(
        "naive", "how the ranges of 8-bit integers are found on images", choices=CALIBRATIONS
    )
    calibrate: int = option(64, "images to calibrate on: of the run's training set, or of --images")
    name: Optional[str] = option(None, "beginning of the file names (default: that of the run's folder)")
    compare: int = option(50, "images to compare on")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")

    def __post_init__(self) -> None:
        if self.compare < 1:
            raise ValueError(f"compare must be at least 1, not {self.compare}: an export is never unchecked")
        for name in [] if list(self.format) == ["all"] else self.format:
            if name not in NAMES:
                raise ValueError(unknown_name("format", name, [*NAMES, "all"]))
        if self.calibrate < 1:
            raise ValueError(f"calibrate must be at least 1, not {self.calibrate}")
        if self.fp16_weights and "symbol" not in self.formats().names:
            raise ValueError("fp16_weights is for symbol files; add --format symbol")

    def formats(self) -> Formats:
        """The same for `mnssd.deploy`."""
        names = NAMES if self.format == ["all"] else tuple(dict.fromkeys(self.format))
        return Formats(names, self.pixels, self.raw_heads, self.fp16_weights, self.calibration)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the options of exporting."""
    parser.add_argument("run", metavar="RUN", help="run folder, or a parameter file in one")
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help="images to compare and calibrate on, or folders of them",
    )
    add_options(parser, ExportOptions)


def run(args: argparse.Namespace) -> int:
    """Export, compare, say what was written; returns the exit status."""
    options = from_mapping(ExportOptions, given(args, ExportOptions))
    if not options.output:
        raise OptionError("--output DIR is missing: the folder to write")

    from ..train.run_folder import RunFolder

    run_folder = RunFolder.containing(args.run)
    classifies = run_folder.read_task() == "classification"
    exported = (_classifier if classifies else _detector)(args, options, run_folder.path)
    for written in exported.paths:
        print(f"{written}  {written.stat().st_size / 1e6:.1f} MB")
    for how, comparison in exported.compared.items():
        print(f"{how}: {comparison.line()}")
    print("exported")
    return 0


def _detector(args: argparse.Namespace, options: ExportOptions, folder: Path) -> Exported:
    from .. import zoo
    from ..export.detector import export_detector
    from ..runtime import settings

    net = zoo.load_detector(args.run, settings.pick_context(options.ctx))
    formats = options.formats()
    calibrating: List[str] = []
    if args.images:
        images = _images(args.images)
        calibrating = images
    else:
        images = _images_of_run(folder, net.classes, "val")
        if formats.int8:
            calibrating = _images_of_run(folder, net.classes, "train")
    chosen, spec = _spread(images, options.compare), zoo.read_spec(str(folder / zoo.CONFIG_FILE), zoo.DetectorSpec)
    with _bar(len(chosen) * len(formats.names)) as bar:
        return export_detector(
            net, options.output or "", chosen, _name(options, folder), spec, formats, bar.update,
            calibrate_on=_spread(calibrating, options.calibrate),
        )  # fmt: skip


def _classifier(args: argparse.Namespace, options: ExportOptions, folder: Path) -> Exported:
    from .. import zoo
    from ..export.classifier import export_classifier
    from ..runtime import settings

    net, spec = zoo.load_classifier(args.run, settings.pick_context(options.ctx))
    chosen: Sequence[Any]
    calibrating: Sequence[Any] = []
    formats = options.formats()
    if args.images:
        images = _images(args.images)
        chosen, calibrating = _spread(images, options.compare), _spread(images, options.calibrate)
    else:
        chosen = _pixels_of_run(folder, spec, "val", options.compare)
        if formats.int8:
            calibrating = _pixels_of_run(folder, spec, "train", options.calibrate)
    with _bar(len(chosen) * len(formats.names)) as bar:
        return export_classifier(
            net, spec, options.output or "", chosen, _name(options, folder), formats, bar.update, calibrating
        )


def _bar(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="comparing", unit="image", disable=None, leave=False)


def _name(options: ExportOptions, folder: Path) -> str:
    return options.name or _file_name(folder.resolve().name)


def _images(given_paths: Sequence[str]) -> List[str]:
    """The files named, and those in the folders named, whatever is below them."""
    from ..data.image import IMAGE_ENDINGS

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


def _images_of_run(run_folder: Path, classes: Sequence[str], role: str) -> List[str]:
    """The images on which the run measured itself (``val``) or trained, if they are still where they were."""
    from ..data.open import open_dataset

    def find(stored: DetectionOptions) -> List[str]:
        _check_there(stored.folder)
        splits, share = (
            (stored.train_splits, stored.hold_out) if role == "train" else stored.validation_lists()
        )
        dataset = open_dataset(stored.dataset, stored.folder, splits, classes, role, allow_absent=True)
        dataset = dataset.hold_out(share)[role == "val"] if share else dataset
        return [sample.image_path for sample in dataset]

    return _of_the_run(run_folder, find)


def _pixels_of_run(run_folder: Path, spec: ClassifierSpec, role: str, count: int) -> List[np.ndarray]:
    """The same for a classifier, as pixels, for its images may be parts of files."""
    from ..data.classification.datasets import open_classification_dataset

    def find(stored: ClassificationOptions) -> List[np.ndarray]:
        _check_there(stored.folder)
        dataset = open_classification_dataset(stored.dataset, str(stored.folder), role)
        return [dataset.read(image, spec.size) for image in _spread(dataset.images, count)]

    return _of_the_run(run_folder, find)


def _check_there(root: Path) -> None:
    if not root.is_dir():  # the built-in one would be rendered
        raise OptionError(f"{root}: the run's dataset is not there (any more)")


def _of_the_run(run_folder: Path, find: Callable[[Any], T]) -> T:
    """What `find` finds by the run's options; errors say what to do instead."""
    from ..train.run_folder import RunFolder

    try:
        return find(RunFolder(run_folder).read_config().options.data)
    except (DataError, OptionError) as error:
        raise OptionError(
            f"{error}; give images to compare and calibrate the export on by --images"
        ) from error


def _spread(found: Sequence[T], count: int) -> List[T]:
    """At most `count` of them, evenly from first to last."""
    return [found[i * len(found) // count] for i in range(count)] if len(found) > count else list(found)


def _file_name(text: str) -> str:
    """`text` as far as the name of an export may have it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-") or "network"
