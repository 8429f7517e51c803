"""Atomic writing of files and folders: a path holds the complete new content or what it held before."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, Iterator, Union

from .errors import MnssdError

_TEMPORARY = ".unfinished"
_FULL_DISK = 1 << 16
"""Free bytes below which a failed write is put down to a full disk."""


@contextlib.contextmanager
def atomic_write(path: Union[str, Path], mode: str = "w", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file that replaces `path`, in an existing folder, when the ``with`` block succeeds.

    If writing fails, for example because the disk is full, `path` is unchanged.

    Parameters
    ----------
    path : str or Path
    mode : str
        ``'w'`` for UTF-8 text, ``'wb'`` for bytes.
    sync : bool
        Flush to the disk before renaming, so that the file also survives a power failure.
    """
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path, sync=sync) as temporary, open(temporary, mode, encoding=encoding) as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: Union[str, Path], *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder, for code that opens its files itself; see `atomic_write`."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{_TEMPORARY}")
    try:
        yield temporary
        if sync:
            replace_file(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def replace_file(source: Path, path: Path) -> None:
    """Rename `source` to `path`, with file and folder flushed to the disk."""
    _sync(source)
    os.replace(source, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Union[str, Path], content: bytes) -> None:
    """Write a file atomically; raises MnssdError, which names the file, if it cannot be written."""
    try:
        with atomic_write(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise MnssdError(f"{path}: cannot be written ({error.strerror}); earlier content is kept") from error


def write_text(path: Union[str, Path], text: str, errors: str = "strict") -> None:
    """Write a UTF-8 text file atomically; see `write_bytes`. `errors` is that of `str.encode`."""
    write_bytes(path, text.encode("utf-8", errors))


def write_json(path: Union[str, Path], value: Any) -> None:
    """Write a JSON file atomically, creating its folder if it is missing; see `write_bytes`."""
    text = json.dumps(value, indent=2) + "\n"
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MnssdError(f"{path}: cannot be written ({error.strerror})") from error
    write_text(path, text)


@contextlib.contextmanager
def atomic_folder(path: Union[str, Path], *, replace: bool = False) -> Iterator[Path]:
    """Yield a new empty folder of the same name that becomes `path` when the ``with`` block succeeds.

    Missing parent folders are created. If writing fails, `path` is unchanged. Raises OSError if `path` is a
    folder with content, unless `replace`.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(_TEMPORARY, f".{path.name}.", path.parent))
    try:
        new = scratch / path.name
        new.mkdir()
        yield new
        if replace and path.exists():
            old = path.with_name(f"{scratch.name}.old")  # not inside `scratch`, which is deleted
            path.rename(old)
            try:
                new.rename(path)
            except OSError:
                old.rename(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            new.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_temporary(path: Path) -> bool:
    """Whether the functions above created `path` and were killed before they could rename it."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


def write_error_reason(error: Exception, folder: Path) -> str:
    """Why a write to `folder` failed, even if MXNet did the writing and its message gives no reason."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if folder.is_dir() and shutil.disk_usage(folder).free < _FULL_DISK:
        return os.strerror(errno.ENOSPC)
    return (str(error).strip().splitlines() or [repr(error)])[-1]
