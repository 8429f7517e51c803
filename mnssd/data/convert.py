"""Converting a dataset to another format: images copied or linked, lists and annotations written anew."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Tuple
from unicodedata import normalize

import numpy as np

from ..errors import OptionError
from ..files import fit_name, write_bytes
from .annotations.record_file import parse_record_image_path
from .dataset import Dataset
from .formats import Format, formats, writable_names
from .image import file_content, read_bytes
from .item_images import ItemImage
from .sample import Sample
from .unfixed import UNFIXED_FILE, write_unfixed

# Not possible in names, lines or cells: slashes, line breaks and other controls, outer spaces. The marks of
# UTF-16 at the start of a list would be taken for its encoding.
_UNUSABLE = re.compile(
    r"[/\\\0-\x1f\x7f-\x9f\u2028\u2029]|^\s|\s$|^\ufeff|^\udcff(?=\udcfe)|^\udcfe(?=\udcff)"
)
_LONGEST_ENDING = ".json"  # of files named like images


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

    Boxes that are lost or in doubt are written as they were annotated, and the errors in the findings of the
    datasets are kept with the copy; see `unfixed`.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target}: not empty; choose a new folder")
    target.mkdir(parents=True, exist_ok=True)
    parts = {name: as_annotated(dataset) for name, dataset in parts.items()}
    files = _file_names(parts, "{split}" in (output_format.image_folder or ""))
    if output_format.image_folder is not None:
        for split, dataset in parts.items():
            folder = target / output_format.image_folder.format(split=split)
            folder.mkdir(parents=True, exist_ok=True)
            for sample in dataset:
                _copy_image(sample.image_path, folder / files[split][sample.image_id], link)
    notes = output_format.write(parts, target, files)
    unfixed = write_unfixed(target, chain(*(dataset.findings for dataset in parts.values())))
    if unfixed:
        notes.append(
            f"{unfixed} errors of the dataset are not fixed; they are kept in {target / UNFIXED_FILE}"
        )
    images = sum(map(len, parts.values()))
    boxes = sum(len(sample.labels) for dataset in parts.values() for sample in dataset)
    return ConversionResult(images, boxes, notes)


def list_file_name(split: str) -> str:
    """Name of the converted list, for `split` as in ``--splits``."""
    return _UNUSABLE.sub("_", split.replace("+", "-").replace(":", "-"))


def as_annotated(dataset: Dataset) -> Dataset:
    """The dataset with the boxes that are lost or in doubt as they were annotated, not clipped."""
    labels = {name: label for label, name in enumerate(dataset.classes)}
    return replace(dataset, samples=[_as_annotated(sample, labels) for sample in dataset])


def _as_annotated(sample: Sample, labels: Mapping[str, int]) -> Sample:
    original = sample.original
    if original is None or not original.in_doubt:
        return sample
    rows = [row for row, name in enumerate(original.names) if name in labels]
    return replace(
        sample,
        boxes=original.boxes[rows],
        labels=np.array([labels[original.names[row]] for row in rows], np.int32),
        difficult=np.array([original.difficult[row] for row in rows], bool),
    )


def _file_names(parts: Mapping[str, Dataset], folder_per_list: bool) -> Dict[str, Dict[str, str]]:
    """By list and image id: name of the image file, without folders.

    Different images get different names, in each list or over all lists; the later ones get a number. So do
    images with other objects in another list. Slashes, line breaks and the like become ``_``.
    """
    files: Dict[str, Dict[str, str]] = {}
    images: Dict[str, Tuple[object, ...]] = {}  # composed names without ending to the image and its objects
    for split, dataset in parts.items():
        images = {} if folder_per_list else images
        files[split] = {}
        for sample in dataset:
            stem, ending = _UNUSABLE.sub("_", sample.image_id), _ending(sample.image_path)
            objects = (sample.boxes.tobytes(), sample.labels.tobytes(), sample.difficult.tobytes())
            image = (os.path.realpath(sample.image_path), *objects)
            names = (_fit(stem, f"-{number}" if number else "", ending) for number in chain([0], count(2)))
            name = next(n for n in names if images.setdefault(normalize("NFC", n), image) == image)
            files[split][sample.image_id] = name + ending
    return files


def _fit(stem: str, number: str, ending: str) -> str:
    """Name without ending, short enough also for that of an annotation."""
    longest = max(ending, _LONGEST_ENDING, key=len)
    return fit_name(stem, number + longest)[: -len(longest)]


def _ending(path: str) -> str:
    if isinstance(path, ItemImage):
        return ".png"
    if parse_record_image_path(path) is None:
        return _UNUSABLE.sub("_", os.path.splitext(path)[1])
    # An image in a record file has no name. Readers go by its bytes, so any other ending than PNG's will do.
    return ".png" if read_bytes(path, 16).startswith(b"\x89PNG") else ".jpg"


def _copy_image(source: str, target: Path, link: bool) -> None:
    if target.exists():  # the image is in two lists
        return
    if isinstance(source, ItemImage) or parse_record_image_path(source):
        write_bytes(target, file_content(source))
        return
    if link:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(os.path.realpath(source), target)
            return
    shutil.copyfile(source, target)
