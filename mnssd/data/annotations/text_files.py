"""Text files of datasets: UTF-8 or, with a byte order mark, UTF-16, and with a limit on their size."""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
from pathlib import Path
from typing import IO, Iterator, List, Mapping, Tuple

from ...errors import DataError
from ...files import write_text
from ..dataset import Dataset

CLASSES_FILE = "classes.txt"

MAX_BYTES = 2 << 30
"""Size limit of a file with the annotations of a list; COCO 2017's largest has 0.5 GB."""

MAX_ANNOTATION_BYTES = 16 << 20
"""Size limit of a file with the annotation of one image; VOC's largest has 15 kB."""


_INVISIBLE = re.compile("[\u200b\u2060\ufeff\ufffe\uffff\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


@contextlib.contextmanager
def open_text(path: Path, content: str, limit: int = MAX_BYTES, errors: str = "strict") -> Iterator[IO[str]]:
    """Open a text file for reading; `content` says what it should contain, for messages.

    `errors` is that of `open`; files that name other files are read with `NAME_ERRORS`.
    Raises DataError, also inside the ``with`` block, if the file is larger than `limit` bytes, unreadable or
    not text.
    """
    try:
        if path.stat().st_size > limit:
            hint = "; split it into several lists" if limit == MAX_BYTES else ""
            raise DataError(f"{path}: larger than {limit >> 20} MiB, too large for {content}{hint}")
        with open(path, "rb") as file:
            start = file.read(4)
        encoding = encoding_of(start)
        errors = errors if encoding.startswith("utf-8") else "strict"
        with open(path, encoding=encoding, errors=errors, newline="") as text:
            yield text
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path}: cannot be read as {content} ({reason}){hint}") from error


def encoding_of(start: bytes) -> str:
    """Encoding of a file by its first four bytes: UTF-8, or UTF-16, also without a byte order mark."""
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-32" if start == codecs.BOM_UTF32_LE else "utf-16"
    zeros = [position for position, byte in enumerate(start) if not byte]
    return "utf-16-le" if zeros == [1, 3] else "utf-16-be" if zeros == [0, 2] else "utf-8-sig"


def read_lines(
    path: Path, content: str, limit: int = MAX_BYTES, errors: str = "strict"
) -> List[Tuple[int, str]]:
    """Lines that are not blank, stripped, with their numbers; arguments and errors as of `open_text`."""
    with open_text(path, content, limit, errors) as file:
        return [(number, line.strip()) for number, line in enumerate(file, 1) if line.strip()]


def class_name(value: object) -> str:
    """A class name on one line: line breaks and repeated spaces become one space.

    Characters without width are removed and accents composed (NFC), so that names that look alike are equal.
    """
    visible = _INVISIBLE.sub("", str(value))
    return " ".join(unicodedata.normalize("NFC", visible).split())


def read_classes(path: Path) -> Tuple[str, ...]:
    """Class names in a file, one per line; empty if the file does not exist.

    A blank line before the last name is an empty name, so that the numbers of the other classes stay.
    """
    if not path.is_file():
        return ()
    names: List[str] = []
    for number, name in read_lines(path, "class names"):
        names += [""] * (number - 1 - len(names))
        names.append(class_name(name))
    return tuple(names)


def write_classes(parts: Mapping[str, Dataset], folder: Path) -> None:
    """Write ``classes.txt``: the classes of a dataset, one per line."""
    classes = next(iter(parts.values())).classes
    write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in classes))
