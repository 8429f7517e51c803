"""Files beside CSV tables that give their classes names: ``name,id`` or, as OpenImages, ``/m/01abc,Name``."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .annotation import BoxError
from .text_files import CLASSES_FILE, class_name, open_text, read_classes

_FILE = re.compile(r"(?i)(?!.*(count|stat|hist|weight)).*(class|label|categor).*\.(csv|tsv)")
_CODE = re.compile(r"/[a-z]/\w+|n\d{8}")  # of Freebase (OpenImages) and WordNet (ImageNet)
_NUMBER = re.compile(r"(\d+)(\.0+)?")


class ClassNames(NamedTuple):
    """Names of the classes of a table.

    Attributes
    ----------
    declared : tuple of str
        In the order of their numbers.
    by_number : dict of int to str
    by_code : dict of str to str
        Other texts for classes, such as OpenImages' ``/m/01abc``.
    """

    declared: Tuple[str, ...]
    by_number: Mapping[int, str]
    by_code: Mapping[str, str]

    def has_numbers(self, names: Iterable[str]) -> bool:
        """Whether the classes of a table are numbers of these, rather than their names."""
        used = {name for name in names if name}
        return bool(self.by_number and used) and all(
            _NUMBER.fullmatch(name) and name not in self.declared for name in used
        )

    def name_of(self, text: str, is_number: bool) -> str:
        """Name of the class that a table calls `text`; raises BoxError if it is a number without a name."""
        match = _NUMBER.fullmatch(text) if is_number else None
        if match is None:
            return self.by_code.get(text, text)
        name = self.by_number.get(int(match[1]), "")
        if not name:
            raise BoxError("class-unknown", f"class {text} has no name in the list of classes")
        return name


def read_class_names(folders: Sequence[Path]) -> ClassNames:
    """Names in the first class files of the folders: a table of two columns, else ``classes.txt``."""
    declared: Tuple[str, ...] = ()
    by_number: Dict[int, str] = {}
    by_code: Dict[str, str] = {}
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.glob("*")):
            rows = _two_columns(path) if _FILE.fullmatch(path.name) and path.is_file() else None
            numbers = _numbers(rows) if rows else None
            if numbers:
                by_number = by_number or numbers
            elif rows:
                by_code.update(row for row in rows if _CODE.fullmatch(row[0]))
    if by_number:
        return ClassNames(tuple(by_number[number] for number in sorted(by_number)), by_number, by_code)
    for folder in dict.fromkeys(folders):
        declared = declared or read_classes(folder / CLASSES_FILE)
    return ClassNames(declared, dict(enumerate(declared)), by_code)


def _two_columns(path: Path) -> Optional[List[Tuple[str, str]]]:
    """Rows of a file of two columns; None if it has other rows."""
    with open_text(path, "a table of classes") as file:
        first = file.readline()
        file.seek(0)
        separator = next((sign for sign in ",;\t" if sign in first), ",")
        rows: List[Tuple[str, str]] = []
        try:
            for words in csv.reader(file, delimiter=separator):
                cells = [class_name(word) for word in words]
                if any(cells):
                    if len(cells) != 2 or not all(cells):
                        return None
                    rows.append((cells[0], cells[1]))
        except csv.Error:
            return None
    return rows


def _numbers(rows: Sequence[Tuple[str, str]]) -> Dict[int, str]:
    """Names by number if one column, perhaps after a header, has numbers; otherwise empty."""
    for column in (1, 0):
        for start in (0, 1):
            body = rows[start:]
            if body and all(_NUMBER.fullmatch(row[column]) for row in body):
                return {int(float(row[column])): row[1 - column] for row in body}
    return {}
