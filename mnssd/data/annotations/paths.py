"""Paths of the images that annotations name, restricted to the dataset's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set, Union

from ..dataset import Dataset
from ..image import IMAGE_ENDINGS
from .annotation import AnnotationError

MAX_BYTES = 2 << 30
"""Size limit of one annotation file; COCO 2017's largest has 0.5 GB."""


def resolve_inside(root: Union[str, Path], base: Path, name: str) -> Optional[str]:
    """Path of an existing file that a dataset names.

    Parameters
    ----------
    root : str or Path
        Folder of the dataset. Neither ``..``, an absolute path nor a symbolic link may leave it.
    base : Path
        Folder that `name` is relative to.
    name : str

    Returns
    -------
    str or None
        None if there is no such file.

    Raises
    ------
    AnnotationError
        If the file is outside of `root`.
    """
    path = os.path.join(base, name)
    try:
        exists = os.path.isfile(path)
    except (OSError, ValueError):
        exists = False
    if exists and not is_inside(path, root):
        raise AnnotationError(f"{name!r} is outside of the dataset's folder", "image-outside")
    return path if exists else None


def is_inside(path: Union[str, Path], root: Union[str, Path]) -> bool:
    """Whether a path is in a folder after symbolic links have been resolved."""
    real_root = os.path.realpath(root)
    return os.path.commonpath([os.path.realpath(path), real_root]) == real_root


class ImageFinder:
    """Finds the images that annotations name.

    Parameters
    ----------
    root : Path
        Folder of the dataset, see `resolve_inside`.
    bases : sequence of Path
        Folders that names may be relative to, by preference; those that do not exist are ignored.
    """

    def __init__(self, root: Path, bases: Sequence[Path]) -> None:
        self._root = os.path.realpath(root)
        self._bases: List[Path] = list(dict.fromkeys(base for base in bases if base.is_dir()))

    def find(self, name: str) -> str:
        """Path of an image by its name; raises AnnotationError if there is none in the dataset's folder."""
        if not name or "\0" in name or len(name) > 4096:
            raise AnnotationError("invalid image name", "image-missing")
        for base in self._bases:
            path = resolve_inside(self._root, base, name.replace("\\", "/"))
            if path is not None:
                self._bases.remove(base)  # the other images are usually in the same folder
                self._bases.insert(0, base)
                return path
        raise self._missing(repr(name))

    def find_stem(self, stem: str) -> str:
        """Path of an image by its name without ending; raises AnnotationError as `find` does."""
        for ending in (*IMAGE_ENDINGS, *(ending.upper() for ending in IMAGE_ENDINGS)):
            try:
                return self.find(stem + ending)
            except AnnotationError:
                continue
        raise self._missing(f"{stem}{IMAGE_ENDINGS[0]} (or another image ending)")

    def _missing(self, name: str) -> AnnotationError:
        bases = ", ".join(map(str, self._bases[:3]))
        return AnnotationError(f"no image {name} in {bases}", "image-missing")


def unique_ids(names: Sequence[str]) -> Dict[str, str]:
    """File names to image ids: without folder and ending if the ids are then unique, else without ending."""
    stems = {name: os.path.splitext(os.path.basename(name.replace("\\", "/")))[0] for name in names}
    if len(set(stems.values())) == len(stems):
        return stems
    return {name: os.path.splitext(name.replace("\\", "/"))[0] for name in names}


def images_below(root: Path) -> Set[str]:
    """Real paths of all images in a folder and its subfolders."""
    paths: List[str] = []
    for folder, _, names in os.walk(root):
        paths += [os.path.join(folder, name) for name in names if name.lower().endswith(IMAGE_ENDINGS)]
    return {os.path.realpath(path) for path in paths}


def referenced_files(parts: Mapping[str, Dataset]) -> Set[str]:
    """Real paths of the images of all lists, and of the files with a finding."""
    images = {os.path.realpath(sample.image_path) for dataset in parts.values() for sample in dataset}
    return images | {os.path.realpath(finding.file) for data in parts.values() for finding in data.findings}
