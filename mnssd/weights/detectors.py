"""Published detectors by name: downloaded and imported once, into the cache."""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import List

from ..errors import WeightsError
from ..fetch.download import unpack_member
from ..files import atomic_folder
from .catalog import DETECTORS, PublishedDetector
from .published import cache_folder, fetch_published

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers up to 90 that no class of COCO has (``mscoco_label_map.pbtxt`` of the Object Detection API)."""

_BAD_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, EOFError, KeyError, OSError)


def detector_path(name: str) -> str:
    """The run folder of a published detector; another path, or an existing run or export, as it is.

    Raises
    ------
    DownloadError, WeightsError
        As `detector_run`.
    """
    entry = next((entry for entry in DETECTORS if entry.name == name), None)
    if entry is None:
        return name
    folder = Path(name)
    is_taken = folder.is_file() or (folder / "config.yaml").exists() or any(folder.glob("*.json"))
    return name if is_taken else str(detector_run(entry))


def detector_run(entry: PublishedDetector) -> Path:
    """The run folder of a published detector in the cache; downloaded and imported if it is missing.

    Raises
    ------
    DownloadError
        As `published.fetch_published`.
    OptionError
        If a package that the import needs is missing.
    WeightsError
        If the archive lacks a file, or the folder cannot be written.
    """
    run = cache_folder() / "runs" / f"{entry.name}-{entry.checksum.split(':')[1][:8]}"
    if run.exists():
        return run
    archive = fetch_published(entry)
    # The importers are above this package, so they are loaded by name, as a registry loads its modules.
    import_file = import_module("mnssd.importers.run").import_file
    try:
        with tempfile.TemporaryDirectory() as folder, atomic_folder(run) as output:
            model = _extract(archive, entry.model, Path(folder))
            labels = Path(folder) / "labels.txt"
            if entry.labels:
                labels = _extract(archive, entry.labels, Path(folder))
            else:
                labels.write_text("\n".join(_coco_labels()), encoding="utf-8")
            lines = import_file(str(model), str(labels), str(output)).lines
            print(
                f"importing detector {entry.name} to {run}: {lines[0]}",
                *lines[1:],
                sep="\n  ",
                file=sys.stderr,
            )
    except OSError as error:
        if not run.exists():  # another process may have imported it meanwhile
            raise WeightsError(f"{run}: cannot be written ({error.strerror or error})") from error
    return run


def _extract(archive: Path, member: str, folder: Path) -> Path:
    """Write a file of a zip or tar archive into a folder."""
    target = folder / member.rpartition("/")[2]
    try:
        if zipfile.is_zipfile(archive):
            unpack_member(archive, member, target)
            return target
        with tarfile.open(archive) as tar:
            source = tar.extractfile(member)
            if source is None:
                raise KeyError(member)
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
    except _BAD_ARCHIVE as error:
        raise WeightsError(f"{archive}: no {member} in it ({error}); delete it and try again") from error
    return target


def _coco_labels() -> List[str]:
    """Names by number, ``???`` for the background and for the gaps."""
    from ..nn.gluoncv_models import GLUONCV_MODELS

    names = iter(GLUONCV_MODELS["ssd_512_mobilenet1.0_coco"].classes())
    return ["???" if number in (0, *GAPS) else next(names) for number in range(91)]
