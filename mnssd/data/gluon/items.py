"""Datasets that are any Python object with ``len()`` and items ``(image, label)``.

Their images stay in the object: an item is read when its image is needed, and one at a time, since datasets
need not be safe for threads.
"""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...errors import DataError, ImageError
from ..annotations.annotation import AnnotationError, AnnotationList
from ..annotations.label_rows import label_rows, parse_rows
from ..item_images import ItemImage, ppm_content
from ..pixels import rgb_pixels

_READ_TWICE = 3  # items, to notice a dataset that returns something else each time


class Item(NamedTuple):
    """An item: ``(height, width, 3)`` uint8 RGB pixels, and the rows of its label; see `label_rows`."""

    pixels: np.ndarray
    rows: np.ndarray


class ItemReader:
    """Reads the items of a dataset called `name`; safe for threads."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name
        self._lock = threading.Lock()
        self._last: Optional[Tuple[int, Item]] = None

    def read(self, index: int, again: bool = False) -> Item:
        """An item, from the dataset unless it is the one that was read last; raises AnnotationError."""
        with self._lock:
            if again or self._last is None or self._last[0] != index:
                self._last = (index, self._read(index))
            return self._last[1]

    def _read(self, index: int) -> Item:
        try:
            item = self._dataset[index]
            if isinstance(item, (tuple, list)) and len(item) == 2:
                # A copy, as a dataset may give the same array again with other pixels.
                return Item(np.array(rgb_pixels(item[0]), order="C"), label_rows(item[1]))
            found = f"{type(item).__name__} of {len(item)}" if hasattr(item, "__len__") else repr(item)[:60]
        except AnnotationError:
            raise
        except ImageError as error:
            raise AnnotationError(f"the image: {error}") from error
        except Exception as error:  # the dataset is the user's and may raise anything
            raise AnnotationError(f"raised {type(error).__name__}: {error}") from error
        raise AnnotationError(f"expected (image, label), got {found}")

    def path(self, index: int) -> ItemImage:
        """Path of the image of an item, whose label must stay as it is now; see `Item`."""
        rows = self.read(index).rows.tobytes()
        return ItemImage(f"{self._name}[{index}]", partial(self._content, index, rows))

    def _content(self, index: int, rows: bytes) -> bytes:
        try:
            item = self.read(index)
        except AnnotationError as error:
            raise ImageError(f"{self._name}[{index}]: {error}") from error
        if item.rows.tobytes() != rows:
            raise ImageError(f"{self._name}[{index}]: {_RANDOM}")
        return ppm_content(item.pixels)


_RANDOM = (
    "gives another image or label each time it is read; give the dataset without its random transforms: "
    "images are augmented here (options such as --expand-probability and --mosaic)"
)


def read_items(dataset: Any, name: str, classes: Sequence[str]) -> AnnotationList:
    """Annotations of the items of a dataset, each of which is read once.

    An image id is the item's index and a digest of its pixels, so that a resumed run notices other images.

    Raises DataError if the first items are not the same when they are read again.
    """
    reader, result = ItemReader(dataset, name), AnnotationList()
    for index in range(len(dataset)):
        where = f"item {index}"
        try:
            item = reader.read(index)
            if index < _READ_TWICE:
                other = reader.read(index, again=True)
                if any(a.tobytes() != b.tobytes() for a, b in zip(item, other)):
                    raise DataError(f"{name}, {where}: {_RANDOM}")
            digest = hashlib.blake2b(item.pixels.tobytes(), digest_size=4).hexdigest()
            objects = parse_rows(item.rows, classes, result.findings, name, where)
            result.add(f"{index:06d}-{digest}", reader.path(index), name, None, objects, where)
        except AnnotationError as error:
            result.skip(error, name, where)
    result.check_skipped(name, len(dataset))
    return result
