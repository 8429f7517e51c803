"""Names of the classes of an imported network, from a file of labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from ..errors import ImportedFileError
from .graph import ReadNetwork

_ITEM = re.compile(r"item\s*\{([^{}]*)\}")
_FIELD = re.compile(r"\b(id|name|display_name)\s*:\s*(?:(\d+)|'([^'\n]*)'|\"([^\"\n]*)\")")
_NUMBERED = re.compile(r"(\d+)\s*[:,\s]\s*(.+)")

UNNAMED = ("", "???", "n/a", "background", "__background__")
"""Entries of label files that are no class: gaps in COCO's numbers, and the background."""

MOST_BYTES = 1 << 20
"""A larger file holds no labels."""


class Labels(NamedTuple):
    """Names of classes and their columns in the file's scores."""

    names: List[str]
    columns: List[int]


def read_labels(path: str) -> Dict[int, str]:
    """Names by number: of a ``.pbtxt`` label map, else of a text file with one name per line, from 0 on.

    Lines may begin with the number. Raises ImportedFileError if the file cannot be read or has no names.
    """
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise ImportedFileError(f"{path}: not a file of labels (more than {MOST_BYTES} bytes)")
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ImportedFileError(f"{path}: cannot be read ({error.strerror}); check --labels") from error
    except UnicodeDecodeError as error:
        raise ImportedFileError(f"{path}: not a text file; check --labels") from error
    labels = _label_map(text) if _ITEM.search(text) else _lines(text)
    if not labels:
        raise ImportedFileError(f"{path}: no labels in it; expected one name per line, or a .pbtxt label map")
    return labels


def _label_map(text: str) -> Dict[int, str]:
    labels: Dict[int, str] = {}
    for item in _ITEM.findall(text):
        fields = {key: number or single or double for key, number, single, double in _FIELD.findall(item)}
        name = fields.get("display_name") or fields.get("name")
        if name and fields.get("id", "").isdigit():
            labels[int(fields["id"])] = name
    return labels


def _lines(text: str) -> Dict[int, str]:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.fullmatch(line) for line in lines if line]
    if numbered and all(numbered):
        return {int(match[1]): match[2].strip() for match in numbered if match}
    return dict(enumerate(lines))


def choose_columns(path: Optional[str], read: ReadNetwork) -> Labels:
    """Names of the classes, and the columns of the scores that are theirs.

    Without labels the names are the file's own, else ``class 1`` and so on, by the number of the column.
    Labels that name classes only count from the first column of a class. Columns without a name are left out
    where each has a score of its own (sigmoid); the others of a softmax depend on them.

    Raises
    ------
    ImportedFileError
        If the labels cannot be read, name no column, or are more than there are columns.
    """
    count = read.column_count
    own = [column for column in range(count) if not read.is_detector or column != read.background]
    if path is None:
        return Labels(list(read.names) or [f"class {column}" for column in own], own)
    labels = read_labels(path)
    shift = _shift(path, labels, count, read.background)
    names = {number + shift: name for number, name in labels.items() if name.strip().lower() not in UNNAMED}
    names = {column: names[column] for column in own if column in names}
    if not names:
        raise ImportedFileError(f"{path}: names none of the {count} columns; check --labels")
    if not read.is_detector or read.scores == "softmax":
        names = {column: names.get(column, f"class {column}") for column in own}
    names = _distinct(names)
    return Labels(list(names.values()), list(names))


def _shift(path: str, labels: Dict[int, str], column_count: int, background: Optional[int]) -> int:
    """What to add to the numbers of labels: 1 if they count classes, and the background comes first."""
    last, begins_with_class = max(labels), labels.get(0, "???").strip().lower() not in UNNAMED
    shift = 1 if background == 0 and begins_with_class and last < column_count - 1 else 0
    if last + shift >= column_count + (background not in (0, None)):
        raise ImportedFileError(
            f"{path}: {last + 1} labels for {column_count} columns of scores; check --labels"
        )
    return shift


def _distinct(names: Dict[int, str]) -> Dict[int, str]:
    """Names with the number of the column behind those that occur twice, such as ImageNet's ``crane``."""
    counts: Dict[str, int] = {}
    for name in names.values():
        counts[name] = counts.get(name, 0) + 1
    return {column: name if counts[name] == 1 else f"{name} {column}" for column, name in names.items()}
