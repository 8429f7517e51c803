"""Files that are there whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any, Iterator, Union

from .errors import MnssdError


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
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()


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
