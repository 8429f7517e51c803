"""Errors that a copy of a dataset inherits: boxes or images that could not be taken over.

A copy contains what could be read, so its own files do not show what is missing. These errors are kept in a
file beside them, and reported whenever the copy is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterable, List

from ..errors import DataError
from ..files import write_json
from .findings import ERROR, KINDS, SKIPPED_CODES, Finding

UNFIXED_FILE = "errors-of-the-original.json"
_ABOUT = (
    "Errors of the dataset that this is a copy of. Correct them there and copy it again, or correct them "
    "here and delete this file."
)


def write_unfixed(folder: Path, findings: Iterable[Finding]) -> int:
    """Write the errors that the copy itself does not show to `UNFIXED_FILE`; returns their number.

    Images that are not in the copy do no harm there, and boxes outside of their images are written as such.
    """
    shown = (*SKIPPED_CODES, "image-unreadable", "image-without-name", "image-without-id", "box-outside")
    errors = [finding for finding in findings if finding.level == ERROR and finding.code not in shown]
    if errors:
        write_json(folder / UNFIXED_FILE, {"about": _ABOUT, "errors": [f.as_dict() for f in errors]})
    return len(errors)


def read_unfixed(folder: Path) -> List[Finding]:
    """Findings about the errors in the `UNFIXED_FILE` of a dataset; empty if it has none."""
    path = folder / UNFIXED_FILE
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["errors"]
        return [_finding(path, entry) for entry in entries]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); restore it, or check the original dataset") from error


def _finding(path: Path, entry: object) -> Finding:
    if not isinstance(entry, dict):
        raise TypeError("expected objects")
    kind = KINDS.get(entry["code"])
    place = ", ".join(filter(None, (entry["file"], entry["where"])))
    details = ": ".join(filter(None, (kind.headline if kind else entry["code"], place, entry["text"])))
    return Finding("not-fixed", str(path), "", details if entry["code"] != "not-fixed" else entry["text"])
