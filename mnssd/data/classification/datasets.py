"""Formats of classification datasets: class folders, shapes, RecordIO, CIFAR-10."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError, OptionError
from ...files import printable
from ...options import Size, unknown_name
from ..annotations.record_file import HEADER, iter_records
from ..annotations.text_files import read_classes
from ..downloads import CIFAR10_ARCHIVE, CIFAR10_FILES, CIFAR10_FOLDER, download_cifar10
from ..image import read_part
from ..image_files import files_below, image_files_below, is_unknown_file, is_unreadable_image
from . import CLASSIFICATION_ROOTS
from .labeled_image import ClassificationDataset, LabeledImage

FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
"""Folder names of each split; the first that exists is used."""

VAL_FRACTION = 0.2
"""Fraction of the images held out for validation, by their names, if there are only training images."""

_HELD_OUT_NOTE = f"nothing to validate on: {VAL_FRACTION:.0%} of the images are held out for it"

CROP_MARGIN = 0.15
"""Margin around an object in its crop, as a fraction of its sides."""


def open_classification_dataset(
    name: str, root: Optional[str], role: str, download: bool = False
) -> ClassificationDataset:
    """Open a classification dataset.

    Parameters
    ----------
    name : str
        ``folder``: one folder per class, within ``train`` and ``val`` or not split; ``shapes``: crops of the
        built-in dataset, rendered if missing; ``recordio``: ``train.rec`` and ``val.rec`` of MXNet's
        ``im2rec``; ``cifar10``: the binary version.
    root : str, optional
        Folder of the dataset. Defaults to that in `CLASSIFICATION_ROOTS`.
    role : str
        ``'train'``, ``'val'``, or ``'eval'``: all images of the part for validation, or of the whole dataset
        if it is not divided.
    download : bool
        Download the official archive of ``cifar10`` if its files are missing. Others raise OptionError.

    Raises
    ------
    DataError
        If the dataset is missing or has no images.
    """
    if name not in OPENERS:
        raise OptionError(unknown_name("dataset", name, OPENERS))
    folder = Path(root or CLASSIFICATION_ROOTS[name])
    if download:
        if name != "cifar10":
            raise OptionError(f"--download: only cifar10 has a download, {name} has none")
        download_cifar10(folder)
    dataset = OPENERS[name](folder, role)
    if not dataset.samples:
        raise DataError(f"{folder}: no images to {'train' if role == 'train' else 'evaluate'} on")
    return dataset


# ---- one folder per class ----


def _open_folder(root: Path, role: str) -> ClassificationDataset:
    if role == "eval":
        return _open_undivided(root)
    train, val = _split_folder(root, "train"), _split_folder(root, "val")
    split = (train if role == "train" else val) if val else None
    by_class = _class_folders(train or root)
    classes = tuple(name for name, files in by_class.items() if files)
    notes = _skipped("classes without images", [name for name in by_class if name not in classes])
    if len(classes) < 2:
        raise DataError(
            f"{train or root}: {len(classes)} class folders with images; expected one folder per class"
        )
    if split and split != train:
        by_class = _class_folders(split)
        unknown = [name for name in by_class if name not in classes]
        notes += _skipped(f"classes in {split.name} without training images", unknown)
    notes += _unreadable_notes(split or train or root)
    base = split or train or root
    images = _labeled_images(base, {name: by_class.get(name, []) for name in classes})
    if not split:
        images = _part(images, role)
        if role == "train":
            notes.append(_HELD_OUT_NOTE)
    return ClassificationDataset(f"{root.name} {role}", tuple(map(printable, classes)), images, notes)


def _open_undivided(root: Path) -> ClassificationDataset:
    """All images of the folder for validation, else of that for training, else of the folder itself."""
    base = _split_folder(root, "val") or _split_folder(root, "train") or root
    by_class = {name: files for name, files in _class_folders(base).items() if files}
    if not by_class:
        raise DataError(f"{base}: no class folders with images; expected one folder per class")
    name = root.name if base == root else f"{root.name} {base.name}"
    images = _labeled_images(base, by_class)
    return ClassificationDataset(name, tuple(map(printable, by_class)), images, _unreadable_notes(base))


def _labeled_images(base: Path, by_class: Mapping[str, Sequence[Path]]) -> List[LabeledImage]:
    return [
        LabeledImage(str(path.relative_to(base)), str(path), label, str(path))
        for label, paths in enumerate(by_class.values())
        for path in paths
    ]


def _split_folder(root: Path, role: str) -> Optional[Path]:
    return next((root / name for name in FOLDERS[role] if (root / name).is_dir()), None)


def _class_folders(folder: Path) -> Dict[str, List[Path]]:
    """Class name to its image files, sorted; files may be in subfolders at any depth."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check --data-root") from error
    return {entry.name: sorted(_images_below(entry)) for entry in entries}


def _images_below(folder: Path) -> Iterator[Path]:
    for path in map(Path, image_files_below(folder, follow_links=True)):
        if not path.name.startswith("."):
            yield path


def _unreadable_notes(folder: Path) -> List[str]:
    """Notes on files in the class folders that are not used: images such as HEIC, and unknown kinds."""
    folders = [folder / name for name in _class_folders(folder)]
    paths = [path for place in folders for path in files_below(place, follow_links=True)]
    notes: List[str] = []
    for what, is_kind in (
        ("images of kinds that cannot be read, convert to JPEG or PNG", is_unreadable_image),
        ("files of an unknown kind", is_unknown_file),
    ):
        notes += _skipped(what, [str(Path(path).relative_to(folder)) for path in filter(is_kind, paths)])
    return notes


