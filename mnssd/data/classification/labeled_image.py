"""Images with one label each: the form of a classifier's data, and how its pixels are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, List, Optional, Sequence, Tuple, Union, overload

import numpy as np

from ..image import choose_reduction, decode_image, encoded_size, read_bytes, read_part

Size = Tuple[int, int]


@dataclass(frozen=True)
class LabeledImage:
    """One image, or a part of one, and what it shows.

    Attributes
    ----------
    image_id : str
        Unique within a dataset.
    image_path : str
        What the user is told where it cannot be read: the file, and the place in it where there is one.
    label : int
        Index into the dataset's ``classes``.
    file : str
        The file.
    box : tuple of float, optional
        xmin, ymin, xmax, ymax of the part that is meant, in pixels as in `data.sample`; None for all of it.
    place : (int, int), optional
        First byte and number of bytes of the image within `file`; None for all of it.
    """

    image_id: str
    image_path: str
    label: int
    file: str
    box: Optional[Tuple[float, float, float, float]] = None
    place: Optional[Tuple[int, int]] = None


Read = Callable[[LabeledImage, Size], np.ndarray]
"""``(image, size wanted) -> (height, width, 3)`` uint8 RGB, at least of that size where the file has it."""


def read_labeled_image(image: LabeledImage, wanted: Size) -> np.ndarray:
    """Read an encoded image, reduced where it is far larger than `wanted`, and cut out what is meant.

    Raises
    ------
    ImageError
        When it cannot be read.
    """
    data = read_bytes(image.file) if image.place is None else read_part(image.file, *image.place)
    size = encoded_size(data, image.image_path)
    box = image.box or (0.0, 0.0, size[0] - 1.0, size[1] - 1.0)
    part = (int(box[2] - box[0]) + 1, int(box[3] - box[1]) + 1)
    reduction = choose_reduction(part, wanted)
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
    """A sequence of labelled images.

    Attributes
    ----------
    name : str
        What the user is shown.
    classes : tuple of str
        Names; a label is the index into them.
    images : list of LabeledImage
    notes : list of str
        One line each about what was left out or odd, with counts and the first names.
    read : callable
        Gives the pixels of one of the images.
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
        """``(C,)`` int: images of each class."""
        return np.bincount([image.label for image in self.images], minlength=len(self.classes))
