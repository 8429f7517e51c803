"""Reading Pascal VOC, and datasets laid out like it, into samples.

What can be mended is mended, what cannot is left out, and the dataset's notes tell of both. What
would make the whole dataset a wrong one is an error.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ...errors import DataError, OptionError
from ...files import write_text
from ...options import unknown_name
from ..annotations.annotation import (
    Annotation,
    AnnotationError,
    Reading,
    make_annotation,
    make_dataset,
    read_classes,
    write_classes,
)
from ..annotations.paths import Images, images_below
from ..annotations.voc_xml import (
    LISTS,
    image_files,
    missing_folders,
    read_annotation,
    read_list,
    split_names,
    write_annotation,
)
from ..dataset import Dataset
from ..downloads import archive_of
from ..findings import Finding, Findings
from . import Format, formats

__all__ = ["VOC_CLASSES", "read_voc", "read_voc_folder", "write_annotation"]

# In the devkit's order (VOCcode/VOCinit.m).
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def read_voc(
    root: Union[str, Path],
    splits: str,
    classes: Optional[Sequence[str]] = None,
    *,
    allow_absent: bool = False,
) -> Dataset:
    """Read image lists of a Pascal VOC devkit.

    Parameters
    ----------
    root : str or Path
        The folder ``VOCdevkit``, which holds ``VOC2007``, ``VOC2012``.
    splits : str
        Lists as YEAR_NAME, joined by ``+``: ``2007_trainval+2012_trainval``. An image that two lists
        name is taken once.
    classes : sequence of str, optional
        The classes wanted, in the order of the labels; by default `VOC_CLASSES`. Objects of others
        are ignored, and their images stay.
    allow_absent : bool
        Accept a wanted class that no annotation knows, with a note: for measuring a detector on
        images that lack some of its classes.

    Returns
    -------
    Dataset
        Boxes are clipped to their images; those without area are dropped; images with an unusable
        annotation, or without a file, are left out. ``notes`` tells of each.

    Raises
    ------
    OptionError
        `splits` that are not understood.
    DataError
        A folder, list or class that is not there; a list without images; more than half of the
        annotations or images unusable.
    """
    parts = _parse_splits(splits)
    root = Path(root)
    for year, _ in parts:
        if not (root / f"VOC{year}").is_dir():
            raise DataError(_no_year(root, year))
    findings = Findings()
    records: List[Annotation] = []
    seen: Set[Path] = set()
    for year, split in parts:
        archive = archive_of(year, split)
        hint = f"; unpack {archive} there again, or add --download to fetch it" if archive else ""
        records += _read_split(root / f"VOC{year}", split, seen, hint, findings)
    wanted = VOC_CLASSES if classes is None else tuple(classes)
    folders = [root / f"VOC{year}" for year, _ in parts]
    return make_dataset(
        f"VOC {splits}", records, wanted, VOC_CLASSES, allow_absent, findings, partial(_check_known, folders)
    )


def read_voc_folder(
    folder: Union[str, Path],
    split: str,
    classes: Optional[Sequence[str]] = None,
    *,
    allow_absent: bool = False,
) -> Dataset:
    """Read one image list of one folder in VOC's layout.

    Parameters
    ----------
    folder : str or Path
        It holds ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
    split : str
        Name of the list, ``train`` for ``ImageSets/Main/train.txt``.
    classes : sequence of str, optional
        The classes wanted, in the order of the labels. By default those in ``folder/classes.txt``, one
        name a line; without that file the names found in this split, sorted.
    allow_absent : bool
        As for `read_voc`.

    Returns
    -------
    Dataset
        As for `read_voc`.

    Raises
    ------
    DataError
        As for `read_voc`; or there is no object to take class names from.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the one that holds {_parts_of_layout()}")
    findings = Findings()
    records = _read_split(folder, split, set(), "", findings)
    listed = read_classes(folder / "classes.txt")
    if classes is not None:
        wanted = tuple(classes)
    else:
        wanted = listed or tuple(sorted({name for record in records for name in record.names}))
    if not wanted:
        raise DataError(f"{folder}: no object in any annotation of {split!r}, so no class names; give them")
    check = partial(_check_known, [folder])
    return make_dataset(f"{folder.name} {split}", records, wanted, listed, allow_absent, findings, check)


ALL = "all"
"""Of annotations without a list: the one that there is."""

_PLACES = ("", "Annotations", "annotations", "labels", "xml")
_IMAGE_PLACES = ("", "JPEGImages", "images", "Images", "img")


