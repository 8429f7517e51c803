"""Unpacking of untrusted tar archives."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Union

from tqdm import tqdm

from ..errors import DownloadError
from ..files import atomic_folder


def unpack_tar(
    archive: Union[str, Path],
    folder: Union[str, Path],
    *,
    max_bytes: int = 16 << 30,
    progress: bool = True,
) -> Path:
    """Unpack a tar file, compressed or not, into a new folder that appears once all members are unpacked.

    Only regular files and folders with relative names without ``..`` are accepted, no links, devices or
    pipes. Owners and permissions in the archive are ignored.

    Parameters
    ----------
    archive : str or Path
    folder : str or Path
        Must not exist.
    max_bytes : int
        Largest accepted total size of the members.
    progress : bool
        Show a progress bar if stderr is a terminal.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    DownloadError
        If the archive is damaged, too large or has a refused member, or if `folder` cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise DownloadError(f"{folder}: exists; delete it to unpack {archive} again")
    total = 0
    try:
        with atomic_folder(folder) as temporary, tarfile.open(archive) as tar:
            bar = tqdm(tar, desc=Path(archive).name, unit=" files", disable=None if progress else True)
            for member in bar:
                total += member.size
                if total > max_bytes:
                    raise DownloadError(f"{archive}: not unpacked; its content exceeds {max_bytes} bytes")
                _unpack_member(tar, member, temporary, str(archive))
            _check_end(tar)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DownloadError(f"{archive}: cannot be unpacked into {folder} ({error})") from error
    return folder


def _check_end(tar: tarfile.TarFile) -> None:
    """Expect the final block of zeros, because tarfile takes a cut or damaged header for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"damaged or cut short at byte {tar.offset}")


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: str) -> None:
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
