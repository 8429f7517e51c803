"""Layouts of YOLO datasets: where the lists and class names are, as several tools arrange them.

Ultralytics and Roboflow write a YAML file, darknet and CVAT ``obj.data`` and ``obj.names``, LabelImg and
Label Studio ``classes.txt``. Labels are beside the images, or in ``labels`` instead of ``images``.
"""

from __future__ import annotations

import os
import posixpath
import re
from itertools import chain, islice
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import NAME_ERRORS
from ..image_files import IMAGE_ENDINGS, image_files_below, names_in
from .paths import is_inside
from .roles import role_of
from .text_files import class_name, read_classes, read_lines
from .yolo_label_files import CLASS_FILES, has_label_files
from .yolo_yaml import class_names, find_description, keypoint_shape, list_places

MAX_PATH = 4096
"""Length of a path; longer ones are not looked for."""

_COMPARED = 200  # images of each list whose label files are looked for to recognize the format


class Layout(NamedTuple):
    """Lists and class names of a dataset.

    Attributes
    ----------
    source : Path
        File that describes the dataset, or its folder.
    names : tuple of str
        Class names by number; empty if there is no file with them.
    lists : dict of str to list
        Folders of images and files that list images, by name of the list.
    bases : list of Path
        Folders that paths in lists may be relative to.
    missing : dict of str to str
        Lists that are named but do not exist: name and path.
    keypoints : (int, int), optional
        ``kpt_shape``; see `yolo_labels.pose_columns`.
    """

    source: Path
    names: Tuple[str, ...]
    lists: Dict[str, List[Path]]
    bases: List[Path]
    missing: Dict[str, str]
    keypoints: Optional[Tuple[int, int]] = None


def read_layout(root: Path) -> Optional[Layout]:
    """Layout of the dataset in a folder; None if nothing there looks like YOLO's files."""
    found = find_description(root) if root.is_dir() else None
    if found is not None:
        path, content = found
        bases = _bases(root, content.get("path"))
        lists, missing = _locate_lists(path, bases, root, list_places(content))
        if not lists and not missing:
            lists = _folder_lists(root)
        names = class_names(path, content) if "names" in content else _read_class_files(root, lists)
        return Layout(path, names, lists, bases, missing, keypoint_shape(path, content))
    darknet = _darknet_description(root)
    if darknet is not None:
        return darknet
    lists = _listed_in_files(root) or _folder_lists(root)
    names = _read_class_files(root, lists)
    images = chain.from_iterable(islice(_images(place), _COMPARED) for place in chain(*lists.values()))
    if (names and (root / "labels").is_dir()) or has_label_files(root, images):
        return Layout(root, names, lists, [root], {})
    return None


def locate(root: Path, bases: Sequence[Path], text: str, role: str = "") -> Optional[Path]:
    """Existing file or folder of the dataset that a description names; None if there is none.

    The first folders of a path may be those of another machine, or of another working directory. The folder
    that tells the role, such as ``test`` of ``../test/images``, is never left out.
    """
    if len(text) > MAX_PATH:
        return None
    if os.path.isabs(text) and os.path.exists(text) and is_inside(text, root):
        return Path(text)
    plain = posixpath.normpath(re.sub("^[A-Za-z]:", "", text.replace("\\", "/")))
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    for start in range(len(parts) + (not parts)):
        rest, dropped = parts[start:], {role_of(part) for part in parts[:start]} - {""}
        if dropped and not any(map(role_of, rest)) and (not role or role in dropped):
            return None
        for base in bases:
            path = _existing(base, rest)
            if path is not None and is_inside(path, root):
                return path
    return None


def _existing(base: Path, parts: Sequence[str]) -> Optional[Path]:
    """The path with the given parts; a part may differ in case if only one entry of the folder matches."""
    path = base.joinpath(*parts)
    try:
        if path.exists():
            return path
        path = base
        for part in parts:
            if not (path / part).exists():
                same = [entry for entry in path.iterdir() if entry.name.casefold() == part.casefold()]
                if len(same) != 1:
                    return None
                part = same[0].name
            path = path / part
    except (OSError, ValueError):
        return None
    return path


def _bases(root: Path, path: object) -> List[Path]:
    """Folders that the paths of a description may be relative to, those of its key ``path`` first."""
    parts = [p for p in str(path or "").replace("\\", "/").split("/") if p not in ("", ".", "..")]
    found = [root.joinpath(*parts[start:]) for start in range(len(parts))]
    return [*(folder for folder in found if folder.is_dir() and is_inside(folder, root)), root]


