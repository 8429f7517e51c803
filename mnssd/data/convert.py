"""Converting a dataset to another format: images copied or linked, lists and annotations written anew."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Dict, List, NamedTuple

from ..errors import DataError, OptionError
from ..files import write_bytes
from .annotations.record_file import parse_record_image_path
from .dataset import Dataset
from .formats import Format, formats, writable_names
from .image import read_bytes


class ConversionResult(NamedTuple):
    """Number of images and boxes written, and notes on what the format cannot represent."""

    images: int
    boxes: int
    notes: List[str]


def writable_format(name: str) -> Format:
    """The format `name`; raises OptionError if it can only be read."""
    if not formats[name].writable:
        choices = ", ".join(writable_names())
        raise OptionError(f"--format {name}: this format can only be read; choose from {choices}")
    return formats[name]


def convert(parts: Dict[str, Dataset], target: Path, output_format: Format, link: bool) -> ConversionResult:
    """Write a dataset.

    Parameters
    ----------
    parts : dict of str to Dataset
        Lists by name, all with the same classes.
    target : Path
        A new or empty folder.
    link : bool
        Make hard links instead of copies if the file system allows it.

    Raises
    ------
    OptionError
        If `target` is not empty.
    DataError
        If images of different folders would get the same name.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target}: not empty; choose a new folder")
    _check_names(parts)
    target.mkdir(parents=True, exist_ok=True)
    files = {name: {s.image_id: _file_name(s.image_id, s.image_path) for s in parts[name]} for name in parts}
    if output_format.image_folder is not None:
        for split, dataset in parts.items():
            folder = target / output_format.image_folder.format(split=split)
            folder.mkdir(parents=True, exist_ok=True)
            for sample in dataset:
                _copy_image(sample.image_path, folder / files[split][sample.image_id], link)
    notes = output_format.write(parts, target, files)
    images = sum(map(len, parts.values()))
    boxes = sum(len(sample.labels) for dataset in parts.values() for sample in dataset)
    return ConversionResult(images, boxes, notes)


def _check_names(parts: Dict[str, Dataset]) -> None:
    paths: Dict[str, str] = {}
    for dataset in parts.values():
        for sample in dataset:
            path = paths.setdefault(_flat_name(sample.image_id), sample.image_path)
            if path != sample.image_path:
                raise DataError(f"{path} and {sample.image_path} would get the same name; rename one of them")


def _flat_name(image_id: str) -> str:
    """The image id without folders, because the new dataset has one folder per list."""
    return image_id.replace("/", "_")


def _file_name(image_id: str, path: str) -> str:
    if parse_record_image_path(path) is None:
        return _flat_name(image_id) + os.path.splitext(path)[1]
    # An image in a record file has no name. Readers go by its bytes, so any other ending than PNG's will do.
    return _flat_name(image_id) + (".png" if read_bytes(path, 16).startswith(b"\x89PNG") else ".jpg")


def _copy_image(source: str, target: Path, link: bool) -> None:
    if target.exists():  # the image is in two lists
        return
    if parse_record_image_path(source):
        write_bytes(target, read_bytes(source))
        return
    if link:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(os.path.realpath(source), target)
            return
    shutil.copyfile(source, target)
