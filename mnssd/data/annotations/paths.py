"""Files of lists, and the images that annotations name, which must be in the dataset's folder."""

from __future__ import annotations

import filecmp
import fnmatch
import os
import re
import unicodedata
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set, Union

from ...files import unescape_name
from ..dataset import Dataset
from ..image_files import IMAGE_ENDINGS, image_files_below, names_in
from .annotation import AnnotationError
from .roles import role_of

_GENERIC = (
    "annotations?|annots?|annos?|anns?|labels?|instances|coco|csv|json|bbox(?:es)?|boxes|objects?|detections?"
    "|gt|dataset|data|images?"
)
_PREFIX, _SUFFIX = (re.compile(p, re.I) for p in (f"^(?:{_GENERIC})[-_. ]+", f"[-_. ]+(?:{_GENERIC})$"))
_ANNOTATION_FOLDER = re.compile("annotations?|annots?|annos?|anns?|labels?|json|csv|coco", re.I)


def find_lists(
    root: Path,
    pattern: str,
    affixes: str,
    list_file: str,
    is_list: Callable[[Path], bool],
    choose: Callable[[List[Path]], List[Path]] = list,
) -> Dict[str, Path]:
    """Annotation files of the lists of a dataset, by the names of the lists.

    These are files that match `pattern`, in any case, and pass `is_list`: in the folder, in ``annotations``
    and folders of similar names, and in folders named after a list, such as ``train``; and `list_file` in any
    folder (Roboflow's layout). `choose` may leave out some of them.

    A list is named after its folder, or after its file without what the regular expression `affixes` matches
    and without words such as ``annotations_`` and ``_coco``. Files that would then have the same name keep
    those words; of files with the same content, one is used.
    """
    folders = _subfolders(root)
    general = [folder for folder in folders if _ANNOTATION_FOLDER.fullmatch(folder.name)]
    names: Dict[Path, str] = {}  # short names
    for folder in (root, *general):
        for path in _matching(folder, pattern, is_list):
            names[path] = _short_name(path.stem, affixes)
    by_role = [folder for parent in general for folder in _subfolders(parent)] + folders
    for folder in (folder for folder in by_role if role_of(folder.name)):
        inner = [inner for inner in _subfolders(folder) if _ANNOTATION_FOLDER.fullmatch(inner.name)]
        for path in (path for place in (folder, *inner) for path in _matching(place, pattern, is_list)):
            name = _short_name(path.stem, affixes)
            agrees = path.name == list_file or role_of(name) in ("", role_of(folder.name))
            names[path] = folder.name if agrees else f"{folder.name}_{name}"
    names.update({folder / list_file: folder.name for folder in folders if (folder / list_file).is_file()})
    return _with_unique_names(root, {path: names[path] for path in choose(list(names))})


def _subfolders(folder: Path) -> List[Path]:
    return [
        folder / name for name in names_in(folder) if not name.startswith(".") and (folder / name).is_dir()
    ]


def _matching(folder: Path, pattern: str, is_list: Callable[[Path], bool]) -> List[Path]:
    """Files in a folder, without hidden ones and those that macOS writes beside them (``._train.json``)."""
    wanted = [
        n for n in names_in(folder) if fnmatch.fnmatchcase(n.lower(), pattern) and not n.startswith(".")
    ]
    return [path for path in (folder / name for name in wanted) if path.is_file() and is_list(path)]


def _short_name(stem: str, affixes: str) -> str:
    """Name of a list: that of its file without general words; these alone are kept."""
    name, before = re.sub(affixes, "", stem, flags=re.I).strip("-_. ") or stem, ""
    while name != before:
        before = name
        name = _SUFFIX.sub("", _PREFIX.sub("", name))
    return stem.strip("-_. ") or stem if re.fullmatch(_GENERIC, name, re.I) else name


def _with_unique_names(root: Path, names: Mapping[Path, str]) -> Dict[str, Path]:
    """Files by short name, or where several have the same, by their full names."""
    groups: Dict[str, List[Path]] = {}
    for path, name in names.items():
        group = groups.setdefault(name, [])
        if not any(filecmp.cmp(path, other, shallow=False) for other in group):
            group.append(path)
    files: Dict[str, Path] = {}
    for name, group in groups.items():
        stems = {path.stem for path in group}
        for path in group:
            unique = os.path.splitext("_".join(path.relative_to(root).parts))[0]
            full = path.stem if len(stems) == len(group) else unique
            own = name if len(group) == 1 else full
            files[own if own not in files else unique] = path
    return files


