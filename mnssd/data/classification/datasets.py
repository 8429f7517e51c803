"""The labelled datasets that a classifier can be trained on, by kind."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError, OptionError
from ...options import unknown_name
from ..annotations.annotation import read_classes
from ..annotations.record_file import HEADER, iter_records
from ..downloads import CIFAR10_ARCHIVE, CIFAR10_FILES, CIFAR10_FOLDER, download_cifar10
from ..image import IMAGE_ENDINGS, read_part
from .labeled_image import ClassificationDataset, LabeledImage

FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
"""Names of the folders of a split, the first that is there."""

VAL_SHARE = 0.2
"""Of a folder that is not split: this share of it is measured on, chosen by the files' names."""

ROOTS = {
    "folder": "data/images",
    "shapes": "data/shapes",
    "recordio": "data/recordio",
    "cifar10": "data/cifar10",
}

CROP_MARGIN = 0.15
"""Sides of an object that a crop of it shows around it."""


def open_classification_dataset(
    kind: str, root: Optional[str], role: str, download: bool = False
) -> ClassificationDataset:
    """Open a dataset for a classifier.

    Parameters
    ----------
    kind : str
        ``folder``: a folder a class, in ``train`` and ``val`` or not yet split; ``shapes``: crops of the
        built-in images, which are rendered where they are missing; ``recordio``: ``train.rec`` and
        ``val.rec`` of MXNet's ``im2rec``; ``cifar10``: the binary version.
    root : str, optional
        Where it lies; by default that of `ROOTS`.
    role : str
        ``'train'`` or ``'val'``.
    download : bool
        Fetch the official archive of ``cifar10`` if its files are missing.

    Raises
    ------
    OptionError
        For an unknown kind, or a download of what is not downloaded.
    DataError
        When it is not there, or has no image.
    DownloadError
        From the download.
    """
    if kind not in OPENERS:
        raise OptionError(unknown_name("dataset", kind, OPENERS))
    if download:
        if kind != "cifar10":
            raise OptionError(f"only cifar10 is downloaded, not {kind}; leave out --download")
        download_cifar10(root or ROOTS[kind])
    found = OPENERS[kind](Path(root or ROOTS[kind]), role)
    if not found.images:
        raise DataError(f"{root or ROOTS[kind]}: no image to {'train' if role == 'train' else 'measure'} on")
    return found


# ---- a folder a class --------------------------------------------------------------------------------------


def _open_folder(root: Path, role: str) -> ClassificationDataset:
    train, own = _split_folder(root, "train"), _split_folder(root, role)
    notes: List[str] = []
    by_class = _class_folders(train or root)
    classes = tuple(name for name, files in by_class.items() if files)
    _note_empty(notes, [name for name, files in by_class.items() if not files])
    if len(classes) < 2:
        raise DataError(
            f"{train or root}: {len(classes)} class folders with images; give one that holds a folder a class"
        )
    if train and not own:
        raise DataError(f"{root}: has {train.name} but none of {', '.join(FOLDERS[role])} beside it")
    if own and own != train:
        by_class = _class_folders(own)
        strangers = [name for name in by_class if name not in classes]
        if strangers:
            notes.append(
                f"{own.name}: {len(strangers)} classes without training images left out: {_few(strangers)}"
            )
    base = own or root
    images = [
        LabeledImage(str(path.relative_to(base)), str(path), label, str(path))
        for label, name in enumerate(classes)
        for path in by_class.get(name, [])
    ]
    if not own:
        images = [image for image in images if _is_val(image.image_id) == (role == "val")]
        if role == "train":
            notes.append(
                f"not split: {VAL_SHARE:.0%} of the images, chosen by their names, are kept for measuring"
            )
    return ClassificationDataset(f"{root.name} {role}", tuple(map(_printable, classes)), images, notes)


def _split_folder(root: Path, role: str) -> Optional[Path]:
    return next((root / name for name in FOLDERS[role] if (root / name).is_dir()), None)


def _class_folders(folder: Path) -> Dict[str, List[Path]]:
    """Class -> its image files, both in order; files below a class's folder at any depth."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check --data-root") from error
    return {entry.name: sorted(_images_below(entry)) for entry in entries}


def _images_below(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS and not name.startswith("."):
                yield Path(where) / name


def _is_val(image_id: str) -> bool:
    """By the name alone, so that another image more or less moves no other one."""
    digest = hashlib.sha256(os.fsencode(Path(image_id).as_posix())).digest()
    return int.from_bytes(digest[:8], "big") < VAL_SHARE * 2**64


def _note_empty(notes: List[str], names: Sequence[str]) -> None:
    if names:
        notes.append(f"{len(names)} classes without an image left out: {_few(names)}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(_printable, names[:3])) + (", ..." if len(names) > 3 else "")


def _printable(name: str) -> str:
    """A file's name may hold bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


