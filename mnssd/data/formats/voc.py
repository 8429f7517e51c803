"""Pascal VOC's format: the devkit, one folder in its layout, or XML files beside images."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ...errors import DataError, OptionError
from ...files import write_text
from ..annotations import voc_xml
from ..annotations.annotation import AnnotationError, AnnotationList
from ..annotations.paths import ImageFinder, images_below
from ..annotations.text_files import CLASSES_FILE, read_classes, write_classes
from ..annotations.voc_xml import LISTS, list_files, read_annotation, read_image_ids, write_annotation
from ..dataset import Dataset
from ..downloads import archive_of, download_voc
from ..findings import Finding
from ..image import PathLike
from . import Format, ImageFiles, formats

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""In the order of the devkit (VOCcode/VOCinit.m)."""

ALL = "all"
"""Name of the list of annotations without list files."""

_LAYOUT = f"Annotations, JPEGImages and {LISTS}"
_XML_FOLDERS = ("", "Annotations", "annotations", "labels", "xml")
_IMAGE_FOLDERS = ("", "JPEGImages", "images", "Images", "img")


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
        if is_single_folder(root):
            return list_files(root)
        if annotation_files(root):
            return {ALL: root}
        return {
            f"{folder.name[3:]}_{name}": path
            for folder in year_folders(root)
            for name, path in list_files(folder).items()
        }

    def evidence(self, root: Path) -> str:
        years = [folder.name for folder in year_folders(root)]
        if years:
            return f"VOC devkit ({', '.join(years)})"
        return "folder in VOC layout" if is_single_folder(root) else ""

    def weak_evidence(self, root: Path) -> str:
        return super().evidence(root)

    def default_splits(self, root: Path, role: str) -> str:
        if _is_devkit(root):
            return "2007_trainval+2012_trainval" if role == "train" else "2007_test"
        return super().default_splits(root, role)

    def read(
        self, root: Path, splits: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        if _is_devkit(root):
            return read_voc(root, splits, classes, allow_absent=allow_absent)
        return super().read(root, splits, classes, allow_absent=allow_absent)

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        if is_single_folder(root):
            return read_folder(root, split)
        return _read_xml_files(self.place(root, split))

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
        folders = [folder for folder in [root, *year_folders(root)] if not voc_xml.missing_folders(folder)]
        for folder in folders:
            yield from _unreferenced_in(folder)
        if not folders:
            stems = {path.stem for path in annotation_files(root)}
            for image in sorted(images_below(root)):
                if os.path.splitext(os.path.basename(image))[0] not in stems:
                    yield Finding("image-unannotated", image, "", "")


def is_single_folder(root: Path) -> bool:
    """Whether this is one folder in VOC layout, such as ``VOC2007``, rather than the devkit around them."""
    return (root / "Annotations").is_dir() and (root / "ImageSets" / "Main").is_dir()


def year_folders(root: Path) -> List[Path]:
    """Folders such as ``VOC2007`` in the devkit."""
    return sorted(path for path in root.glob("VOC[12][0-9][0-9][0-9]") if path.is_dir())


def annotation_files(root: Path) -> List[Path]:
    """VOC XML files in a folder, or in a subfolder with a usual name."""
    for folder in (root / name for name in _XML_FOLDERS):
        files = [path for path in sorted(folder.glob("*.xml")) if path.is_file()]
        if any(_looks_like_voc(path) for path in files[:20]):
            return files
    return []


def _looks_like_voc(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"<annotation" in file.read(4096)


def _is_devkit(root: Path) -> bool:
    """Whether `root` is the folder VOCdevkit, or will be after a download."""
    return not is_single_folder(root) and not annotation_files(root)


def read_voc(
    root: PathLike, splits: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read image lists of the Pascal VOC devkit.

    Boxes are clipped to their images and dropped if they have no area; images without a file or a valid
    annotation are skipped. The notes and findings of the dataset report each of these.

    Parameters
    ----------
    root : str or Path
        The folder ``VOCdevkit``, with ``VOC2007`` and ``VOC2012``.
    splits : str
        Lists as YEAR_NAME, joined by ``+``: ``2007_trainval+2012_trainval``. Images in both are read once.
    classes : sequence of str, optional
        In the order of the labels; defaults to `VOC_CLASSES`. Objects of other classes are ignored.
    allow_absent : bool
        Accept classes that no annotation has, with a note.

    Raises
    ------
    OptionError
        If `splits` is malformed.
    DataError
        If a folder, list or class is missing, a list is empty, or more than half of its images are unusable.
    """
    root, years = Path(root), _parse_splits(splits)
    folders = [root / f"VOC{year}" for year, _ in years]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(_missing_year(root, folder.name))
    result = AnnotationList()
    result.declared, result.other_classes = VOC_CLASSES, _class_names(folders)
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
    folder: PathLike, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read one image list, such as ``train``, of one folder in VOC layout, as `read_voc` does.

    `classes` defaults to those in ``classes.txt`` (one name per line), without that file to the names in this
    list, sorted.
    """
    folder = Path(folder)
    annotations = read_folder(folder, split)
    return annotations.to_dataset(f"{folder.name} {split}", f"{folder}, list {split}", classes, allow_absent)


def _read_xml_files(root: Path) -> AnnotationList:
    """XML files without lists, whose images are in the same folder or in one with a usual name."""
    result, files = AnnotationList(), annotation_files(root)
    finder = ImageFinder(root, [root / name for name in _IMAGE_FOLDERS])
    for path in files:
        try:
            _add_annotation(result, path.stem, finder.find_stem(path.stem), path)
        except AnnotationError as error:
            result.skip(error, str(path))
    result.check_skipped(str(root), len(files))
    result.declared = read_classes(root / CLASSES_FILE)
    return result


def _parse_splits(splits: str) -> List[Tuple[str, str]]:
    years = []
    for part in splits.split("+"):
        match = re.fullmatch(r"(\d{4})_(\w+)", part.strip(), re.ASCII)
        if match is None:
            example = "2007_trainval+2012_trainval"
            raise OptionError(f"splits {splits!r}: expected YEAR_LIST joined by '+', as in {example}")
        years.append((match[1], match[2]))
    return years


def _missing_year(root: Path, year: str) -> str:
    for folder in (root.parent, root / "VOCdevkit", root.parent / "VOCdevkit"):
        if (folder / year).is_dir():
            return f"{root}: no {year} here, but in {folder}; set --data-root to that folder"
    problem = f"no {year} here" if root.is_dir() else "no such folder"
    return (
        f"{root}: {problem}; set --data-root to the folder VOCdevkit, which contains VOC2007 and VOC2012, or "
        "add --download to download the official archives into it"
    )


def read_folder(folder: Path, split: str, seen: Optional[Set[Path]] = None) -> AnnotationList:
    """Annotations of one list of a folder in VOC layout, without those in `seen`, to which they are added."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with {_LAYOUT}")
    missing = voc_xml.missing_folders(folder)
    if missing:
        raise DataError(f"{folder}: {' and '.join(missing)} missing; expected {_LAYOUT}")
    path = folder / LISTS / f"{split}.txt"
    if not path.is_file():
        raise DataError(f"{path}: no such list; lists: {', '.join(list_files(folder)) or 'none'}")
    images, result = voc_xml.image_files(folder), AnnotationList()
    ids = read_image_ids(path, images)
    if not ids:
        raise DataError(f"{path}: empty list")
    seen = set() if seen is None else seen
    for image_id in ids:
        annotation = folder / "Annotations" / f"{image_id}.xml"
        if annotation in seen:
            result.findings.add("image-listed-twice", image_id)
            continue
        seen.add(annotation)
        try:
            if image_id not in images:
                image = folder / "JPEGImages" / image_id
                raise AnnotationError(f"no image {image}.jpg (or another image ending)", "image-missing")
            image_path = os.path.join(folder, "JPEGImages", images[image_id])
            _add_annotation(result, image_id, image_path, annotation)
        except AnnotationError as error:
            result.skip(error, str(annotation))
    result.check_skipped(str(path), len(ids))
    result.declared, result.other_classes = read_classes(folder / CLASSES_FILE), _class_names([folder])
    return result


def _add_annotation(result: AnnotationList, image_id: str, image_path: str, path: Path) -> None:
    annotation = read_annotation(path)
    result.findings.items += annotation.invalid
    result.add(image_id, image_path, str(path), annotation.size, annotation.objects)


def _class_names(folders: Sequence[Path]) -> Iterator[str]:
    """Class of each object in all annotations."""
    for folder in folders:
        for path in (folder / "Annotations").glob("*.xml"):
            with contextlib.suppress(AnnotationError):
                yield from [entry.name for entry in read_annotation(path).objects]


def _unreferenced_in(folder: Path) -> Iterator[Finding]:
    images = voc_xml.image_files(folder)
    annotations = {name[:-4] for name in os.listdir(folder / "Annotations") if name.endswith(".xml")}
    listed: Set[str] = set()
    for path in list_files(folder).values():
        listed.update(read_image_ids(path, images))
    for image_id in sorted(annotations - set(images) - listed):
        yield Finding("annotation-without-image", str(folder / "Annotations" / f"{image_id}.xml"), "", "")
    for image_id in sorted(set(images) - listed):
        code = "image-unlisted" if image_id in annotations else "image-unannotated"
        yield Finding(code, str(folder / "JPEGImages" / images[image_id]), "", "")


formats.register(VocFormat.name, VocFormat())
