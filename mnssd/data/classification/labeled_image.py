"""Classification dataset: images with one label each, and reading their pixels."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from ...options import Size
from ..dataset import SampleSequence
from ..image import choose_reduction, decode_image, read_bytes, read_header, read_part

COMPARED_BYTES = 4096
"""Bytes at the end of an image file that tell it from another one of the same name and size."""


@dataclass(frozen=True)
class LabeledImage:
    """An image, or a crop of one, and its label.

    Attributes
    ----------
    image_id : str
        Unique in a dataset.
    image_path : str
        File, and position in it, for messages.
    label : int
        Index into the dataset's ``classes``.
    file : str
        File to read.
    box : tuple of float, optional
        Crop xmin, ymin, xmax, ymax in inclusive pixels; None for the whole image.
    byte_range : (int, int), optional
        First byte and number of bytes of the image in `file`; None for the whole file.
    """

    image_id: str
    image_path: str
    label: int
    file: str
    box: Optional[Tuple[float, float, float, float]] = None
    byte_range: Optional[Tuple[int, int]] = None


Read = Callable[[LabeledImage, Size], np.ndarray]
"""``(image, min_size) -> (height, width, 3)`` uint8 RGB, at least of `min_size` unless the image is
smaller."""


def read_labeled_image(image: LabeledImage, min_size: Size) -> np.ndarray:
    """Read and crop an encoded image, reduced to no less than `min_size`; raises ImageError."""
    data = read_bytes(image.file) if image.byte_range is None else read_part(image.file, *image.byte_range)
    if image.box is None:
        size = read_header(data, image.image_path).size
        return decode_image(data, image.image_path, choose_reduction(size, min_size))
    box = np.array(image.box)
    crop_width, crop_height = (box[2:] - box[:2]).astype(int) + 1
    reduction = choose_reduction((crop_width, crop_height), min_size)
    pixels = decode_image(data, image.image_path, reduction)
    sides = np.array(pixels.shape[1::-1])
    left, top = low = np.clip((box[:2] / reduction).astype(int), 0, sides - 1)
    right, bottom = np.clip((box[2:] / reduction).astype(int) + 1, low + 1, sides)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


@dataclass(frozen=True, eq=False)
class ClassificationDataset(SampleSequence[LabeledImage]):
    """A sequence of labeled images, as `Dataset`; `read` reads the pixels of one."""

    name: str
    classes: Tuple[str, ...]
    samples: List[LabeledImage]
    notes: List[str] = field(default_factory=list)
    read: Read = read_labeled_image

    def with_classes(self, classes: Tuple[str, ...]) -> ClassificationDataset:
        """The dataset with labels that index `classes`; images of other classes are left out."""
        if classes == self.classes:
            return self
        index = {name: label for label, name in enumerate(classes)}
        samples = [
            replace(image, label=index[self.classes[image.label]])
            for image in self.samples
            if self.classes[image.label] in index
        ]
        return replace(self, classes=classes, samples=samples)

    def as_gluon(self) -> Any:
        """The dataset as a `gluon.data.Dataset` with the items of Gluon's `ImageFolderDataset`.

        An item is the image, ``(height, width, 3)`` uint8 RGB as `mx.nd.NDArray`, and its label. The names of
        the labels are the attributes ``classes`` and ``synsets``.
        """
        from ..gluon.views import ClassificationView

        return ClassificationView(self)

    def content(self, image: LabeledImage) -> Dict[str, bytes]:
        """The class of an image, and as bytes what tells it from other images of the class."""
        name, size, end = self.classes[image.label], 0, b""
        if image.byte_range is None and image.box is None:
            with contextlib.suppress(OSError), open(image.file, "rb") as file:  # reported when its turn comes
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - COMPARED_BYTES))
                end = file.read()
        folder = name + os.sep
        image_id = image.image_id[len(folder) :] if image.image_id.startswith(folder) else image.image_id
        return {name: repr((image_id, size, image.box, image.byte_range)).encode() + end}

    def counts(self) -> np.ndarray:
        """``(C,)`` int number of images per class."""
        return np.bincount([image.label for image in self.samples], minlength=len(self.classes))
