"""Training samples of a detection dataset: image, class targets and box targets for one input size."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Optional, Tuple

import numpy as np

from ..data.dataset import Dataset
from ..data.image import Size, choose_reduction, read_image, reduced_size, to_network_input
from ..data.loader import Arrays
from ..data.paste import paste_objects
from ..data.sample import Sample
from ..data.targets import TargetAssigner
from ..data.transform_options import AugmentOptions
from ..data.transforms import FILL, Annotated, TrainTransform, ValTransform, mosaic
from ..errors import DataError

Read = Callable[[str, int], np.ndarray]


class TrainingSamples:
    """Reads, augments and encodes samples; call it with a sample and a random generator.

    Parameters
    ----------
    dataset : Dataset
        Source of the other images of a mosaic, and of objects to paste.
    size : (int, int)
        ``(width, height)`` of the network input.
    anchors : numpy.ndarray
        ``(A, 4)`` center x, center y, width, height in pixels of the network input.
    augment : AugmentOptions, optional
        Without it, images are only resized.
    match_iou : float
        IoU threshold for a positive anchor.
    read : callable
        `read_image` or a replacement for it.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: Size,
        anchors: np.ndarray,
        augment: Optional[AugmentOptions],
        match_iou: float,
        read: Read,
    ) -> None:
        self._dataset, self._size, self._read = dataset, size, read
        self._assign = TargetAssigner(anchors, match_iou)
        self._transform = ValTransform(size) if augment is None else TrainTransform(size, augment)
        self._mosaic, self._paste = (augment.mosaic, augment.paste) if augment else (0.0, 0.0)
        if augment:
            self._transform_mosaic = TrainTransform(size, replace(augment, expand_probability=0.0))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Arrays:
        """``(3, H, W)`` float32, ``(A,)`` class targets and ``(A, 4)`` box targets, see `data.targets`.

        Raises DataError as `read_sample`.
        """
        image, boxes, labels = self._read_annotated(sample)
        if self._paste and rng.random() < self._paste:
            image, boxes, labels = paste_objects((image, boxes, labels), self._companion(rng), rng)
        if self._mosaic and rng.random() < self._mosaic:
            parts = [(image, boxes, labels), *(self._companion(rng) for _ in range(3))]
            image, boxes, labels = self._transform_mosaic(*mosaic(parts, self._size, rng), rng)
        else:
            image, boxes, labels = self._transform(image, boxes, labels, rng)
        cls_target, box_target = self._assign(boxes, labels)
        return to_network_input([image])[0], cls_target, box_target

    def _read_annotated(self, sample: Sample) -> Annotated:
        """Image, boxes and labels; boxes to ignore have the label -1."""
        if sample.ignored is not None:
            boxes = np.concatenate([sample.boxes, sample.ignored])
            labels = np.concatenate([sample.labels, np.full(len(sample.ignored), -1, np.int32)])
            sample = replace(sample, boxes=boxes, labels=labels)
        return (*read_sample(sample, self._size, self._read), sample.labels)

    def _companion(self, rng: np.random.Generator) -> Annotated:
        """Another image; blank if unreadable, which is reported when its own turn comes."""
        other = self._dataset[int(rng.integers(len(self._dataset)))]
        try:
            return self._read_annotated(other)
        except DataError:
            return np.full((1, 1, 3), FILL, np.uint8), np.empty((0, 4), np.float32), np.empty(0, np.int64)


def read_sample(sample: Sample, size: Size, read: Read = read_image) -> Tuple[np.ndarray, np.ndarray]:
    """Read a sample's image, at reduced resolution if it is far larger than `size`, and its boxes.

    Returns
    -------
    image : numpy.ndarray
        ``(height, width, 3)`` uint8 RGB.
    boxes : numpy.ndarray
        ``(N, 4)`` float32 in pixels of `image`.

    Raises
    ------
    DataError
        If the image is unreadable, or its size differs from the annotated one: it is then unknown to which
        pixels the boxes refer.
    """
    reduction = choose_reduction(sample.size, size)
    image = read(sample.image_path, reduction)
    height, width = image.shape[:2]
    if reduced_size(sample.size, reduction) != (width, height):
        about = f"about {width * reduction}x{height * reduction}" if reduction > 1 else f"{width}x{height}"
        raise DataError(
            f"{sample.image_path}: {about}, but annotated as {sample.size[0]}x{sample.size[1]}; correct the "
            "annotation (EXIF orientation is applied when the image is read)"
        )
    scale = np.array([width / sample.size[0], height / sample.size[1]] * 2, np.float32)
    return image, sample.boxes * scale