def _part(images: List[LabeledImage], role: str) -> List[LabeledImage]:
    """The images held out for validation, or the others."""
    return [image for image in images if _is_val(image.image_id) == (role == "val")]


def _is_val(image_id: str) -> bool:
    """Depends on the name only, so that adding images does not move others between the splits."""
    digest = hashlib.sha256(os.fsencode(Path(image_id).as_posix())).digest()
    return int.from_bytes(digest[:8], "big") < VAL_FRACTION * 2**64


def _skipped(what: str, names: Sequence[str]) -> List[str]:
    shown = ", ".join(map(printable, names[:3])) + (", ..." if len(names) > 3 else "")
    return [f"{what}, skipped: {len(names)} ({shown})"] if names else []


# ---- crops of the shapes dataset ----


def _open_shapes(root: Path, role: str) -> ClassificationDataset:
    from ..open import open_dataset

    dataset = open_dataset("shapes", root, None, None, role)
    images = []
    for sample in dataset:
        for number, (box, label) in enumerate(zip(sample.boxes, sample.labels)):
            margin = CROP_MARGIN * (box[2:] - box[:2] + 1)
            low = np.maximum(box[:2] - margin, 0)
            high = np.minimum(box[2:] + margin, np.array(sample.size) - 1)
            crop = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
            image_id, path = f"{sample.image_id} {number}", sample.image_path
            images.append(LabeledImage(image_id, path, int(label), path, crop))
    return ClassificationDataset(f"crops of {dataset.name}", dataset.classes, images, list(dataset.notes))


# ---- RecordIO ----


def _open_recordio(root: Path, role: str) -> ClassificationDataset:
    folder = root.parent if root.suffix == ".rec" else root
    by_role = {key: [folder / f"{name}.rec" for name in names] for key, names in FOLDERS.items()}
    is_divided = any(map(Path.exists, by_role["val"]))
    files = by_role["train"] if role == "train" else [*by_role["val"], *by_role["train"]]
    if role == "eval" and folder != root:
        files = [root]
    path = next(filter(Path.exists, files), None)
    if path is None:
        expected = " or ".join(file.name for file in files)
        raise DataError(f"{folder}: expected {expected}; check --data-root")
    images, skipped = [], 0
    for number, (start, length, whole) in enumerate(iter_records(path)):
        parsed = _parse_label(path, start, length) if whole else None
        if parsed is None:
            skipped += 1
            continue
        label, header = parsed
        name, byte_range = f"{path} record {number}", (start + header, length - header)
        images.append(LabeledImage(str(number), name, label, str(path), None, byte_range))
    notes = [f"{path.name}: records without one whole-number label, skipped: {skipped}"] if skipped else []
    count = max((image.label for image in images), default=-1) + 1
    if role != "eval" and not is_divided:
        images = _part(images, role)
        notes += [_HELD_OUT_NOTE] if role == "train" else []
    return ClassificationDataset(path.name, _record_classes(folder, count), images, notes)


def _parse_label(path: Path, start: int, length: int) -> Optional[Tuple[int, int]]:
    """Label of a record and length of its header; None without one whole-number label."""
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
    """Class names of ``classes.txt``, or numbers if there is none."""
    path = folder / "classes.txt"
    if not path.exists():
        return tuple(map(str, range(count)))
    names = read_classes(path)
    if len(names) < count:
        raise DataError(f"{path}: {len(names)} names, but the highest label is {count - 1}")
    return names


# ---- CIFAR-10 ----

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_RECORD = 1 + 3 * 32 * 32  # label, then red, green and blue planes


def _open_cifar10(root: Path, role: str) -> ClassificationDataset:
    folder = root / CIFAR10_FOLDER if (root / CIFAR10_FOLDER).is_dir() else root
    names = CIFAR10_FILES[:-1] if role == "train" else CIFAR10_FILES[-1:]
    images = []
    for name in names:
        path = folder / name
        try:
            content = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); unpack {CIFAR10_ARCHIVE.name} "
                f"({CIFAR10_ARCHIVE.urls[0]}) there, or add --download"
            ) from error
        labels = content[::_CIFAR_RECORD]
        if len(content) % _CIFAR_RECORD or (labels >= len(CIFAR10_CLASSES)).any():
            raise DataError(f"{path}: damaged; unpack {CIFAR10_ARCHIVE.name} again")
        images += [
            LabeledImage(
                f"{name} {i}", f"{path} image {i}", int(label), str(path), None, (i * _CIFAR_RECORD + 1, 3072)
            )
            for i, label in enumerate(labels)
        ]
    return ClassificationDataset(f"CIFAR-10 {role}", CIFAR10_CLASSES, images, read=_read_cifar)


def _read_cifar(image: LabeledImage, min_size: Size) -> np.ndarray:
    assert image.byte_range is not None
    planes = np.frombuffer(read_part(image.file, *image.byte_range), np.uint8).reshape(3, 32, 32)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


OPENERS: Dict[str, Callable[[Path, str], ClassificationDataset]] = {
    "folder": _open_folder,
    "shapes": _open_shapes,
    "recordio": _open_recordio,
    "cifar10": _open_cifar10,
}
