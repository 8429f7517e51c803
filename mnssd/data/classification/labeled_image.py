"""Classification dataset: images with one label each, and reading their pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, List, Optional, Sequence, Tuple, Union, overload

import numpy as np

from ...options import Size
from ..image import choose_reduction, decode_image, encoded_size, read_bytes, read_part


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
    """Read and crop an encoded image, reduced to no less than `min_size`.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    data = read_bytes(image.file) if image.byte_range is None else read_part(image.file, *image.byte_range)
    size = encoded_size(data, image.image_path)
    box = image.box or (0.0, 0.0, size[0] - 1.0, size[1] - 1.0)
    crop_size = (int(box[2] - box[0]) + 1, int(box[3] - box[1]) + 1)
    reduction = choose_reduction(crop_size, min_size)
    pixels = decode_image(data, image.image_path, reduction)
    if image.box is None:
        return pixels
    height, width = pixels.shape[:2]
    left, top = (min(max(0, int(edge / reduction)), side - 1) for edge, side in zip(box[:2], (width, height)))
    right, bottom = (
        min(max(int(edge / reduction) + 1, low + 1), side)
        for edge, low, side in zip(box[2:], (left, top), (width, height))
    )
    return np.ascontiguousarray(pixels[top:bottom, left:right])


@dataclass(frozen=True, eq=False)
class ClassificationDataset(Sequence[LabeledImage]):
    """A sequence of labeled images.

    Attributes
    ----------
    name : str
        Name in messages.
    classes : tuple of str
        Class names; labels are indices into it.
    images : list of LabeledImage
    notes : list of str
        Lines for the user about what was skipped, with counts and the first names.
    read : callable
        Reads the pixels of an image.
    """

    name: str
    classes: Tuple[str, ...]
    images: List[LabeledImage]
    notes: List[str] = field(default_factory=list)
    read: Read = read_labeled_image

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> LabeledImage: ...

    @overload
    def __getitem__(self, index: slice) -> List[LabeledImage]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[LabeledImage, List[LabeledImage]]:
        return self.images[index]

    def counts(self) -> np.ndarray:
        """``(C,)`` int number of images per class."""
        return np.bincount([image.label for image in self.images], minlength=len(self.classes))
