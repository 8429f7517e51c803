"""Export of a run: its network, checked and calibrated on the run's own dataset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, TypeVar, Union

from ..data.open import is_missing
from ..errors import DataError, OptionError
from ..export.options import ExportOptions
from ..options import option, require

if TYPE_CHECKING:
    from ..data.preprocess import Image
    from ..export.write import Exported
    from ..train.run_folder import RunConfig

T = TypeVar("T")


@dataclass(frozen=True)
class RunExportOptions(ExportOptions):
    """Exporting."""

    output: Optional[str] = option(
        None, "folder to write; an earlier export there is replaced", metavar="DIR"
    )
    name: Optional[str] = option(None, "start of the file names (default: name of the run folder)")
    parity_images: int = option(50, "images for the parity check")
    calibration_images: int = option(64, "images for the calibration of 8-bit formats and shared weights")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "at least 1", lambda value: value >= 1, "parity_images", "calibration_images")


def export_run(
    run: Union[str, Path], options: RunExportOptions, images: Optional[Sequence[Union[str, Path]]] = None
) -> Exported:
    """Export the network of a run.

    Parameters
    ----------
    run : str or Path
        Run folder, or a parameter file in one.
    options : RunExportOptions
        `output` is required.
    images : sequence of str or Path, optional
        Images, or folders of them, for the parity check and for calibration. Defaults to the run's validation
        and training images.

    Raises
    ------
    MnssdError
        If `run` is not a run folder or parameter file.
    OptionError
        If an option does not apply, or the run's dataset is missing and no images are given.
    ExportError
        If the export fails its parity check.
    """
    from tqdm import tqdm

    from .. import zoo
    from ..export.write import export_network
    from ..runtime import settings
    from ..train.run_folder import RunFolder

    if not options.output:
        raise OptionError("--output is missing; name the folder to write")
    run_folder = RunFolder.containing(str(run))
    config = run_folder.read_config()
    ctx = settings.pick_context(options.ctx)
    if config.task == "detection":
        net = zoo.load_detector(str(run), ctx)
    else:
        net, _ = zoo.load_classifier(str(run), ctx)
    checked, calibrated = _choose_images(config, options, images)
    total = len(checked) * len(options.format)
    with tqdm(total=total, desc="parity check", unit="image", disable=None, leave=False) as bar:
        return export_network(
            net, config.spec, options.output, checked, options.name or _file_name(run_folder.path),
            options, calibrated, bar.update,
        )  # fmt: skip


def _choose_images(
    config: RunConfig, options: RunExportOptions, images: Optional[Sequence[Union[str, Path]]]
) -> Sequence[List[Image]]:
    """Images for the parity check, and for the calibration if a format needs one."""
    counts = (options.parity_images, options.calibration_images if options.needs_calibration else 0)
    if images:
        paths = _expand_images(images)
        return [_spread(paths, count) for count in counts]
    read = _detection_images if config.task == "detection" else _classification_images
    try:
        data: Any = config.options.data
        is_detector = config.task == "detection"
        if is_missing(data.dataset, data.folder) if is_detector else not data.folder.is_dir():
            # Opening the built-in dataset would render it.
            raise OptionError(f"{data.folder}: the run's dataset is missing")
        return [read(config, role, count) if count else [] for role, count in zip(("val", "train"), counts)]
    except (DataError, OptionError) as error:
        raise OptionError(
            f"{error}; give images for the parity check and calibration with --images"
        ) from error


def _detection_images(config: RunConfig, role: str, count: int) -> List[Any]:
    """Images on which the run was validated (``val``) or trained."""
    from ..data.open import open_dataset

    data: Any = config.options.data
    splits, share = data.validation_lists() if role == "val" else (data.train_splits, data.hold_out)
    dataset = open_dataset(data.dataset, data.folder, splits, config.spec.classes, role, allow_absent=True)
    dataset = dataset.hold_out(share)[role == "val"] if share else dataset
    return _spread([sample.image_path for sample in dataset], count)


def _classification_images(config: RunConfig, role: str, count: int) -> List[Any]:
    """The same as pixels, because the images of a classification dataset may be parts of files."""
    from ..data.classification.datasets import open_classification_dataset

    data = config.options.data
    dataset = open_classification_dataset(data.dataset, data.data_root, role)
    return [dataset.read(image, config.spec.size) for image in _spread(dataset, count)]


def _expand_images(paths: Sequence[Union[str, Path]]) -> List[str]:
    """The files among `paths` and all images below the folders, none of which may be empty."""
    from ..data.image_files import image_files_below

    images: List[str] = []
    for path in map(Path, paths):
        files = sorted(image_files_below(path))
        if path.is_dir() and not files:
            raise OptionError(f"--images {path}: no image that can be read in this folder")
        images += files if path.is_dir() else [str(path)]
    return images


def _spread(items: Sequence[T], count: int) -> List[T]:
    """At most `count` items, evenly spaced."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def _file_name(run_folder: Path) -> str:
    """Name of a run folder without the characters that an export's name cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", run_folder.resolve().name).lstrip(".-") or "network"
