"""Atomic writing of files and folders, and names of files as text.

After writing, a path holds the complete new content or what it held before.

On Linux, the name of a file is bytes, usually but not always UTF-8. Python replaces each other byte by one of
the characters U+DC80 to U+DCFF (``surrogateescape``), which UTF-8 cannot encode. Text files get the bytes
themselves (`NAME_ERRORS`), JSON and YAML an escape such as ``\\udce9``, which their libraries write and read,
XML and tables of words that of `escape_name`, and people see `printable`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, Iterator, Match, Pattern, Union
from urllib.parse import unquote

from .errors import MnssdError

NAME_ERRORS = "surrogateescape"
"""How text files with names of files are encoded and decoded: ``errors`` of `open`."""

# Line breaks, terminal controls, and marks that reverse the text after them.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_MAX_NAME = 255  # bytes, on all usual file systems
_TEMPORARY, _OLD = ".unfinished", ".old"
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
        ``'w'`` for UTF-8 text, with names of files as `NAME_ERRORS`; ``'wb'`` for bytes.
    sync : bool
        Flush to the disk before renaming, so that the file also survives a power failure.
    """
    encoding, errors = (None, None) if "b" in mode else ("utf-8", NAME_ERRORS)
    if _is_device(Path(path)):
        with open(path, mode, encoding=encoding, errors=errors) as file:
            yield file
        return
    with atomic_path(path, sync=sync) as temporary, open(
        temporary, mode, encoding=encoding, errors=errors
    ) as file:
        yield file


@contextlib.contextmanager
def atomic_path(path: Union[str, Path], *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder, for code that opens its files itself; see `atomic_write`."""
    path = Path(path)
    ending = f".{os.getpid()}-{threading.get_ident()}{_TEMPORARY}"
    temporary = path.with_name(fit_name(f".{path.name}", ending))
    try:
        yield temporary
        if sync:
            replace_file(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(path: Union[str, Path]) -> None:
    """Raise MnssdError if a file cannot be written; call it before the work whose result it will hold.

    A missing folder is created, the file is not.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise MnssdError(f"{path}: is a folder; give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not _is_device(path):
            check_folder(path.parent)
    except OSError as error:
        raise MnssdError(f"{path}: cannot be written ({error.strerror}); choose another path") from error


def check_folder(folder: Union[str, Path]) -> None:
    """Create a folder unless it exists; raises OSError if it is a file or nothing can be written to it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _is_device(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket, such as ``/dev/stdout``: written to, never replaced."""
    is_link_to_stream = path.is_symlink() and path.parent == Path("/dev")
    return path.exists() and (is_link_to_stream or not (path.is_file() or path.is_dir()))


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


def write_text(path: Union[str, Path], text: str, errors: str = NAME_ERRORS) -> None:
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


def write_yaml(path: Union[str, Path], value: Any) -> None:
    """Write a YAML file atomically, with mappings in their order; see `write_bytes`.

    Text with characters that are not printable gets double quotes: without them PyYAML reads back line breaks
    of Unicode, such as U+0085, as spaces.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        def represent_text(self, text: str) -> Any:
            return self.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"')

    Dumper.add_representer(str, Dumper.represent_text)
    write_text(path, yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True))


@contextlib.contextmanager
def atomic_folder(path: Union[str, Path], *, replace: bool = False) -> Iterator[Path]:
    """Yield a new empty folder of the same name that becomes `path` when the ``with`` block succeeds.

    Missing parent folders are created. If writing fails, `path` is unchanged. Raises OSError if `path` is a
    folder with content, unless `replace`.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    room = " " * 8 + _TEMPORARY + _OLD  # of mkdtemp's random characters and the endings
    prefix = fit_name(f".{path.name}.", room)[: -len(room)]
    scratch = Path(tempfile.mkdtemp(_TEMPORARY, prefix, path.parent))
    try:
        new = scratch / path.name
        new.mkdir()
        yield new
        if replace and path.exists():
            old = path.with_name(scratch.name + _OLD)  # not inside `scratch`, which is deleted
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


def encodable(text: str) -> str:
    """Text that UTF-8 can encode: another byte of the name of a file becomes an escape, ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(name: str) -> str:
    """A name on one line of a terminal: as `encodable`, with escapes for control characters, too."""
    return encodable(_CONTROL.sub(lambda found: ascii(found[0])[1:-1], name))


def escape_name(name: str, unwanted: Pattern[str]) -> str:
    """A name in a format that cannot hold the `unwanted` characters, without change if it has none.

    Their bytes, and ``%`` itself, are percent-encoded as in web addresses; `unescape_name` reads it.
    """

    def encode(found: Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", NAME_ERRORS))

    if not unwanted.search(name):
        return name
    return re.sub(f"%|{unwanted.pattern}", encode, name)


def unescape_name(name: str) -> str:
    """A name whose bytes may be percent-encoded, also those that are not UTF-8."""
    return unquote(name, errors=NAME_ERRORS)


def fit_name(stem: str, ending: str) -> str:
    """`stem` and `ending` as a file name, with as much of the stem as file systems allow."""
    while len(os.fsencode(stem + ending)) > _MAX_NAME:
        stem = stem[:-1]
    return stem + ending


@contextlib.contextmanager
def utf8_path(path: Union[str, Path]) -> Iterator[str]:
    """Yield a path in UTF-8, which is all that MXNet, ONNX Runtime and OpenCV's videos take.

    If `path` has other bytes, it is a temporary symbolic link, through which a new file is created, too.
    """
    text = str(path)
    if encodable(text) == text:
        yield text
        return
    with tempfile.TemporaryDirectory() as folder:
        link = os.path.join(folder, f"file{encodable(os.path.splitext(text)[1])}")
        os.symlink(os.path.abspath(text), link)
        yield link