def resolve_inside(root: Union[str, Path], base: Path, name: str) -> Optional[str]:
    """Path of an existing file that a dataset names, relative to `base`; None if there is no such file.

    Raises AnnotationError if ``..``, an absolute path or a symbolic link leads out of `root`, the dataset's
    folder.
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
    """Finds the images that annotations name, in the dataset's folder `root`; see `resolve_inside`.

    Names may be relative to `bases`, by preference; those that do not exist are ignored. A name with another
    folder, such as an absolute path of the machine where it was written, is found by its last parts if they
    are unique below `root`. Images in folders of another list than `split` are then left out.
    """

    def __init__(self, root: Path, bases: Sequence[Path], split: str = "") -> None:
        self._root = os.path.realpath(root)
        self._bases: List[Path] = list(dict.fromkeys(base for base in bases if base.is_dir()))
        self._role = role_of(split)

    @classmethod
    def for_list(cls, root: Path, path: Path, split: str) -> ImageFinder:
        """Finder with the usual folders of images for the list `split` with the annotation file `path`."""
        folders = ("", "images", split, f"images/{split}")
        years = (f"{split}2017", f"{split}2014", f"images/{split}2017")  # COCO's own
        return cls(root, [*(root / f for f in folders), path.parent, *(root / f for f in years)], split)

    def find(self, name: str) -> str:
        """Path of an image by its name; raises AnnotationError if there is none in the dataset's folder."""
        if not name or "\0" in name or len(name) > 4096:
            raise AnnotationError("invalid image name", "image-missing")
        plain = name.replace("\\", "/")
        composed, decomposed = unicodedata.normalize("NFC", plain), unicodedata.normalize("NFD", plain)
        for variant in dict.fromkeys((name, plain, unescape_name(plain), composed, decomposed)):
            path = self._find_relative(variant)
            if path is not None:
                return path
        path = self._find_unique(self._images_by_name, unescape_name(plain))
        if path is None:
            raise self._missing(repr(name))
        return path

    def find_stem(self, stem: str) -> str:
        """Path of an image by its name without ending; raises AnnotationError as `find` does."""
        for ending in (*IMAGE_ENDINGS, *(ending.upper() for ending in IMAGE_ENDINGS)):
            path = self._find_relative(stem + ending)
            if path is not None:
                return path
        path = self._find_unique(self._images_by_stem, stem)
        if path is None:
            raise self._missing(f"{stem}{IMAGE_ENDINGS[0]} (or another image ending)")
        return path

    def _find_relative(self, name: str) -> Optional[str]:
        for base in self._bases:
            path = resolve_inside(self._root, base, name)
            if path is not None:
                self._bases.remove(base)  # the other images are usually in the same folder
                self._bases.insert(0, base)
                return path
        return None

    def _find_unique(self, index: Mapping[str, List[str]], name: str) -> Optional[str]:
        """The image with the same last name, and of several the one whose folders agree longest."""
        if ".." in name.split("/"):
            return None
        paths = index.get(_key(name.rpartition("/")[2]), [])
        folders = [_key(folder) for folder in reversed(name.split("/")[:-1])]
        for depth, folder in enumerate(folders, 2):
            if len(paths) > 1:
                paths = [path for path in paths if _key(path.split(os.sep)[-depth]) == folder] or paths
        if len(paths) > 1:
            raise AnnotationError(f"several images {name!r}: {paths[0]}, {paths[1]}", "image-missing")
        return paths[0] if paths else None

    @cached_property
    def _images_by_name(self) -> Dict[str, List[str]]:
        """Paths of the images in the dataset's folder, without those of other lists."""
        index: Dict[str, List[str]] = {}
        for path in sorted(images_below(Path(self._root))):
            folders = os.path.relpath(path, self._root).split(os.sep)[:-1]
            roles = {role_of(folder) for folder in folders} - {""}
            if ".." in folders:  # a symbolic link that leads out of the dataset's folder
                continue
            if not self._role or not roles or self._role in roles:
                index.setdefault(_key(os.path.basename(path)), []).append(path)
        return index

    @cached_property
    def _images_by_stem(self) -> Dict[str, List[str]]:
        index: Dict[str, List[str]] = {}
        for name, paths in self._images_by_name.items():
            index.setdefault(os.path.splitext(name)[0], []).extend(paths)
        return index

    def _missing(self, name: str) -> AnnotationError:
        bases = ", ".join(map(str, self._bases[:3]))
        return AnnotationError(f"no image {name} in {bases}", "image-missing")


def _key(name: str) -> str:
    """A file name in one Unicode form and case, and without outer spaces, which lists and tables drop."""
    return unicodedata.normalize("NFC", name).casefold().strip()


def image_stem(name: str) -> str:
    """File name of an image without folder and ending."""
    return os.path.splitext(os.path.basename(name.replace("\\", "/")))[0]


def unique_ids(names: Sequence[str]) -> Dict[str, str]:
    """File names to image ids: without folder and ending if the ids are then unique, else without ending.

    Names that differ in their ending only are the ids themselves.
    """
    stems = {name: image_stem(name) for name in names}
    if len(set(stems.values())) == len(stems):
        return stems
    paths = {name: os.path.splitext(name.replace("\\", "/"))[0] for name in names}
    counts = Counter(paths.values())
    return {name: path if counts[path] == 1 else name.replace("\\", "/") for name, path in paths.items()}


def images_below(root: Path) -> Set[str]:
    """Real paths of all images in a folder and its subfolders; see `image_files.is_image_file`."""
    return {os.path.realpath(path) for path in image_files_below(root)}


def referenced_files(parts: Mapping[str, Dataset]) -> Set[str]:
    """Real paths of the images of all lists, and of the files with a finding."""
    images = {os.path.realpath(sample.image_path) for dataset in parts.values() for sample in dataset}
    return images | {os.path.realpath(finding.file) for data in parts.values() for finding in data.findings}
