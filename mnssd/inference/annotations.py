"""Detections as Pascal VOC annotations, to be corrected by hand."""

from __future__ import annotations

import glob
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Dict, List, Sequence

from ..data.annotations.annotation import AnnotationError
from ..data.annotations.voc_xml import read_annotation
from ..data.image_files import is_image_file
from ..errors import MnssdError
from ..files import NAME_ERRORS, fit_name, unescape_name, write_bytes
from .results import DetectionResult
from .video import is_address, is_camera

_MARK = re.compile(rb"<!-- written by mnssd detect, CRC-32 ([0-9a-f]{8}) -->\n\Z")


class AnnotationWriter:
    """Writes one XML file per image, in folders as those of the images.

    With the inputs ``new`` and an image ``new/a/x.jpg`` the file is ``a/x.xml``; with inputs in several
    folders, paths start at the folder around all of them. Where ``x.jpg`` and ``x.png`` are in one folder,
    the files are ``x.jpg.xml`` and ``x.png.xml``. A file that was changed by hand, or is by another tool, is
    kept.

    Parameters
    ----------
    folder : str
        An existing folder.
    inputs : sequence of str
        The inputs of the command: files, folders and patterns.

    Attributes
    ----------
    kept : int
        Files that were not replaced.
    """

    def __init__(self, folder: str, inputs: Sequence[str]) -> None:
        self.kept = 0
        self._folder = Path(folder)
        files = (entry for entry in inputs if not is_address(entry) and not is_camera(entry))
        folders = [os.path.abspath(_folder_of(entry)) for entry in files]
        self._base = os.path.commonpath(folders) if folders else ""
        self._stems: Dict[str, Dict[str, int]] = {}  # images per name without ending, by folder

    def write(self, image: str, result: DetectionResult) -> None:
        """Write the annotation of an image file; raises MnssdError if that fails."""
        path = self._path_of(image)
        if path.exists() and not _is_unchanged(path):
            self.kept += 1
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MnssdError(f"{path}: cannot be written ({error.strerror})") from error
        text = result.to_voc(os.path.basename(image)).encode("utf-8", NAME_ERRORS)
        write_bytes(
            path, text + f"<!-- written by mnssd detect, CRC-32 {zlib.crc32(text):08x} -->\n".encode()
        )

    def _path_of(self, image: str) -> Path:
        folder, name = os.path.split(image)
        below = os.path.relpath(os.path.abspath(folder), self._base)
        stem = os.path.splitext(name)[0]
        path = self._folder / below / fit_name(stem, ".xml")
        if self._images_in(folder)[stem] > 1 and not _names_image(path, name):
            return path.with_name(fit_name(name, ".xml"))
        return path

    def _images_in(self, folder: str) -> Dict[str, int]:
        if folder not in self._stems:
            names: List[str] = []
            try:
                with os.scandir(folder or os.curdir) as entries:
                    names = [entry.name for entry in entries if is_image_file(entry.path)]
            except OSError:
                pass
            self._stems[folder] = Counter(os.path.splitext(name)[0] for name in names)
        return self._stems[folder]


def _folder_of(entry: str) -> str:
    """The folder of an input; of a pattern, the one that contains all that it matches."""
    if os.path.isdir(entry):
        return entry
    parts = os.path.dirname(entry).split(os.sep)
    if not os.path.lexists(entry):
        for number in range(1, len(parts) + 1):
            place = os.sep.join(parts[:number]) or os.sep
            if glob.has_magic(parts[number - 1]) and not os.path.isdir(place):
                parts = parts[: number - 1]
                break
    return os.sep.join(parts) or (os.sep if entry.startswith(os.sep) else os.curdir)


def _names_image(path: Path, name: str) -> bool:
    """Whether a file is the annotation of this image, from a time when its name was unique."""
    if not path.is_file():
        return False
    try:
        return any(name in (file, unescape_name(file)) for file in read_annotation(path).files)
    except AnnotationError:
        return False


def _is_unchanged(path: Path) -> bool:
    """Whether a file is as `AnnotationWriter` has written it."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    mark = _MARK.search(content)
    return mark is not None and zlib.crc32(content[: mark.start()]) == int(mark[1], 16)
