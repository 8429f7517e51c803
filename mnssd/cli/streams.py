"""Standard output and errors of a command whose reader goes away, as in ``mnssd detect ... | head -1``."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import Any, Iterator, Optional, TextIO, cast


class _Stream:
    """A text stream; once its reader has gone, what is printed is dropped.

    The first such print raises BrokenPipeError, which ends the command, unless `keep_going`. The error of
    output that cannot be written for another reason, such as a full disk, is then kept in `error`.
    """

    def __init__(self, stream: TextIO, keep_going: bool) -> None:
        self._stream, self.keep_going = stream, keep_going
        self.error: Optional[OSError] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._without_reader():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._without_reader():
            self._stream.flush()

    @contextlib.contextmanager
    def _without_reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            drop(self._stream)
            if not self.keep_going:
                raise
        except OSError as error:
            drop(self._stream)
            if not self.keep_going:
                raise
            error.filename = "standard output"
            self.error = error


class _NoteHandler(logging.Handler):
    """Prints log records as notes on the stderr of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"note: {record.getMessage()}", file=sys.stderr)


def show_notes() -> None:
    """Print what these packages log, such as the engine that ``auto`` chose."""
    for name in ("mnssd.export", "mnssd.bench", "mnssd.runtime"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, _NoteHandler) for handler in logger.handlers):
            logger.addHandler(_NoteHandler())


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Replace sys.stdout and sys.stderr by streams whose readers may go away, and that can print any text.

    A stream that was closed from the start (``>&-``) is replaced by the null device: otherwise the next file
    that is opened would get its number, and what libraries print would end up in that file.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _guard(before[0], 1, keep_going=False), _guard(before[1], 2, keep_going=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _guard(stream: Any, number: int, keep_going: bool) -> TextIO:
    if isinstance(stream, _Stream):  # a command that runs another
        return cast(TextIO, stream)
    if stream is None:
        stream = _null_stream(number)
    if isinstance(stream, io.TextIOWrapper):
        # What the terminal cannot show, such as other bytes of file names, becomes an escape: \\udce9.
        stream.reconfigure(errors="backslashreplace")
    return cast(TextIO, _Stream(stream, keep_going))


def _null_stream(number: int) -> TextIO:
    """The null device, with the number of a standard stream if that is free."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(number)
    except OSError:
        os.dup2(null, number)
    return os.fdopen(null, "w")


def keep_going_without_reader() -> None:
    """Let the command run to its end when nobody reads its output, because it writes files, too."""
    stream: Any = sys.stdout
    if isinstance(stream, _Stream):
        stream.keep_going = True


def check_output() -> None:
    """Raise the OSError of standard output that could not be written, although the command has gone on."""
    stream: Any = sys.stdout
    if isinstance(stream, _Stream) and stream.error:
        raise stream.error


def drop(stream: TextIO) -> None:
    """Send a stream to the null device, also its buffer, which would fail again when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
