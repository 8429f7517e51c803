"""A dataset of the tiles of large images, to train on: small objects are larger in them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import DataError
from ..options import Size
from .dataset import Dataset
from .image import image_size, read_image
from .item_images import ItemImage, ppm_content
from .sample import Sample
from .tiles import Window, choose_grid, make_windows

EMPTY_SHARE = 0.25
"""Windows without objects that are kept, for each window with objects."""

_IMAGES_KEPT = 2
"""Decoded images kept: the windows of an image are read one after the other."""

Decode = Callable[[str], np.ndarray]


def tile_dataset(
    dataset: Dataset, tiles: str, net_size: Size, smallest_anchor: Optional[float] = None
) -> Dataset:
    """The windows of the images of a dataset in which detection with the same tiles looks, as images.

    Boxes are clipped to the window; those whose center is outside of it are left out, as in the augmentation
    of the training. All windows with objects are kept, and some without. Images that are not divided are
    unchanged. Pixels are read when a window's image is.

    Parameters
    ----------
    dataset : Dataset
    tiles : str
        As returned by `tiles.parse_tiles`.
    net_size, smallest_anchor
        See `tiles.choose_grid`.

    Raises
    ------
    DataError
        If no image can be used.
    """
    decode: Decode = lru_cache(maxsize=_IMAGES_KEPT)(read_image)
    samples: List[Sample] = []
    unusable: List[str] = []
    for sample in dataset:
        try:
            samples += _divide(sample, tiles, net_size, smallest_anchor, decode)
        except DataError as error:
            unusable.append(str(error))
    if unusable and not samples:
        raise DataError(f"{dataset.name}: no image can be divided; the first: {unusable[0]}")
    notes = [f"{len(samples)} windows of {len(dataset) - len(unusable)} images"]
    if unusable:
        notes.append(f"{len(unusable)} images left out, such as: {unusable[0]}")
    return replace(dataset, samples=samples, notes=[*dataset.notes, *notes])


def _divide(
    sample: Sample, tiles: str, net_size: Size, smallest_anchor: Optional[float], decode: Decode
) -> List[Sample]:
    """The windows of an image; raises DataError if it cannot be used."""
    size = image_size(sample.image_path)
    if size != sample.size:
        annotated = "x".join(map(str, sample.size))
        raise DataError(f"{sample.image_path}: {size[0]}x{size[1]}, but annotated as {annotated}")
    windows = make_windows(size, choose_grid(tiles, size, net_size, smallest_anchor))
    if len(windows) == 1:
        return [sample]
    parts = [_part(sample, window, decode) for window in windows]
    return [parts[row] for row in _chosen([len(part.boxes) > 0 for part in parts])]


def _part(sample: Sample, window: Window, decode: Decode) -> Sample:
    """The sample of a window."""
    rows, boxes = boxes_in(sample.boxes, window)
    place = "_".join(map(str, window[:4]))
    path = ItemImage(f"{sample.image_path}[{place}]", partial(_content, sample.image_path, window, decode))
    return Sample(
        f"{sample.image_id}_{place}", path, boxes, sample.labels[rows], sample.difficult[rows], window.size
    )


def boxes_in(boxes: np.ndarray, window: Window) -> Tuple[np.ndarray, np.ndarray]:
    """Rows of the boxes ``(N, 4)`` whose center is in the window, and these boxes, clipped, in its pixels."""
    first = np.array([window.left, window.top], np.float32)
    last = np.array([window.right, window.bottom], np.float32) - 1
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    rows = np.flatnonzero(((center >= first) & (center <= last)).all(axis=1))
    clipped = np.clip(boxes[rows].reshape(-1, 2, 2), first, last) - first
    return rows, clipped.reshape(-1, 4).astype(np.float32)


def _chosen(has_objects: Sequence[bool]) -> List[int]:
    """Rows of the windows to keep: those with objects, and evenly spread ones without; at least one."""
    full = np.flatnonzero(has_objects)
    empty = np.flatnonzero(~np.array(has_objects))
    count = min(len(empty), max(round(EMPTY_SHARE * len(full)), int(len(full) == 0)))
    kept = empty[np.linspace(0, len(empty) - 1, count).round().astype(int)] if count else empty[:0]
    return sorted([*full.tolist(), *kept.tolist()])


def _content(path: str, window: Window, decode: Decode) -> bytes:
    pixels = decode(path)[window.top : window.bottom, window.left : window.right]
    return ppm_content(pixels)
