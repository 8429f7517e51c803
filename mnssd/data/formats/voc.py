"""Pascal VOC's format: the devkit, one folder in its layout, or XML files beside images."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ...errors import DataError, OptionError
from ...files import write_text
from ..annotations.annotation import AnnotationError, AnnotationList
from ..annotations.paths import is_inside
from ..annotations.roles import default_list, role_of
from ..annotations.text_files import CLASSES_FILE, read_classes, write_classes
from ..annotations.voc_devkit import missing_year, parse_splits, year_folders
from ..annotations.voc_folder import LISTS, VocFolder, has_list_folder, key_of, list_file, other_xml
from ..annotations.voc_xml import VocAnnotation, object_names, read_annotation, write_annotation
from ..dataset import Dataset
from ..downloads import archive_of, download_voc
from ..findings import Finding
from ..image_files import is_drawing
from . import Format, ImageFiles, formats

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""In the order of the devkit (VOCcode/VOCinit.m)."""

_LAYOUT = f"Annotations, JPEGImages and {LISTS}"

_OFFICIAL_LISTS = ("2007_trainval", "2012_trainval", "2007_test")
_OFFICIAL_IDS = {"2007": re.compile("00[0-9]{4}"), "2012": re.compile("20(0[789]|1[012])_[0-9]{6}")}


