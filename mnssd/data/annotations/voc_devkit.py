"""The Pascal VOC devkit: its folders by year, and the names of its lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Tuple

from ...errors import OptionError


def year_folders(root: Path) -> List[Path]:
    """Folders such as ``VOC2007`` in the devkit."""
    return sorted(path for path in root.glob("VOC[12][0-9][0-9][0-9]") if path.is_dir())


def parse_splits(splits: str) -> List[Tuple[str, str]]:
    """Years and lists of ``2007_trainval+2012_trainval``; raises OptionError if it is malformed."""
    years = []
    for part in splits.split("+"):
        match = re.fullmatch(r"([0-9]{4})_([\w.-]+)", part.strip())
        if match is None:
            example = "2007_trainval+2012_trainval"
            raise OptionError(f"splits {splits!r}: expected YEAR_LIST joined by '+', as in {example}")
        years.append((match[1], match[2]))
    return years


def missing_year(root: Path, year: str) -> str:
    """Message that the folder `year`, such as ``VOC2007``, is missing in `root`."""
    for folder in (root.parent, root / "VOCdevkit", root.parent / "VOCdevkit"):
        if (folder / year).is_dir():
            return f"{root}: no {year} here, but in {folder}; set --data-root to that folder"
    problem = f"no {year} here" if root.is_dir() else "no such folder"
    return (
        f"{root}: {problem}; set --data-root to the folder VOCdevkit, which contains VOC2007 and VOC2012, or "
        "add --download to download the official archives into it"
    )
