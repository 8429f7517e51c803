"""Exporting a network: files in one or more formats, each checked against the network, and their sidecar."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import mxnet as mx

from .. import __version__
from ..data.preprocess import Image
from ..errors import ExportError, OptionError
from ..files import atomic_folder
from ..zoo import ClassifierSpec, DetectorSpec
from .formats import ExportFormat, export_formats
from .network import ExportedClassifier, ExportedDetector, ExportedNetwork
from .options import ExportOptions
from .parity import ParityCheck
from .quantization_check import QuantizationCheck
from .sidecar import FORMAT, SCHEMA_VERSION, describe_file, find_sidecars, read_sidecar, write_sidecar
from .speed import speed_path

Progress = Optional[Callable[[int], Any]]


class Exported(NamedTuple):
    """Paths of the files, the content of the sidecar, and the parity check of each engine."""

    paths: List[Path]
    sidecar: Dict[str, Any]
    parity: Mapping[str, ParityCheck]


def export_network(
    net: Any,
    spec: Union[DetectorSpec, ClassifierSpec],
    folder: Union[str, Path],
    images: Sequence[Image],
    name: str = "",
    options: Optional[ExportOptions] = None,
    calibration_images: Sequence[Image] = (),
    progress: Progress = None,
) -> Exported:
    """Export a detector or classifier: one or more formats and their sidecar, ``NAME.json``.

    Files are loaded back and compared with `net` on `images`. The folder appears only if all formats pass.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        A `mnssd.nn.SSD` for a `DetectorSpec`.
    spec : DetectorSpec or ClassifierSpec
    folder : str or Path
        Created; an earlier export there is replaced.
    images : sequence of str, Path, bytes or numpy.ndarray
        Images for the parity check: files, their content, or ``(height, width, 3)`` uint8 RGB.
    name : str
        Start of the file names. Defaults to ``detector`` or ``classifier``.
    calibration_images : sequence of str, Path, bytes or numpy.ndarray
        Images that choose the ranges of 8-bit integers. Defaults to `images`.
    progress : callable, optional
        Called with the number of images compared, after each batch of each format.

    Raises
    ------
    OptionError
        If `name` is not a file name, an option does not apply, a package is missing, or `folder` is taken.
    ImageError
        If an image cannot be read.
    ExportError
        If a format fails its parity check; no file remains.
    """
    options = options or ExportOptions()
    formats = [export_formats[format_name] for format_name in options.format]
    detects = isinstance(spec, DetectorSpec)
    name = name or ("detector" if detects else "classifier")
    if not images:
        raise ExportError("no images for the parity check; give images like those the network will run on")
    if options.raw_heads and not detects:
        raise OptionError("raw_heads applies to detectors, and this is a classifier")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise OptionError(
            f"name {name!r}: the name of an export consists of letters, digits, '.', '_' and '-'"
        )
    _prepare(formats)
    kind = ExportedDetector if detects else ExportedClassifier
    network: ExportedNetwork = kind(net, spec, options, images, calibration_images)
    folder = Path(os.path.realpath(folder))
    _check_replaceable(folder)
    with atomic_folder(folder, replace=True) as unfinished:
        exported = _write(network, formats, unfinished, name, progress)
    return exported._replace(paths=[folder / path.name for path in exported.paths])


def _prepare(formats: Sequence[ExportFormat]) -> None:
    """Prepare all formats; raises OptionError if one of them cannot be written here."""
    for entry in formats:
        obstacle = entry.obstacle()
        if obstacle:
            raise OptionError(f"--format {entry.name}: {obstacle}")
    for entry in formats:
        entry.prepare()


def _write(
    network: ExportedNetwork, formats: Sequence[ExportFormat], folder: Path, name: str, progress: Progress
) -> Exported:
    files: Dict[str, Any] = {}
    sidecar: Dict[str, Any] = {
        "format": FORMAT, "schema_version": SCHEMA_VERSION, "name": name, "files": files, **network.describe()
    }  # fmt: skip
    paths: List[Path] = []
    parity: Dict[str, ParityCheck] = {}
    for entry in formats:
        sidecar[entry.section] = entry.write(network, folder, name)
        new_paths = entry.new_paths(folder, name)
        files.update(zip(entry.files, map(describe_file, new_paths)))
        paths += new_paths
        parity.update(_check_parity(network, entry, folder, sidecar, progress))
    sidecar["versions"] = {
        "mnssd": __version__, "mxnet": mx.__version__, "python": platform.python_version(),
    }  # fmt: skip
    sidecar["parity"] = {engine: check.as_dict() for engine, check in parity.items()}
    write_sidecar(folder / f"{name}.json", sidecar)
    return Exported([*paths, folder / f"{name}.json"], sidecar, parity)


def _check_parity(
    network: ExportedNetwork, entry: ExportFormat, folder: Path, sidecar: Dict[str, Any], progress: Progress
) -> Dict[str, ParityCheck]:
    """Compare the engines of a format with the network; raises ExportError if one differs."""
    tolerance = entry.tolerance(network.options)
    engines = entry.engines_to_check(network, folder, sidecar)
    checks: Dict[str, ParityCheck] = {
        engine: QuantizationCheck(tolerance, len(network.heads)) if tolerance else network.exact_check()
        for engine in engines
    }
    for images, pixels in network.batches():
        expected = network.run(pixels)
        for name, engine in engines.items():
            checks[name].add(expected, engine(pixels), images)
        if progress:
            progress(len(images))
    for check in checks.values():
        check.finish()
    return checks


def _check_replaceable(folder: Path) -> None:
    """Raise OptionError unless `folder` is missing, empty, or holds only an earlier export."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OptionError(f"{folder}: is a file, and an export is a folder; choose another --output")
    expected = set()
    for path in find_sidecars(folder):
        try:
            files = read_sidecar(path)["files"].values()
        except ExportError as error:
            raise OptionError(f"{folder}: cannot be replaced ({error}); choose another --output") from error
        expected |= {path.name, speed_path(path).name, *(entry["file"] for entry in files)}
    unexpected = sorted(entry.name for entry in folder.iterdir() if entry.name not in expected)
    if unexpected:
        raise OptionError(f"{folder}: holds {unexpected[0]}, which no export wrote; choose another --output")