class VocFormat(Format):
    """Pascal VOC: the devkit, one folder in its layout, or XML files beside images."""

    name = "voc"
    description = "Pascal VOC XML: the devkit, one folder in its layout, or XML files beside images"
    layout = "VOC2007 or VOC2012; Annotations with ImageSets/Main; or VOC XML files beside images"
    contents = "VOC XML files"
    root = "data/VOCdevkit"
    priority = 10
    image_folder = "JPEGImages"

    def lists(self, root: Path) -> Dict[str, Any]:
        if is_single_folder(root) or not year_folders(root):
            return dict.fromkeys(VocFolder(root).lists, root)
        return {
            f"{folder.name[3:]}_{name}": folder
            for folder in year_folders(root)
            for name in VocFolder(folder).lists
        }

    def evidence(self, root: Path) -> str:
        years = [folder.name for folder in year_folders(root)]
        if years and not is_single_folder(root):
            return f"VOC devkit ({', '.join(years)})"
        lists = VocFolder(root).lists if has_list_folder(root) else {}
        if lists:
            empty = "" if any(lists.values()) else "; ImageSets has no list that names images"
            return f"folder in VOC layout (lists: {', '.join(lists)}{empty})"
        return super().evidence(root) if _has_xml_labels(root) else ""

    def weak_evidence(self, root: Path) -> str:
        return super().evidence(root)

    def found_instead(self, root: Path) -> str:
        if has_list_folder(root):
            return "ImageSets, but no VOC XML files"
        other = other_xml(root)
        return (
            f"{other[0]}, an XML file that starts with <{other[1]}> instead of <annotation>" if other else ""
        )

    def default_splits(self, root: Path, role: str) -> str:
        if not _is_devkit(root):
            return super().default_splits(root, role)
        names = list(self.lists(root))
        if not names or set(_OFFICIAL_LISTS) <= set(names):
            return "+".join(_OFFICIAL_LISTS[:2]) if role == "train" else _OFFICIAL_LISTS[2]
        years = {name.partition("_")[0] for name in names}
        plain = list(dict.fromkeys(name.partition("_")[2] for name in names))
        chosen = default_list(plain, role)
        return "+".join(f"{y}_{chosen}" for y in sorted(years) if f"{y}_{chosen.partition(':')[0]}" in names)

    def read(
        self, root: Path, splits: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        if _is_devkit(root) and ":" not in splits:
            return read_voc(root, splits, classes, allow_absent=allow_absent)
        return super().read(root, splits, classes, allow_absent=allow_absent)

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        if _is_devkit(root):
            return read_voc(root, split, classes, allow_absent=allow_absent)
        return super().read_list(root, split, classes, allow_absent=allow_absent)

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        return read_folder(root, split)

    def download(self, root: Path, splits: str, progress: bool = False) -> None:
        if not _is_devkit(root):
            raise OptionError(f"{root}: not the VOC devkit, so nothing to download; omit --download")
        download_voc(root, splits, progress=progress)

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        for name in ("Annotations", LISTS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for split, dataset in parts.items():
            ids = []
            for sample in dataset:
                file = files[split][sample.image_id]
                ids.append(os.path.splitext(file)[0])
                names = [dataset.classes[label] for label in sample.labels]
                path = folder / "Annotations" / f"{ids[-1]}.xml"
                write_annotation(path, file, sample.size, names, sample.boxes, list(sample.difficult))
            write_text(folder / LISTS / f"{split}.txt", "".join(f"{image_id}\n" for image_id in ids))
        write_classes(parts, folder)
        return []

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        for folder in year_folders(root) if _is_devkit(root) else [root]:
            yield from _unreferenced_in(VocFolder(folder))


def is_single_folder(root: Path) -> bool:
    """Whether this is one folder in VOC layout, such as ``VOC2007``, rather than the devkit around them."""
    return (root / "Annotations").is_dir() or has_list_folder(root)


def _has_xml_labels(root: Path) -> bool:
    """Whether there are VOC XML files and no YOLO files in the folder ``labels``, which both formats use."""
    labels = root / "labels"
    return (
        labels.is_dir() and next(labels.rglob("*.txt"), None) is None and bool(VocFolder(labels).annotations)
    )


def _is_devkit(root: Path) -> bool:
    """Whether `root` is the folder VOCdevkit, or will be after a download."""
    return not is_single_folder(root) and (bool(year_folders(root)) or not VocFolder(root).annotations)


def has_official_content(folder: Path) -> bool:
    """Whether ``VOC2007`` or ``VOC2012`` has only official image ids and the classes of Pascal VOC.

    Many people put their own dataset into a folder with this name.
    """
    official_id, annotations = _OFFICIAL_IDS.get(folder.name[3:]), VocFolder(folder).annotations
    if official_id is None or not all(map(official_id.fullmatch, annotations)):
        return False
    try:
        return all(object_names(path) <= set(VOC_CLASSES) for path in annotations.values())
    except AnnotationError:  # unreadable, as official ones are not
        return False


def read_voc(
    root: Union[str, Path],
    splits: str,
    classes: Optional[Sequence[str]] = None,
    *,
    allow_absent: bool = False,
) -> Dataset:
    """Read image lists of the Pascal VOC devkit.

    Boxes are clipped to their images and dropped if they have no area; images without a file or a valid
    annotation are skipped. The notes and findings of the dataset report each of these.

    Parameters
    ----------
    root : str or Path
        The folder ``VOCdevkit``, with ``VOC2007`` and ``VOC2012``, or folders of other years.
    splits : str
        Lists as YEAR_NAME, joined by ``+``: ``2007_trainval+2012_trainval``. Images in both are read once.
    classes : sequence of str, optional
        In the order of the labels. Defaults to `VOC_CLASSES` for the official images, else to the names in
        ``classes.txt`` or the annotations. Objects of other classes are ignored.
    allow_absent : bool
        Accept classes that no annotation has, with a note.

    Raises
    ------
    OptionError
        If `splits` is malformed.
    DataError
        If a folder, list or class is missing, a list is empty, or more than half of its images are unusable.
    """
    root, years = Path(root), parse_splits(splits)
    folders = [root / f"VOC{year}" for year, _ in years]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(missing_year(root, folder.name))
    result = AnnotationList()
    result.other_classes = _class_names(folders)
    if all(map(has_official_content, dict.fromkeys(folders))):
        result.declared = VOC_CLASSES
    else:
        files = [read_classes(folder / CLASSES_FILE) for folder in (root, *folders)]
        result.declared = tuple(dict.fromkeys(name for names in files for name in names))
    seen: Set[Path] = set()
    for folder, (year, split) in zip(folders, years):
        try:
            part = read_folder(folder, split, seen)
        except DataError as error:
            archive = archive_of(year, split)
            if archive is None:
                raise
            hint = f"unpack {archive} there again, or download it with --download"
            raise DataError(f"{error}; {hint}") from error
        result.annotations += part.annotations
        result.findings.items += part.findings.items
    return result.to_dataset(f"VOC {splits}", f"{root}, lists {splits}", classes, allow_absent)


def read_voc_folder(
    folder: Union[str, Path],
    split: str,
    classes: Optional[Sequence[str]] = None,
    *,
    allow_absent: bool = False,
) -> Dataset:
    """Read one image list, such as ``train``, of one folder in VOC layout, as `read_voc` does.

    `classes` defaults to those in ``classes.txt`` (one name per line), without that file to the names in this
    list, sorted.
    """
    folder = Path(folder)
    annotations = read_folder(folder, split)
    return annotations.to_dataset(f"{folder.name} {split}", f"{folder}, list {split}", classes, allow_absent)


def read_folder(folder: Path, split: str, seen: Optional[Set[Path]] = None) -> AnnotationList:
    """Annotations of one list of a folder, without those in `seen`, to which they are added.

    Raises DataError if there are no annotations or images, the list is missing, empty or unreadable, or more
    than half of its images are unusable.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with {_LAYOUT}")
    place, path = VocFolder(folder), list_file(folder, split)
    if split not in place.lists and not path.is_file():
        if not place.annotations:
            raise DataError(f"{folder}: no VOC XML files; expected {_LAYOUT}")
        raise DataError(f"{path}: no such list; lists: {', '.join(place.lists)}")
    path = place.lists.get(split, path) or folder
    reader = _ListReader(place, split, seen)
    total = reader.read_group(split) if path == folder else reader.read_lines(path)
    if not total:
        raise DataError(f"{path}: no image in this list; select others with --splits")
    reader.result.check_skipped(str(path), total)
    reader.result.declared = read_classes(folder / CLASSES_FILE)
    reader.result.other_classes = _class_names([folder])
    return reader.result


def read_ids(images: Iterable[Tuple[Path, str]]) -> AnnotationList:
    """Annotations of images, each given by its folder in VOC layout and its image id."""
    result = AnnotationList()
    readers: Dict[Path, _ListReader] = {}
    for folder, image_id in images:
        if folder not in readers:
            readers[folder] = _ListReader(VocFolder(folder), "", None)
            readers[folder].result = result
        key = key_of(f"{image_id}.xml")
        readers[folder].read(key, key)
    return result


class _ListReader:
    """Reads one list of a folder; annotations in `seen`, which grows, are left out."""

    def __init__(self, folder: VocFolder, split: str, seen: Optional[Set[Path]]) -> None:
        self.result, self._folder, self._role = AnnotationList(), folder, role_of(split)
        self._seen: Set[Path] = set() if seen is None else seen
        self._images: Dict[str, Path] = {}  # images to their annotations

    def read_lines(self, path: Path) -> int:
        """Read the images of a list file; returns their number."""
        total = 0
        for entry in self._folder.entries(path):
            if entry.is_negative:
                self.result.findings.add("image-negative", str(path), entry.text, f"line {entry.line}")
                continue
            total += 1
            try:
                if not entry.key:
                    raise AnnotationError(
                        f"neither an image nor an annotation {entry.text!r}", "image-missing"
                    )
                key = self._folder.find_annotation(entry.key) or entry.key
            except AnnotationError as error:
                self.result.skip(error, str(path), f"line {entry.line}")
            else:
                self.read(key, entry.key)
        return total

    def read_group(self, split: str) -> int:
        """Read the annotations of a list without a file; returns their number."""
        keys = self._folder.groups[split]
        for key in keys:
            self.read(key, key, check_inside=True)
        return len(keys)

    def read(self, key: str, image: str, check_inside: bool = False) -> None:
        """Read an annotation by its key, and that of its image as far as it is known."""
        path = self._folder.path_of(key)
        if path in self._seen:
            self.result.findings.add("image-listed-twice", self._folder.image_id(key))
            return
        self._seen.add(path)
        try:
            if key not in self._folder.annotations:
                raise AnnotationError("no such file", "annotation-missing")
            annotation = read_annotation(path)
            image_path = self._folder.images[self._find_image(key, image, annotation)]
            if check_inside and not is_inside(image_path, self._folder.root):
                raise AnnotationError(f"{image_path!r} is outside of the dataset's folder", "image-outside")
            if self._images.setdefault(image_path, path) != path:
                raise AnnotationError(
                    f"{self._images[image_path]} is also for {image_path}; keep one of them"
                )
            self.result.findings.items += annotation.invalid
            image_id = self._folder.image_id(key)
            self.result.add(image_id, image_path, str(path), annotation.size, annotation.objects)
        except AnnotationError as error:
            self.result.skip(error, str(path))

    def _find_image(self, key: str, image: str, annotation: VocAnnotation) -> str:
        """Key of the image: with the annotation's own name, else the one that it names."""
        folder, own = self._folder, image if image in self._folder.images else ""
        if not own:
            own = folder.find_image(key, self._role)
            own = "" if own != key and own in folder.annotations else own  # it belongs to another annotation
        for name in annotation.files:
            keys = folder.find_named(name, self._role)
            if not keys or own in keys:
                continue
            named = keys[0]
            has_annotation = named in folder.annotations
            if not own and not has_annotation:
                return named
            if own:
                code = "filename-stale" if has_annotation else "filename-differs"
                text = f"<filename> is {name}, but {os.path.basename(folder.images[own])} is used"
                self.result.findings.add(code, str(folder.path_of(key)), text)
            break
        if not own:
            also = "".join(f" or {name}" for name in annotation.files[:1])
            where = "" if folder.images else f"; no images at all, expected in {folder.root / 'JPEGImages'}"
            raise AnnotationError(
                f"no image {key}.jpg (or another image ending){also}{where}", "image-missing"
            )
        return own


def _class_names(folders: Sequence[Path]) -> Iterator[str]:
    """Class of each object in all annotations."""
    for folder in folders:
        for path in VocFolder(folder).annotations.values():
            with contextlib.suppress(AnnotationError):
                yield from [entry.name for entry in read_annotation(path).objects]


def _unreferenced_in(folder: VocFolder) -> Iterator[Finding]:
    files = [path for path in folder.lists.values() if path]
    listed = {entry.key for path in files for entry in folder.entries(path)}
    used = {*listed}
    for key, path in sorted(folder.annotations.items()):
        image = ""
        with contextlib.suppress(AnnotationError):
            image = folder.find_image(key)
            names = () if image else read_annotation(path).files
            image = next(filter(None, map(folder.find_image, names)), image)
        used.add(image)
        if files and not {key, image} & listed:
            code, file = (
                ("image-unlisted", folder.images[image]) if image else ("annotation-without-image", path)
            )
            yield Finding(code, str(file), "", "")
    for key in sorted(set(folder.images) - used):
        if not is_drawing(folder.images[key]):
            yield Finding("image-unannotated", folder.images[key], "", "")


formats.register(VocFormat.name, VocFormat())