def _locate_lists(
    source: Path, bases: Sequence[Path], root: Path, places: Dict[str, List[str]]
) -> Tuple[Dict[str, List[Path]], Dict[str, str]]:
    """The lists of a description that exist, and those that do not."""
    lists: Dict[str, List[Path]] = {}
    missing: Dict[str, str] = {}
    for name, parts in places.items():
        role = role_of(name)
        found = [locate(root, bases, part, role) for part in parts]
        existing = [path for path in found if path is not None]
        is_other = not role or re.search("label|mask|anno", name.lower())
        if is_other and not any(path.is_file() or _has_images(path) for path in existing):
            continue
        if existing and len(existing) < len(parts):
            absent = parts[found.index(None)]
            raise DataError(f"{source}: {name} names {absent!r}, which is not in {root}")
        if existing:
            lists[name] = existing
        else:
            missing[name] = ", ".join(parts)
    for name, other in ((a, b) for a in lists for b in lists if a < b and lists[a] == lists[b]):
        if [posixpath.normpath(p) for p in places[name]] != [posixpath.normpath(p) for p in places[other]]:
            raise DataError(f"{source}: {name} and {other} are both {lists[name][0]}; correct their paths")
    inner = {path for paths in lists.values() for path in paths}
    for name, paths in list(lists.items()):  # such as the folder of the folders of the lists
        if not role_of(name) and any(path in other.parents for path in paths for other in inner):
            del lists[name]
    return lists, missing


def _darknet_description(root: Path) -> Optional[Layout]:
    """Layout by darknet's ``obj.data``: lines such as ``train = data/train.txt``."""
    for path in sorted(chain.from_iterable(root.glob(f"{folder}*.data") for folder in ("", "data/", "cfg/"))):
        if not path.is_file() or path.name.startswith("."):
            continue
        pairs = [line.partition("=") for _, line in read_lines(path, "a description") if "=" in line]
        values = {key.strip().lower(): value.strip() for key, _, value in pairs if value.strip()}
        places = {key: [value] for key, value in values.items() if role_of(key)}
        if not places and "names" not in values:
            continue
        lists, missing = _locate_lists(path, [root, path.parent], root, places)
        lists = lists or _listed_in_files(root) or _folder_lists(root)
        file = locate(root, [root, path.parent], values["names"]) if "names" in values else None
        names = read_classes(file) if file is not None and file.is_file() else _read_class_files(root, lists)
        count = values.get("classes", "")
        if count.isdigit() and names and int(count) != len(names):
            raise DataError(f"{path}: classes = {count}, but there are {len(names)} class names; correct one")
        return Layout(path, names, lists, [root, path.parent], missing)
    return None


def _listed_in_files(root: Path) -> Dict[str, List[Path]]:
    """Text files with paths of images, such as ``train.txt``, by name; empty if none is for training."""
    files = sorted(path for folder in (root, root / "data") for path in folder.glob("*.txt"))
    lists = {path.stem: [path] for path in files if role_of(path.stem) and _lists_images(path)}
    return lists if any(role_of(name) == "train" for name in lists) else {}


def _lists_images(path: Path) -> bool:
    try:
        lines = read_lines(path, "a list of images", errors=NAME_ERRORS)
    except DataError:
        return False
    return bool(lines) and os.path.splitext(lines[0][1])[1].lower() in IMAGE_ENDINGS


def _folder_lists(root: Path) -> Dict[str, List[Path]]:
    """Folders of images in ``images`` or in the dataset's folder, by name; else all images as one list."""
    for folder in (root / "images", root):
        entries = [folder / name for name in names_in(folder)]
        folders = [path for path in entries if path.is_dir() and role_of(path.name) and _has_images(path)]
        if folders:
            return {path.name: [path] for path in folders}
    for folder in (root / "images", root):
        if folder.is_dir() and _has_images(folder):
            return {"all": [folder]}
    return {}


def _read_class_files(root: Path, lists: Dict[str, List[Path]]) -> Tuple[str, ...]:
    """Class names in ``classes.txt``, ``obj.names`` and the like; DataError if such files disagree."""
    folders = [root, *(root / name for name in ("labels", "data", "cfg"))]
    for place in chain(*lists.values()):
        folder = place if place.is_dir() else place.parent
        folders += [folder, folder / "labels", *_labels_beside(root, folder)]
    found: Dict[Path, Tuple[str, ...]] = {}
    for folder in dict.fromkeys(folders):
        for path in (folder / name for name in names_in(folder)):
            is_named = path.name.lower() in CLASS_FILES or path.suffix.lower() == ".names"
            if is_named and not path.name.startswith(".") and path.is_file() and is_inside(path, root):
                found[path] = read_classes(path)
    if not found:
        return ()
    longest = max(found, key=lambda path: len(found[path]))
    for path, names in found.items():
        if names != found[longest][: len(names)]:
            raise DataError(f"{path} and {longest} have different class names; delete or rename one of them")
    return tuple(map(class_name, found[longest]))


def _labels_beside(root: Path, folder: Path) -> Iterator[Path]:
    """Folder ``labels`` instead of ``images``, for a folder in the dataset's folder."""
    parts = Path(os.path.relpath(folder, root)).parts
    if "images" in parts:
        index = parts.index("images")
        yield root.joinpath(*parts[:index], "labels", *parts[index + 1 :])
        yield root.joinpath(*parts[:index])


def _images(place: Path) -> Iterator[str]:
    """Names of the images of a list, for their stems."""
    if place.is_dir():
        return image_files_below(place)
    return iter([line for _, line in read_lines(place, "a list of images", errors=NAME_ERRORS)])


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and next(image_files_below(folder), None) is not None
