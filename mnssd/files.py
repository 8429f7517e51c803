"""Files that are there whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import IO, Any, Iterator, Union

from .errors import MnssdError

NO_ROOM = 1 << 16
"""Bytes left on a disk below which what could not be written had no room."""


@contextlib.contextmanager
def replacing(path: Union[str, Path], mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes the place of `path` when the ``with`` block ends well, else leaves no trace.

    It is written under a temporary name beside `path`, synced to the disk, renamed, and the folder synced.

    Parameters
    ----------
    path : str or Path
    mode : str
        ``'w'`` for text in UTF-8, ``'wb'`` for bytes.

    Raises
    ------
    OSError
        From the system, as when the disk is full; `path` is then as it was.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with open(unfinished, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        put_in_place(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()


def put_in_place(unfinished: Path, path: Path) -> None:
    """Let a file that has been written take the place of `path`: on the disk, not only on the way there."""
    _sync(unfinished)
    os.replace(unfinished, path)
    _sync(path.parent)


def _sync(place: Path) -> None:
    number = os.open(place, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def why_not_written(error: Exception, folder: Path) -> str:
    """The reason in words, also where MXNet, whose own message names none, was the one that wrote."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if folder.is_dir() and shutil.disk_usage(folder).free < NO_ROOM:
        return os.strerror(errno.ENOSPC)
    return (str(error).strip().splitlines() or [repr(error)])[-1]


def write_whole(path: Union[str, Path], content: bytes) -> None:
    """Write `content` to `path` as `replacing` does.

    Raises
    ------
    MnssdError
        When it cannot be written; it names the file.
    """
    try:
        with replacing(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise MnssdError(
            f"{path}: cannot be written ({error.strerror}); what was there before is unchanged"
        ) from error
