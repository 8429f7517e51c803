"""YAML descriptions of YOLO datasets, such as ``data.yaml``: class names, lists and keypoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml

from ...errors import DataError
from .roles import role_of
from .text_files import MAX_ANNOTATION_BYTES, class_name, open_text, read_classes

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")

OTHER_KEYS = frozenset((
    "path", "names", "nc", "download", "kpt_shape", "flip_idx", "kpt_names", "skeleton", "roboflow",
    "yaml_file", "channels", "task", "author", "date", "version",
    "license", "description", "info", "url", "docs", "links",
    "colors", "images", "labels", "masks_dir", "root", "name", "project", "weights", "model", "cfg", "hyp",
))  # fmt: skip
"""Keys of a description that are no lists of images."""

_ABSENT = ("", "null", "~", "none")
_MAX_NAMES = 100_000


def find_description(root: Path) -> Optional[Tuple[Path, Dict[str, Any]]]:
    """The YAML file in a folder that describes its dataset, and the content; None if there is none.

    Any name will do if the file has class names and lists. Raises DataError for several such files.
    """
    for path in (root / name for name in DESCRIPTIONS):
        if path.is_file():
            content = read_yaml(path)
            if "names" in content or any(map(role_of, content)):
                return path, content
    others = []
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        if path.name in DESCRIPTIONS or path.name.startswith("."):
            continue
        try:
            content = read_yaml(path)
        except DataError:  # not known to be a description
            continue
        if "names" in content and any(map(role_of, content)):
            others.append((path, content))
    if len(others) > 1:
        names = ", ".join(path.name for path, _ in others)
        raise DataError(
            f"{root}: several descriptions of a dataset: {names}; rename one to {DESCRIPTIONS[0]}"
        )
    return others[0] if others else None


def read_yaml(path: Path) -> Dict[str, Any]:
    """Mapping in a YAML file with all values as text: ``off``, ``no`` and ``1`` may be class names."""
    with open_text(path, "a description of the dataset", MAX_ANNOTATION_BYTES) as file:
        text = file.read()
    try:
        content = yaml.load(_with_slashes(text), Loader=yaml.BaseLoader)  # constructs text only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(key, str)}


def _with_slashes(text: str) -> str:
    r"""YAML with slashes in quoted Windows paths, where backslashes would be escapes: ``"C:\new\train"``."""

    def slashes(found: re.Match[str]) -> str:
        return re.sub(r"\\\\|\\(?!uDC[89A-F][0-9A-F])", "/", found[0])  # not escapes of bytes

    text = re.sub(r'(?m)^(?!\s*["\']?names\b)[\w"\'-]+\s*:\s*"[^"\n]*"', slashes, text)
    return re.sub(r'"(?:[A-Za-z]:|\.{1,2})\\[^"\n]*"', slashes, text)


def list_places(content: Dict[str, Any]) -> Dict[str, List[str]]:
    """Paths under each key that may be a list of images."""
    places: Dict[str, List[str]] = {}
    for key, value in content.items():
        parts = value if isinstance(value, list) else [value]
        if key.lower() in OTHER_KEYS or not all(isinstance(part, str) for part in parts):
            continue
        parts = [part.strip() for part in parts if part.strip().lower() not in _ABSENT]
        if parts and not any(re.fullmatch(r"[-+\d.eE%]+", part) and part.strip(".") for part in parts):
            places[key] = parts
    return places


def class_names(path: Path, content: Dict[str, Any]) -> Tuple[str, ...]:
    """Class names by number; a class without a name is empty. Raises DataError if they are invalid."""
    names = content.get("names")
    if isinstance(names, str):
        file = path.parent / names.strip()
        names = list(read_classes(file)) if names.strip() and file.is_file() else names.strip().strip("[]()")
    if isinstance(names, str):
        names = [name.strip().strip("'\"") for name in names.split(",")] if names else []
    count = None
    if isinstance(names, dict):
        count = len(names)
        names = _in_order(path, names)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: 'names' is not a list of class names")
    given = str(content.get("nc", "")).strip()
    if given.isdigit() and int(given) not in (len(names), count):
        raise DataError(
            f"{path}: nc is {given}, but names has {count or len(names)} class names; correct one"
        )
    return tuple(class_name(name) for name in names)


def _in_order(path: Path, names: Dict[Any, Any]) -> List[Any]:
    """Values of a mapping from numbers to names, with empty names for missing numbers."""
    numbered = {
        int(key): name for key, name in names.items() if isinstance(key, str) and key.strip().isdigit()
    }
    if len(numbered) < len(names) or max(numbered, default=0) > _MAX_NAMES:
        raise DataError(f"{path}: the keys of 'names' must be class numbers, such as 0: {DESCRIPTIONS[0]}")
    return [numbered.get(number, "") for number in range(max(numbered, default=-1) + 1)]


def keypoint_shape(path: Path, content: Dict[str, Any]) -> Optional[Tuple[int, int]]:
    """``kpt_shape``: number of keypoints and of values for each; None if it is not given."""
    value = content.get("kpt_shape")
    if value is None or (isinstance(value, str) and value.strip().lower() in _ABSENT):
        return None
    try:
        points, values = (int(number) for number in value)
        if (points > 0 and values in (2, 3)) or points == 0:
            return points, values
    except (TypeError, ValueError):
        pass
    raise DataError(f"{path}: kpt_shape must be [POINTS, 2] or [POINTS, 3], without keypoints [0, 0]")
