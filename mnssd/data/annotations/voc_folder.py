"""Folders of datasets with VOC XML files: the annotations, their images, and the lists of images.

The layout of the devkit is ``JPEGImages/ID.jpg``, ``Annotations/ID.xml`` and ``ImageSets/Main/LIST.txt``. In
other layouts, images and annotations that belong together have the same *key*: the path without ending and
without folders that only tell what is in them. It is ``train/a`` for ``train/images/a.jpg`` and
``Annotations/train/a.xml``.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from functools import cached_property
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ...errors import DataError
from ...files import NAME_ERRORS, unescape_name
from ..image_files import IMAGE_ENDINGS, files_below, image_files_below, names_in
from .annotation import AnnotationError
from .roles import role_of
from .text_files import read_lines
from .voc_xml import looks_like_annotation, read_annotation
from .xml_files import first_tag

LISTS = os.path.join("ImageSets", "Main")

ALL = "all"
"""Name of the list of all annotations, if nothing divides them into lists."""

_IMAGE_FOLDERS = (
    "jpegimages", "images", "image", "imgs", "img", "jpeg", "jpegs", "jpg", "jpgs", "png", "pngs", "photos",
    "pictures", "pics", "frames",
)  # fmt: skip
_XML_FOLDERS = (
    "annotations", "annotation", "annots", "annot", "anns", "ann", "xml", "xmls", "labels", "label", "bboxes",
)  # fmt: skip
# Folders of images that are no photographs, unless there are annotations beside them.
_NO_PHOTOS = re.compile(
    r"segmentation.*|segs?|masks?|trimaps?|depth|thumbs|thumbnails?|previews?", re.IGNORECASE
)

_SNIFFED = 20  # files of a folder that are opened to see what they are

# Columns after an image id: 1, 0 or -1 in the lists of single classes, numbers of classes in Oxford's.
_COLUMNS = re.compile(r"(.*?\S)(\s+[-+]?\d+)+")


class Entry(NamedTuple):
    """A line of a list: the key of an image or annotation, empty if there is neither.

    `is_negative` is whether the list of a class says that the image lacks it, with -1 instead of 1 or 0.
    """

    line: int
    text: str
    key: str
    is_negative: bool = False


class VocFolder:
    """Annotations, images and lists in one folder of a dataset; its files are searched when first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefixes: Dict[str, str] = {}  # folders to the first part of their keys

    # ---- files

    @cached_property
    def annotations(self) -> Dict[str, Path]:
        """XML files by key, without those of other datasets in the folder, which have lists of their own.

        Raises DataError if an image has two that differ.
        """
        folders: Dict[str, List[Path]] = {}
        for name in self._files(files_below):
            if name.lower().endswith(".xml") and not os.path.basename(name).startswith("._"):
                folders.setdefault(os.path.dirname(name), []).append(Path(name))
        found: Dict[str, Path] = {}
        for folder, paths in folders.items():
            if any(map(looks_like_annotation, paths[:_SNIFFED])) and not self._is_of_other_dataset(folder):
                for path in paths:
                    other = found.setdefault(self._key(str(path)), path)
                    if other is not path and not _same_content(path, other):
                        raise DataError(f"{other} and {path} differ, but are for one image; keep one of them")
        return found

    def _is_of_other_dataset(self, folder: str) -> bool:
        between = takewhile(lambda parent: parent != self.root, (Path(folder), *Path(folder).parents))
        return any(has_list_folder(parent) for parent in between if parent.name.lower() not in _XML_FOLDERS)

    @cached_property
    def images(self) -> Dict[str, str]:
        """Paths of images by key.

        Of several with one key, those have their whole names as keys that have annotations of these names,
        such as ``x.png.xml``. Of the others, the one that the annotation names is used, else the one in the
        usual folder and with the preferred ending.
        """
        annotated = {str(path.parent) for path in self.annotations.values()}
        found: Dict[str, List[Tuple[Tuple[int, int], str]]] = {}
        for path in self._files(image_files_below):
            folder = os.path.dirname(path)
            below = folder[len(str(self.root)) :].split(os.sep)
            if folder not in annotated and any(map(_NO_PHOTOS.fullmatch, below)):
                continue
            found.setdefault(self._key(path), []).append((_preference(path, str(self.root)), path))
        images: Dict[str, str] = {}
        for key, entries in found.items():
            paths = [path for _, path in sorted(entries)]
            if len(paths) > 1:
                whole = {key + os.path.splitext(path)[1]: path for path in reversed(paths)}
                whole = {name: path for name, path in whole.items() if name in self.annotations}
                images.update(whole)
                paths = self._named_first(key, [path for path in paths if path not in whole.values()])
            if paths:
                images[key] = paths[0]
        return images

    def _named_first(self, key: str, paths: List[str]) -> List[str]:
        """The images that the annotation of this key names, then the others."""
        names: Tuple[str, ...] = ()
        if key in self.annotations and len(paths) > 1:
            with contextlib.suppress(AnnotationError):
                names = read_annotation(self.annotations[key]).files
        known = {text for name in names for text in (name, unescape_name(name))}
        return sorted(paths, key=lambda path: os.path.basename(path) not in known)

    def _files(self, below: Callable[[Path], Iterator[str]]) -> Iterator[str]:
        """Files of the folder, also where its own folders, such as JPEGImages, are symbolic links."""
        yield from below(self.root)
        for path in (self.root / name for name in names_in(self.root)):
            if path.is_symlink() and path.is_dir() and not path.name.startswith("."):
                yield from below(path)

    def _key(self, path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in self._prefixes:
            self._prefixes[folder] = key_of(os.path.join(os.path.relpath(folder, self.root), "x"))[:-1]
        return self._prefixes[folder] + os.path.splitext(unicodedata.normalize("NFC", name))[0]

    # ---- images of annotations

    def image_id(self, key: str) -> str:
        """Image id of an annotation: its file name without ending if it is unique, else its key."""
        return key.rpartition("/")[2] if self._stems_are_unique else key

    @cached_property
    def _stems_are_unique(self) -> bool:
        return len(self.annotations) == len({key.rpartition("/")[2] for key in self.annotations})

    def find_image(self, name: str, role: str = "") -> str:
        """Key of an image by that of its annotation, or by a file name; empty if there is none.

        A name with other folders is found by its last part, if that is unique among the images that are not
        in a folder of another role. Raises AnnotationError if there are several.
        """
        return _lookup(name, self.images, self._image_keys, role)

    def find_named(self, name: str, role: str) -> List[str]:
        """Keys of the images that an annotation may name: as it is written, and percent-decoded."""
        keys = []
        for text in (name, unescape_name(name)):
            with contextlib.suppress(AnnotationError):
                keys.append(self.find_image(text, role))
        return list(filter(None, keys))

    def find_annotation(self, key: str) -> str:
        """Key of the annotation of an image by the key of the image; otherwise as `find_image`."""
        return _lookup(key, self.annotations, self._annotation_keys, "") or self._by_file_name.get(key, "")

    def path_of(self, key: str) -> Path:
        """Where the annotation of an image is, or would be."""
        folder = next((path.parent for path in self.annotations.values()), self.root / "Annotations")
        return self.annotations.get(key, folder / f"{key}.xml")

    @cached_property
    def _image_keys(self) -> Dict[str, List[str]]:
        return _by_last_part(self.images)

    @cached_property
    def _annotation_keys(self) -> Dict[str, List[str]]:
        return _by_last_part(self.annotations)

    @cached_property
    def _by_file_name(self) -> Dict[str, str]:
        """Annotations whose own name is not that of an image, by the key of the image in ``<filename>``."""
        found: Dict[str, str] = {}
        for key, path in self.annotations.items():
            if key not in self.images:
                try:
                    names = read_annotation(path).files
                except AnnotationError:
                    continue
                for name in chain(names, map(unescape_name, names)):
                    found.setdefault(key_of(_without_image_ending(name) + ".jpg"), key)
        return found

    # ---- lists

    @cached_property
    def lists(self) -> Dict[str, Optional[Path]]:
        """List files by name; None for a list that is a folder, or all annotations."""
        if not self.annotations:
            return {}
        files = list_files(self.root)
        if not files and list(self.groups) == [ALL]:
            files = self._loose_list_files()
        return dict(files) if files else dict.fromkeys(sorted(self.groups))

    @cached_property
    def groups(self) -> Dict[str, List[str]]:
        """Keys of the annotations by list: the folder of the XML file or the image that tells the role."""
        groups: Dict[str, List[str]] = {}
        for key in self.annotations:
            name = _role_folder(key)
            if not name and key not in self.images:
                images = self._image_keys.get(_normal(key.rpartition("/")[2]), [])
                name = _role_folder(images[0]) if len(images) == 1 else ""
            groups.setdefault(name or ALL, []).append(key)
        return groups

    def _loose_list_files(self) -> Dict[str, Path]:
        """Text files named as a list, beside the annotations or in the folder, that name annotated images."""
        folders = {path.parent for path in self.annotations.values()}
        folders |= {folder.parent for folder in folders if folder != self.root}
        files: Dict[str, Path] = {}
        for folder in [self.root, *sorted(folders)]:
            for path in sorted(folder.glob("*.txt")):
                try:
                    is_list = role_of(path.stem) and any(
                        e.key in self.annotations for e in self.entries(path)
                    )
                except DataError:
                    continue
                if is_list:
                    files.setdefault(path.stem, path)
        return files

    def entries(self, path: Path) -> List[Entry]:
        """Lines of a list file: image ids, file names or paths, each perhaps followed by other columns."""
        role = "" if re.search("train[_-]?val", path.stem, re.IGNORECASE) else role_of(path.stem)
        entries = []
        for number, line in read_lines(path, "image ids", errors=NAME_ERRORS):
            key = self._key_of_line(line, role)
            if key or not line.startswith("#"):
                match = _COLUMNS.fullmatch(line)
                is_negative = match is not None and line[match.end(1) :].strip() == "-1"
                entries.append(Entry(number, line, key, is_negative and not re.search(r"\s-1$", key)))
        return entries

    def _key_of_line(self, line: str, role: str) -> str:
        match, first = _COLUMNS.fullmatch(line), line.split()[0]
        texts = [line, match[1] if match else line, first if _without_image_ending(first) != first else line]
        for text in dict.fromkeys(texts):
            for known, index in (
                (self.images, self._image_keys),
                (self.annotations, self._annotation_keys),
            ):
                try:
                    key = _lookup(text, known, index, role)
                except AnnotationError:
                    continue
                if key:
                    return key
        return ""


def key_of(name: str) -> str:
    """Key of a relative path with ending: see the module."""
    *folders, last = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    kept = [f for f in folders if f.lower() not in (*_IMAGE_FOLDERS, *_XML_FOLDERS, "", ".")]
    return "/".join([*kept, os.path.splitext(last)[0]])


def list_files(folder: Path) -> Dict[str, Path]:
    """Lists in ``ImageSets/Main`` or ``ImageSets`` that are not empty, by name.

    The lists of single classes are left out: ``cat_train`` beside ``train``.
    """
    for place in _list_folders(folder):
        files = {path.stem: path for path in sorted(place.glob("*.txt")) if not path.name.startswith(".")}
        names = (name for name in files if "_" not in name or name.rsplit("_", 1)[1] not in files)
        found = {name: files[name] for name in names if not _is_empty(files[name])}
        if found:
            return found
    return {}


def _list_folders(folder: Path) -> List[Path]:
    sets = _subfolders(folder, "imagesets")
    return [*(main for place in sets for main in _subfolders(place, "main")), *sets]


def has_list_folder(folder: Path) -> bool:
    """Whether a folder has ``ImageSets``, in any case."""
    return bool(_subfolders(folder, "imagesets"))


def list_file(folder: Path, name: str) -> Path:
    """Where a list file is, or would be."""
    paths = [place / f"{name}.txt" for place in _list_folders(folder)]
    return next((path for path in paths if path.is_file()), (paths or [folder / LISTS / f"{name}.txt"])[0])


def other_xml(folder: Path) -> Optional[Tuple[str, str]]:
    """Path and first tag of an XML file, for the message that there are no VOC annotations."""
    names = (name for name in files_below(folder) if name.lower().endswith(".xml"))
    for name in islice(names, _SNIFFED):
        tag = first_tag(name)
        if tag:
            return name, tag
    return None


def is_complete(folder: Path, split: str) -> bool:
    """Whether the list of a devkit is readable, and the image and annotation of each of its lines exist."""
    path = folder / LISTS / f"{split}.txt"
    if not path.is_file() or not all((folder / name).is_dir() for name in ("Annotations", "JPEGImages")):
        return False
    place = VocFolder(folder)
    try:
        entries = place.entries(path)
    except DataError:
        return False
    return bool(entries) and all(e.key in place.images and e.key in place.annotations for e in entries)


def _subfolders(folder: Path, name: str) -> List[Path]:
    names = (entry for entry in names_in(folder) if entry.lower() == name)
    return [folder / entry for entry in names if (folder / entry).is_dir()]


def _is_empty(path: Path) -> bool:
    """Whether a list has no lines; an unreadable one is not empty, so that it is reported."""
    try:
        return not read_lines(path, "image ids", errors=NAME_ERRORS)
    except DataError:
        return False


def _lookup(name: str, known: Mapping[str, object], index: Mapping[str, List[str]], role: str) -> str:
    """Key among the `known` ones of a key, file name or path, or an empty string."""
    plain = unicodedata.normalize("NFC", name).replace("\\", "/")
    bare = _without_image_ending(plain)
    for text in dict.fromkeys((unicodedata.normalize("NFC", name), plain, bare)):
        for candidate in (text, key_of(text + ".jpg")):
            if candidate in known:
                return candidate
    *folders, last = bare.split("/")
    keys = index.get(_normal(plain.rpartition("/")[2])) or index.get(_normal(last), [])
    wanted = {role, *map(role_of, folders)} - {""}
    keys = [key for key in keys if not wanted or {role_of(f) for f in key.split("/")[:-1]} - {""} <= wanted]
    for depth, folder in enumerate(reversed(folders), 2):
        if len(keys) > 1:
            same = [key for key in keys if _normal(("/" * depth + key).split("/")[-depth]) == _normal(folder)]
            keys = same or keys
    if len(keys) > 1:
        raise AnnotationError(f"several files {name!r}: {keys[0]}, {keys[1]}", "image-missing")
    return keys[0] if keys else ""


def _by_last_part(keys: Mapping[str, object]) -> Dict[str, List[str]]:
    index: Dict[str, List[str]] = {}
    for key in keys:
        index.setdefault(_normal(key.rpartition("/")[2]), []).append(key)
    return index


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()


def _without_image_ending(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in (*IMAGE_ENDINGS, ".xml") else name


def _role_folder(key: str) -> str:
    """First folder of a key that tells what a list is for."""
    return next((folder for folder in key.split("/")[:-1] if role_of(folder)), "")


def _preference(path: str, root: str) -> Tuple[int, int]:
    folders = path[len(root) :].lower().split(os.sep)
    usual = min(_IMAGE_FOLDERS.index(f) if f in _IMAGE_FOLDERS else len(_IMAGE_FOLDERS) for f in folders)
    ending = os.path.splitext(path)[1].lower()
    return usual, IMAGE_ENDINGS.index(ending) if ending in IMAGE_ENDINGS else len(IMAGE_ENDINGS)


def _same_content(path: Path, other: Path) -> bool:
    try:
        return path.stat().st_size == other.stat().st_size and path.read_bytes() == other.read_bytes()
    except OSError:
        return False