def annotation_files(root: Path) -> List[Path]:
    """XML files in a folder, or in one of those in it that are usually called so, that look like VOC's."""
    for place in _PLACES:
        found = sorted((root / place).glob("*.xml")) if (root / place).is_dir() else []
        found = [path for path in found if path.is_file()]
        if found and any(_looks_like_voc(path) for path in found[:20]):
            return found
    return []


def _looks_like_voc(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"<annotation" in file.read(4096)


def read_voc_files(
    root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read XML files of VOC's kind that lie beside their images, or in a folder of their own, no list.

    Parameters
    ----------
    root : Path
    split : str
        `ALL`.
    classes : sequence of str, optional
        By default those in ``classes.txt``, else the names found, sorted.
    allow_absent : bool
        As for `read_voc`.

    Raises
    ------
    DataError
        As for `read_voc`.
    """
    if split != ALL:
        raise DataError(f"{root}: annotations without lists of images, so there is {ALL!r} and no {split!r}")
    reading, files = Reading(), annotation_files(root)
    images = Images(root, [path for path in (root / place for place in _IMAGE_PLACES) if path.is_dir()])
    for path in files:
        try:
            reading.records.append(_read_record(path.stem, images.of(path.stem), path, reading.findings))
        except AnnotationError as error:
            reading.skip(error, str(path))
    reading.check(str(root), len(files))
    listed = read_classes(root / "classes.txt")
    wanted = tuple(classes or listed or sorted({name for record in reading.records for name in record.names}))
    if not wanted:
        raise DataError(f"{root}: no object in any annotation, so no class names; give them")
    return make_dataset(
        f"{root.name} {split}", reading.records, wanted, listed, allow_absent, reading.findings
    )


def _parts_of_layout() -> str:
    return f"Annotations, JPEGImages and {LISTS}"


def _parse_splits(splits: str) -> List[Tuple[str, str]]:
    parts = [re.fullmatch(r"(\d{4})_(\w+)", part.strip(), re.ASCII) for part in splits.split("+")]
    if not all(parts):
        raise OptionError(
            f"splits {splits!r}: write YEAR_LIST, several joined by '+', as in 2007_trainval+2012_trainval"
        )
    return [(part.group(1), part.group(2)) for part in parts if part]


def _no_year(root: Path, year: str) -> str:
    for other in (root.parent, root / "VOCdevkit", root.parent / "VOCdevkit"):
        if (other / f"VOC{year}").is_dir():
            return f"{root} holds no VOC{year}, but {other} does: give that folder as --data-root"
    state = "is not there" if not root.is_dir() else f"holds no VOC{year}"
    return (
        f"{root} {state}; --data-root must be the folder VOCdevkit, which holds VOC2007 and VOC2012. "
        "Add --download to fetch the official archives into it"
    )


def _read_split(folder: Path, split: str, seen: Set[Path], hint: str, findings: Findings) -> List[Annotation]:
    """Read one list; `seen` holds the annotations taken so far, over all lists."""
    missing = missing_folders(folder)
    if missing:
        raise DataError(
            f"{folder} is incomplete: {' and '.join(missing)} missing. A folder in VOC's layout holds "
            f"{_parts_of_layout()}{hint}"
        )
    path = folder / LISTS / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(split_names(folder)) or "none"
        raise DataError(f"{path} does not exist; lists there: {there}{hint}")
    images, reading = image_files(folder), Reading(findings)
    ids = read_list(path, images)
    if not ids:
        raise DataError(f"{path} lists no image{hint}")
    for image_id in ids:
        annotation = folder / "Annotations" / f"{image_id}.xml"
        if annotation in seen:
            reading.findings.add("image-listed-twice", image_id)
            continue
        seen.add(annotation)
        try:
            if image_id not in images:
                raise AnnotationError(
                    f"there is no image {folder / 'JPEGImages' / image_id}.jpg", "image-missing"
                )
            image_path = os.path.join(folder, "JPEGImages", images[image_id])
            reading.records.append(_read_record(image_id, image_path, annotation, reading.findings))
        except AnnotationError as error:
            reading.skip(error, str(annotation))
    reading.check(str(path), len(ids), hint)
    return reading.records


def _read_record(image_id: str, image_path: str, path: Path, findings: Findings) -> Annotation:
    annotation = read_annotation(path)
    for fault in annotation.faults:
        findings.add(fault.code, str(path), fault.text, fault.where)
    return make_annotation(
        image_id, image_path, str(path), annotation.size, annotation.names, annotation.boxes,
        annotation.difficult, findings,
    )  # fmt: skip


def _check_known(folders: List[Path], unknown: List[str], known: Set[str]) -> None:
    """Refuse a class that occurs in no annotation at all; a rare one may be missing in this split only."""
    left = set(unknown)
    for folder in folders:
        for path in (folder / "Annotations").glob("*.xml"):
            if not left:
                return
            try:
                names = set(read_annotation(path).names)
            except AnnotationError:
                continue
            known |= names
            left -= names
    for name in unknown:
        if name in left:
            raise DataError(f"{folders[0] / 'Annotations'}: {unknown_name('class', name, known)}")


class VocFormat(Format):
    """Pascal VOC: the devkit, one folder in its layout, or XML files beside images."""

    name = "voc"
    description = "Pascal VOC XML: the devkit, one folder in its layout, or XML files beside images"
    layout = "VOC2007 or VOC2012; Annotations with ImageSets/Main; or XML files beside images"
    contents = "VOC XML files"
    root = "data/VOCdevkit"
    priority = 10
    image_folder = "JPEGImages"

    def lists(self, root: Path) -> Dict[str, Any]:
        if is_single_folder(root):
            return {name: root / LISTS / f"{name}.txt" for name in split_names(root)}
        if not root.is_dir():
            return {}
        if annotation_files(root):
            return {ALL: root}
        return {
            f"{year.name[3:]}_{name}": year / LISTS / f"{name}.txt"
            for year in year_folders(root)
            for name in split_names(year)
        }

    def evidence(self, root: Path) -> str:
        years = [path.name for path in year_folders(root)]
        if years:
            return ", ".join(years)
        return "Annotations and ImageSets/Main" if is_single_folder(root) else ""

    def weak_evidence(self, root: Path) -> str:
        return super().evidence(root)

    def default_splits(self, root: Path, role: str) -> str:
        if self._is_devkit(root):
            return "2007_trainval+2012_trainval" if role == "train" else "2007_test"
        return super().default_splits(root, role)

    def _is_devkit(self, root: Path) -> bool:
        """Whether `root` is the folder VOCdevkit, or would be after a download."""
        return not is_single_folder(root) and not annotation_files(root)

    def read(
        self, root: Path, splits: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        if self._is_devkit(root):
            return read_voc(root, splits, classes, allow_absent=allow_absent)
        return super().read(root, splits, classes, allow_absent=allow_absent)

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        read = read_voc_folder if is_single_folder(root) else read_voc_files
        return read(root, split, classes, allow_absent=allow_absent)

    def download(self, root: Path, splits: str, progress: bool = False) -> None:
        if not self._is_devkit(root):
            raise OptionError(f"{root}: not the VOC devkit; omit --download")
        from ..downloads import download_voc

        download_voc(root, splits, progress=progress)

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
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
            listed = "".join(f"{image_id}\n" for image_id in ids)
            write_text(folder / LISTS / f"{split}.txt", listed)
        write_classes(parts, folder)
        return []

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        folders = [path for path in [root, *year_folders(root)] if not missing_folders(path)]
        for folder in folders:
            yield from _unreferenced_in(folder)
        if not folders:
            stems = {path.stem for path in annotation_files(root)}
            for image in sorted(images_below(root)):
                if os.path.splitext(os.path.basename(image))[0] not in stems:
                    yield Finding("image-unannotated", image, "", "")


def _unreferenced_in(folder: Path) -> Iterator[Finding]:
    images = image_files(folder)
    annotations = {name[:-4] for name in os.listdir(folder / "Annotations") if name.endswith(".xml")}
    listed: Set[str] = set()
    for split in split_names(folder):
        listed.update(read_list(folder / LISTS / f"{split}.txt", images))
    for image_id in sorted(annotations - set(images) - listed):
        yield Finding("annotation-orphaned", str(folder / "Annotations" / f"{image_id}.xml"), "", "")
    for image_id in sorted(set(images) - listed):
        code = "image-unlisted" if image_id in annotations else "image-unannotated"
        yield Finding(code, str(folder / "JPEGImages" / images[image_id]), "", "")


def is_single_folder(root: Path) -> bool:
    """Whether this is one folder in VOC layout, such as ``VOC2007``, not the devkit around such folders."""
    return (root / "Annotations").is_dir() and (root / "ImageSets" / "Main").is_dir()


def year_folders(root: Path) -> List[Path]:
    """``VOC2007``, ``VOC2012`` and the like in the devkit."""
    return sorted(path for path in root.glob("VOC[12][0-9][0-9][0-9]") if path.is_dir())


formats.register(VocFormat.name, VocFormat())
