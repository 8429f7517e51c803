"""Label files of YOLO datasets: which text file belongs to which image."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Set, Union

from ...errors import DataError
from ..image_files import files_below, image_files_below
from .annotation import AnnotationError
from .paths import is_inside
from .roles import role_of
from .text_files import MAX_ANNOTATION_BYTES, read_lines
from .yolo_labels import looks_like_labels

CLASS_FILES = (
    "classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt", "class_names.txt",
    "names.txt",
)  # fmt: skip
_NO_LABELS = (*CLASS_FILES, "readme.txt", "license.txt", "notes.txt", "requirements.txt")


class LabelFinder:
    """Finds the label files of the images of a list.

    The usual places are ``labels`` instead of ``images`` in the path, and the image's folder. For a folder of
    images without label files there, label files are found by their names anywhere in the dataset's folder if
    the name is unique; not in folders of another list.

    Parameters
    ----------
    root : Path
    images : sequence of str
        Of the list.
    split : str
        Name of the list.
    """

    def __init__(self, root: Path, images: Sequence[str], split: str = "") -> None:
        self._root, self._role = root, role_of(split)
        self._usual = {image: self._in_usual_place(Path(image)) for image in images}
        self._served = {os.path.dirname(image) for image, path in self._usual.items() if path}

    def find(self, image: str) -> Optional[Path]:
        """Label file of an image; None if there is none. Raises AnnotationError if there are several."""
        if self._usual[image] or os.path.dirname(image) in self._served:
            return self._usual[image]
        return self._by_name(image)

    def _in_usual_place(self, image: Path) -> Optional[Path]:
        folders = Path(relative_path(image, self._root)).parts[:-1]
        swapped = [
            [*folders[:index], "labels", *folders[index + 1 :]]
            for index in reversed(range(len(folders)))
            if folders[index].lower() == "images"
        ]
        for parts in (*swapped, folders):
            for ending in (".txt", ".TXT"):
                path = self._root.joinpath(*parts, image.stem + ending)
                if path.is_file() and is_inside(path, self._root):
                    return path
        return None

    def _by_name(self, image: str) -> Optional[Path]:
        paths = self._labels.get(_key(Path(image).stem)) or self._labels.get(
            _key(os.path.basename(image)), []
        )
        roles = self._roles(image) or {self._role} - {""}
        paths = [path for path in paths if not roles or not self._roles(path) or roles & self._roles(path)]
        if len(paths) > 1:
            paths = self._nearest(image, [path for path in paths if _is_label_file(Path(path))] or paths)
        if len(paths) > 1:
            raise AnnotationError(f"several label files for {image}: {paths[0]}, {paths[1]}")
        if not paths:
            return None
        own = self._agreement(image, paths[0])
        for other in self._images.get(_key(Path(image).stem), []):
            if os.path.realpath(other) == os.path.realpath(image) or not self._share_role(other, roles):
                continue
            agreement = self._agreement(other, paths[0])
            if agreement == own:
                raise AnnotationError(f"{paths[0]} may belong to {image} or {other}")
            if agreement > own:
                return None
        return Path(paths[0])

    def _share_role(self, image: str, roles: Set[str]) -> bool:
        return not roles or not self._roles(image) or bool(roles & self._roles(image))

    def _nearest(self, image: str, paths: List[str]) -> List[str]:
        """Those of the paths whose folders agree best with those of the image."""
        best = max(self._agreement(image, path) for path in paths)
        return [path for path in paths if self._agreement(image, path) == best]

    def _agreement(self, image: str, path: str) -> int:
        return len(set(self._folders(image)) & set(self._folders(path)))

    def _folders(self, path: str) -> List[str]:
        return [_key(folder) for folder in relative_path(path, self._root).split(os.sep)[:-1]]

    def _roles(self, path: str) -> Set[str]:
        return {role_of(folder) for folder in self._folders(path)} - {""}

    @cached_property
    def _labels(self) -> Dict[str, List[str]]:
        return _by_stem(path for path in text_files(self._root) if is_inside(path, self._root))

    @cached_property
    def _images(self) -> Dict[str, List[str]]:
        return _by_stem(image_files_below(self._root))


def relative_path(path: Union[str, Path], root: Path) -> str:
    """Path relative to `root`, which may be a symbolic link."""
    relative = os.path.relpath(path, root)
    if relative.startswith(os.pardir):
        return os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    return relative


def text_files(root: Path) -> List[str]:
    """Text files in a folder that may be label files, judged by their names."""
    return [
        path
        for path in files_below(root)
        if path.lower().endswith(".txt")
        and os.path.basename(path).lower() not in _NO_LABELS
        and not os.path.basename(path).startswith("._")
    ]


def has_label_files(root: Path, images: Iterable[str]) -> bool:
    """Whether the first text file in the folder that is named like one of the images has labels."""
    by_stem = _by_stem(text_files(root))
    if not by_stem:
        return False
    found = next((by_stem[stem] for stem in (_key(Path(p).stem) for p in images) if stem in by_stem), [])
    return any(_is_label_file(Path(path)) for path in found)


def no_labels(root: Path, split: str, images: Sequence[str]) -> DataError:
    """Error that no image of a list has a label file, with what there is instead."""
    endings = Counter(os.path.splitext(path)[1].lower() for path in files_below(root))
    other = [e for e in (".txt", ".json", ".xml", ".csv") if endings[e]]
    found = ", ".join(f"{endings[ending]} {ending} files" for ending in other) or "no annotations"
    return DataError(
        f"{root}, list {split}: no label file for any of {len(images)} images; looked for "
        f"{Path(images[0]).stem}.txt in 'labels' instead of 'images', beside the image and elsewhere in the "
        f"folder; found {found}. To leave the list out, name the others with --splits, or "
        "with --train-splits and --val-splits"
    )


def _by_stem(paths: Iterable[str]) -> Dict[str, List[str]]:
    index: Dict[str, List[str]] = {}
    for path in paths:
        index.setdefault(_key(os.path.splitext(os.path.basename(path))[0]), []).append(path)
    return index


def _is_label_file(path: Path) -> bool:
    try:
        lines = [line for _, line in read_lines(path, "labels", MAX_ANNOTATION_BYTES)]
    except DataError:
        return False
    return looks_like_labels(lines)


def _key(name: str) -> str:
    """A file name in one Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()