# ---- crops of the built-in images ------------------------------------------------------------------------


def _open_shapes(root: Path, role: str) -> ClassificationDataset:
    from ..open import open_dataset

    pictures = open_dataset("shapes", root, None, None, role)
    images = []
    for sample in pictures:
        for number, (box, label) in enumerate(zip(sample.boxes, sample.labels)):
            around = CROP_MARGIN * (box[2:] - box[:2] + 1)
            low = np.maximum(box[:2] - around, 0)
            high = np.minimum(box[2:] + around, np.array(sample.size) - 1)
            crop = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
            images.append(
                LabeledImage(
                    f"{sample.image_id} {number}", sample.image_path, int(label), sample.image_path, crop
                )
            )
    return ClassificationDataset(f"crops of {pictures.name}", pictures.classes, images, list(pictures.notes))


# ---- MXNet's record files ----------------------------------------------------------------------------------


def _open_recordio(root: Path, role: str) -> ClassificationDataset:
    folder = root.parent if root.suffix == ".rec" else root
    names = FOLDERS[role]
    path = next((folder / f"{name}.rec" for name in names if (folder / f"{name}.rec").exists()), None)
    if path is None:
        raise DataError(
            f"{folder}: none of {', '.join(f'{name}.rec' for name in names)} there; see --data-root"
        )
    images, bad = [], 0
    for number, (start, length, whole) in enumerate(iter_records(path)):
        with_label = _label_of(path, start, length) if whole else None
        if with_label is None:
            bad += 1
            continue
        label, header = with_label
        name = f"{path} record {number}"
        images.append(
            LabeledImage(str(number), name, label, str(path), None, (start + header, length - header))
        )
    notes = [f"{path.name}: {bad} records without one whole label left out"] if bad else []
    count = max((image.label for image in images), default=-1) + 1
    return ClassificationDataset(f"{path.name}", _record_classes(folder, count), images, notes)


def _label_of(path: Path, start: int, length: int) -> Optional[Tuple[int, int]]:
    """The label and the length of what stands before the image; None for a record of another kind."""
    with open(path, "rb") as file:
        file.seek(start)
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            return None
        flag, label, _, _ = HEADER.unpack(head)
        if flag > 1 or length < HEADER.size + 4 * flag:
            return None
        if flag == 1:
            (label,) = struct.unpack("<f", file.read(4))
    return (int(label), HEADER.size + 4 * flag) if label >= 0 and label == int(label) else None


def _record_classes(folder: Path, count: int) -> Tuple[str, ...]:
    """The lines of ``classes.txt`` if there is one, else numbers."""
    path = folder / "classes.txt"
    if not path.exists():
        return tuple(map(str, range(count)))
    names = read_classes(path)
    if len(names) < count:
        raise DataError(f"{path}: {len(names)} names, but labels go up to {count - 1}")
    return names


# ---- CIFAR-10 ----------------------------------------------------------------------------------------------

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the planes of red, green and blue


def _open_cifar10(root: Path, role: str) -> ClassificationDataset:
    folder = root / CIFAR10_FOLDER if (root / CIFAR10_FOLDER).is_dir() else root
    names = CIFAR10_FILES[-1:] if role == "val" else CIFAR10_FILES[:-1]
    images = []
    for name in names:
        path = folder / name
        try:
            content = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); unpack {CIFAR10_ARCHIVE.name}"
                f" ({CIFAR10_ARCHIVE.urls[0]}) there, or add --download to fetch it"
            ) from error
        labels = content[::_CIFAR_RECORD]
        if len(content) % _CIFAR_RECORD or (labels >= len(CIFAR10_CLASSES)).any():
            raise DataError(f"{path}: damaged; unpack the archive again")
        images += [
            LabeledImage(
                f"{name} {i}", f"{path} image {i}", int(label), str(path), None, (i * _CIFAR_RECORD + 1, 3072)
            )
            for i, label in enumerate(labels)
        ]
    found = ClassificationDataset(f"CIFAR-10 {role}", CIFAR10_CLASSES, images)
    return replace(found, read=_read_cifar)


def _read_cifar(image: LabeledImage, wanted: Tuple[int, int]) -> np.ndarray:
    planes = np.frombuffer(_part(image), np.uint8).reshape(3, 32, 32)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _part(image: LabeledImage) -> bytes:
    assert image.place is not None
    return read_part(image.file, *image.place)


OPENERS: Dict[str, Callable[[Path, str], ClassificationDataset]] = {
    "folder": _open_folder,
    "shapes": _open_shapes,
    "recordio": _open_recordio,
    "cifar10": _open_cifar10,
}
