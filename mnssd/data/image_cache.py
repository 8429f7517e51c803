"""Cache of decoded images on disk, at the reduction at which training reads them.

Decoding an image of 12 megapixels takes a hundred times longer than reading its reduced pixels
(benchmarks/RESULTS.md).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Iterable, Optional, Union

import numpy as np

from ..errors import OptionError
from ..files import atomic_write
from ..options import Size
from .image import choose_reduction, read_image, reduced_size
from .sample import Sample

_FORMAT = 2
"""Increased when `read_image` changes, which invalidates older entries."""

_MAGIC = b"mnssdRGB"
_HEAD = struct.Struct("<8sIII")
"""Magic, width, height, CRC-32 of the pixels; RGB rows follow."""


class ImageCache:
    """Reads images as `read_image` does, and stores the pixels for the next time.

    Safe for concurrent threads and processes. Entries are keyed by the file's path, size and modification
    time, so a changed file is decoded again. Stale entries remain until the folder is deleted, which is
    possible at any time. Damaged entries are replaced. Raises OptionError if the folder cannot be created.
    """

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = Path(folder)
        self._writable = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(
                f"{folder}: cannot be created ({error.strerror}); choose another folder for the image cache"
            ) from error

    def read(self, path: Union[str, Path], reduction: int = 1) -> np.ndarray:
        """Read an image as `read_image` does. Warns once, and decodes each image, if writing fails."""
        entry = self._entry(path, reduction)
        if entry is None:
            return read_image(path, reduction)
        image = _load(entry)
        if image is None:
            image = read_image(path, reduction)
            if self._writable:
                self._store(entry, image)
        return image

    def check_space(self, samples: Iterable[Sample], target: Size) -> str:
        """Describe the space that `samples` need; raises OptionError if the disk has less."""
        needed = 0
        for sample in samples:
            width, height = reduced_size(sample.size, choose_reduction(sample.size, target))
            needed += 3 * width * height
        free = shutil.disk_usage(self.folder).free
        used = sum(entry.stat().st_size for entry in self.folder.glob("??/*.rgb"))
        if needed - used > free:
            raise OptionError(
                f"{self.folder}: the image cache needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "choose a folder on another disk, or train without the cache"
            )
        return f"image cache: {self.folder}, {needed / 1e9:.2f} GB once all images have been read"

    def _entry(self, path: Union[str, Path], reduction: int) -> Optional[Path]:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # reported by the reader
            return None
        identity = (_FORMAT, os.path.realpath(path), status.st_size, status.st_mtime_ns, reduction)
        name = hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / name[:2] / f"{name[2:34]}.rgb"

    def _store(self, entry: Path, image: np.ndarray) -> None:
        head = _HEAD.pack(_MAGIC, image.shape[1], image.shape[0], zlib.crc32(image.data))
        try:
            entry.parent.mkdir(exist_ok=True)
            # Not flushed to the disk: the checksum detects an entry damaged by a crash.
            with atomic_write(entry, "wb", sync=False) as file:
                file.write(head)
                file.write(image.data)
        except OSError as error:
            self._writable = False
            problem = f"{self.folder}: cannot write the image cache ({error.strerror})"
            warnings.warn(
                f"{problem}; images that are not in it are decoded each time", RuntimeWarning, stacklevel=2
            )


def _load(entry: Path) -> Optional[np.ndarray]:
    """The image of an entry; None if it is missing or damaged."""
    try:
        with open(entry, "rb") as file:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return None
            magic, width, height, checksum = _HEAD.unpack(head)
            length = os.fstat(file.fileno()).st_size - _HEAD.size
            if magic != _MAGIC or length != width * height * 3:
                return None
            image = np.empty((height, width, 3), np.uint8)
            file.readinto(image.data.cast("B"))
    except (OSError, ValueError):
        return None
    return image if zlib.crc32(image.data) == checksum else None
