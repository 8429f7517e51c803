"""One message for the errors that damaged files cause."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import Iterator

from ..errors import ImportedFileError

PARSING_ERRORS = (
    struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, KeyError, MemoryError,
    AssertionError, RecursionError, ArithmeticError,
)  # fmt: skip


@contextmanager
def refusing(path: str, what: str) -> Iterator[None]:
    """Make one message of the errors of damaged content; `what` names the part of the file."""
    try:
        yield
    except ImportedFileError as error:
        text = str(error)
        if text.startswith(path):
            raise
        named = text if text.startswith(what) else f"{what}: {text}"
        raise ImportedFileError(f"{path}: {named}") from error
    except PARSING_ERRORS as error:
        raise ImportedFileError(f"{path}: {what}: damaged ({error or type(error).__name__})") from error
