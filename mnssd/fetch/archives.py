"""Download of a tar archive and unpacking over an existing folder."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from tqdm import tqdm

from ..errors import DownloadError
from ..files import atomic_folder
from .download import Checksum, download_file, part_path


class Archive(NamedTuple):
    """A public tar archive: file name, bytes, digest, and URLs to try in turn."""

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
    checksum = Checksum("sha256", archive.sha256)
    download_file(archive.urls, path, checksum=checksum, size=archive.size, cafile=cafile, progress=progress)
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


def unpack_tar(archive: Path, folder: Path, *, max_bytes: int, progress: bool = True) -> None:
    """Unpack an untrusted tar file, compressed or not, into a new folder that appears once it is complete.

    Only regular files and folders with relative names without ``..`` are accepted, no links, devices or
    pipes. Owners and permissions in the archive are ignored. `max_bytes` limits the total size of the
    members.

    Raises
    ------
    DownloadError
        If the archive is damaged, too large or has a refused member, or if `folder` exists or cannot be
        written.
    """
    if folder.exists():
        raise DownloadError(f"{folder}: exists; delete it to unpack {archive} again")
    total = 0
    try:
        with atomic_folder(folder) as temporary, tarfile.open(archive) as tar:
            for member in tqdm(tar, desc=archive.name, unit=" files", disable=None if progress else True):
                total += member.size
                if total > max_bytes:
                    raise DownloadError(f"{archive}: not unpacked; its content exceeds {max_bytes} bytes")
                _unpack_member(tar, member, temporary, archive)
            _check_end(tar)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DownloadError(f"{archive}: cannot be unpacked into {folder} ({error})") from error


def _check_end(tar: tarfile.TarFile) -> None:
    """Expect the final block of zeros, because tarfile takes a cut or damaged header for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"damaged or cut short at byte {tar.offset}")


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or re.search(r"[\\:\0]", member.name):
        raise DownloadError(f"{archive}: not unpacked; {member.name!r} is outside the archive's folder")
    target = folder.joinpath(*name.parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise DownloadError(f"{archive}: not unpacked; {member.name!r} is not a regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
