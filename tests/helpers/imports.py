"""Importing damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from mnssd.errors import ImportedFileError
from mnssd.importers.families import family_of


def outcome(path: Path, named: Optional[Path] = None) -> Optional[bool]:
    """None if a file is read, else whether the refusal names it, or `named`."""
    try:
        family_of(str(path)).read(str(path)).check(str(path))
    except ImportedFileError as error:
        return str(named or path) in str(error)
    return None
