"""Files that a dataset's own files name: inside its folder, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Set

from ..dataset import Dataset
from ..image import IMAGE_ENDINGS
from .annotation import AnnotationError

MAX_BYTES = 2 << 30
"""Of one file of annotations; COCO 2017's has 0.5 GB."""


class Images:
    """Finds the images that annotations name, below one folder.

    Parameters
    ----------
    root : Path
        No path that is given leads out of it, neither by ``..``, nor as an absolute one, nor by a link.
    bases : sequence of Path
        Folders that names may be relative to, by preference.
    """

    def __init__(self, root: Path, bases: Sequence[Path]) -> None:
        self._root = os.path.realpath(root)
        self._bases: List[Path] = list(dict.fromkeys(bases))

    def find(self, name: str) -> str:
        """The path of an image by its name.

        Raises
        ------
        AnnotationError
            When there is none inside the folder.
        """
        if not name or "\0" in name or len(name) > 4096:
            raise AnnotationError("it names no image", "image-missing")
        plain = name.replace("\\", "/")
        for base in self._bases:
            path = os.path.join(base, plain)
            try:
                there = os.path.isfile(path)
            except (OSError, ValueError):
                there = False
            if there:
                if not self._is_inside(path):
                    raise AnnotationError(f"{name!r} leads out of the dataset's folder", "image-outside")
                self._bases.remove(base)  # the others are there, too, as a rule
                self._bases.insert(0, base)
                return path
        raise AnnotationError(
            f"there is no image {name!r} in {', '.join(map(str, self._bases[:3]))}", "image-missing"
        )

    def of(self, stem: str) -> str:
        """The path of an image by its name without ending; raises AnnotationError as `find`."""
        for ending in (*IMAGE_ENDINGS, *(ending.upper() for ending in IMAGE_ENDINGS)):
            try:
                return self.find(stem + ending)
            except AnnotationError:
                continue
        raise AnnotationError(
            f"there is no image {stem}.jpg or the like in {', '.join(map(str, self._bases[:3]))}",
            "image-missing",
        )

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return os.path.commonpath([real, self._root]) == self._root


def unique_ids(names: Sequence[str]) -> Dict[str, str]:
    """By file name the image id: without folders and ending where those tell no images apart."""
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
