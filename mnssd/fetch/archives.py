"""Download of an archive and unpacking over an existing folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from ..errors import DownloadError
from .download import download_file, part_path
from .unpack import unpack_tar


class Archive(NamedTuple):
    """A public tar archive.

    Attributes
    ----------
    name : str
        File name.
    size : int
        Bytes.
    sha256 : str
        Digest of the file.
    urls : tuple of str
        Tried in turn; the digest is checked whichever responds.
    """

    name: str
    size: int
    sha256: str
    urls: Tuple[str, ...]


def download_archive(
    archive: Archive,
    root: Path,
    inside: str,
    target: Path,
    *,
    last: str = "",
    cafile: Optional[str] = None,
    progress: bool = True,
) -> None:
    """Download an archive and merge one of its folders into `target`.

    The archive is stored in `root` meanwhile and deleted afterwards, unless it was there before.

    Parameters
    ----------
    archive : Archive
    root : Path
        Created if missing.
    inside : str
        Folder in the archive.
    target : Path
        Existing files are replaced, others are kept.
    last : str
        Folder name of the files to move last, whose presence marks a complete dataset.
    cafile, progress
        As for `download_file`.

    Raises
    ------
    DownloadError
        If there is too little disk space, or as `download_file` and `unpack_tar` do.
    """
    path = root / archive.name
    _check_space(archive, root, path)
    keep = path.exists()
    if progress and not keep:
        host = urlsplit(archive.urls[0]).hostname
        print(f"downloading {archive.name} ({archive.size >> 20} MiB) from {host}", file=sys.stderr)
    download_file(
        archive.urls, path, sha256=archive.sha256, size=archive.size, cafile=cafile, progress=progress
    )
    scratch = root / f".{archive.name}.content"
    shutil.rmtree(scratch, ignore_errors=True)  # left behind if an earlier process was killed
    content = scratch / "content"
    try:
        unpack_tar(path, content, max_bytes=4 * archive.size, progress=progress)
        if not (content / inside).is_dir():
            raise DownloadError(f"{path}: the archive has no folder {inside}")
        _merge(content / inside, target, last)
    except OSError as error:
        raise DownloadError(f"{path}: cannot be unpacked ({error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not keep:
        path.unlink()


def _check_space(archive: Archive, root: Path, path: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise DownloadError(f"{root}: cannot be written ({error.strerror or error})") from error
    received = next((p.stat().st_size for p in (path, part_path(path)) if p.exists()), 0)
    needed = 2 * archive.size - received  # the content takes about as much space as the archive
    if free < needed:
        raise DownloadError(f"{root}: {archive.name} needs {needed >> 20} MiB, {free >> 20} MiB are free")


def _merge(source: Path, target: Path, last: str) -> None:
    files = [Path(folder) / name for folder, _, names in os.walk(source) for name in names]
    for path in sorted(files, key=lambda path: last in path.relative_to(source).parts):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
