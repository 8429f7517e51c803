"""Decoded images on disk, at the scale at which training reads them.

Worth its space where files are large: an image of twelve megapixels takes a hundred times longer to
decode than its shrunken pixels take to read (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Iterable, Optional, Tuple, Union

import numpy as np

from ..errors import OptionError
from ..files import atomic_write
from .image import choose_reduction, read_image
from .sample import Sample

_FORMAT = 1
"""Counts up when `read_image` comes to give other pixels, so that older entries are not used."""

_MAGIC = b"mnssdRGB"
_HEAD = struct.Struct("<8sIII")
"""Magic, width, height, CRC-32 of the pixels; they follow, row by row, RGB."""


class ImageCache:
    """Reads images as `read_image` does, the second time from what it kept the first time.

    May be used by several threads and several processes at once. An entry is found by the file's path, size
    and time of change, so a changed file is read anew; entries that are of no use any more stay until the
    folder is deleted. A damaged entry is replaced.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing. It may be deleted at any time.

    Raises
    ------
    OptionError
        When the folder cannot be made.
    """

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = Path(folder)
        self._writing = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(
                f"{folder}: cannot be made ({error.strerror}); name another folder for the image cache"
            ) from error

    def read(self, path: Union[str, Path], reduction: int = 1) -> np.ndarray:
        """As `read_image`; when nothing can be written, each image is decoded, and that is said once.

        Raises
        ------
        ImageError
            As `read_image`; nothing is kept then.
        """
        entry = self._entry(path, reduction)
        if entry is None:
            return read_image(path, reduction)
        kept = _load(entry)
        if kept is not None:
            return kept
        image = read_image(path, reduction)
        if self._writing:
            self._keep(entry, image)
        return image

    def check_space(self, samples: Iterable[Sample], target: Tuple[int, int]) -> str:
        """Compare what the images of `samples` will take with the space on the disk; returns a line about it.

        Raises
        ------
        OptionError
            When the space is less.
        """
        needed = 0
        for sample in samples:
            reduction = choose_reduction(sample.size, target)
            needed += 3 * -(-sample.size[0] // reduction) * -(-sample.size[1] // reduction)
        free = shutil.disk_usage(self.folder).free
        used = sum(entry.stat().st_size for entry in self.folder.glob("??/*.rgb"))
        if needed - used > free:
            raise OptionError(
                f"{self.folder}: the image cache will take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
                "free; make space, name a folder on another disk, or leave the cache out"
            )
        return f"decoded images are kept in {self.folder}, {needed / 1e9:.2f} GB when all have been read"

    def _entry(self, path: Union[str, Path], reduction: int) -> Optional[Path]:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # the reader will say what is wrong
            return None
        identity = (_FORMAT, os.path.realpath(path), status.st_size, status.st_mtime_ns, reduction)
        name = hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / name[:2] / f"{name[2:34]}.rgb"

    def _keep(self, entry: Path, image: np.ndarray) -> None:
        head = _HEAD.pack(_MAGIC, image.shape[1], image.shape[0], zlib.crc32(image.data))
        try:
            entry.parent.mkdir(exist_ok=True)
            # Not flushed to the disk: the checksum detects an entry damaged by a crash.
            with atomic_write(entry, "wb", sync=False) as file:
                file.write(head)
                file.write(image.data)
        except OSError as error:
            self._writing = False
            warnings.warn(
                f"{self.folder}: the image cache cannot be written ({error.strerror}); images not in "
                "it are decoded each time",
                RuntimeWarning,
                stacklevel=2,
            )


def _load(entry: Path) -> Optional[np.ndarray]:
    """What an entry holds; None when there is none, or none that is whole."""
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
