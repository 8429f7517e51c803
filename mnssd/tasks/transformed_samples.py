"""Samples of a dataset through a transform of the user: ``transform`` and ``val_transform`` of a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.gluon import transform as gluon
from ..data.image import Size, read_image
from ..data.loader import Arrays
from ..data.sample import Sample
from ..data.targets import TargetAssigner
from ..inference.predict import PreparedImage
from .detection_samples import Read, read_sample
from .given_transforms import Transform, title

Item = Callable[[Sample], Tuple[Any, np.ndarray]]
"""Gives image and label of a sample as GluonCV's datasets do: uint8 ``(h, w, 3)`` RGB, ``(N, 6)`` rows."""

_WHOLE = (1 << 20, 1 << 20)  # no image is larger, so none is reduced


def gluon_item(sample: Sample, read: Read = read_image) -> Tuple[Any, np.ndarray]:
    """Image and label of a sample as those of `Dataset.as_gluon`; raises DataError as `read_sample`."""
    image, boxes = read_sample(sample, _WHOLE, read)
    return mx.nd.array(image, dtype=np.uint8), gluon.rows_of(sample, boxes)


class TransformedSamples:
    """Training samples by a transform; called as `TrainingSamples`.

    Parameters
    ----------
    transform : callable
        GluonCV's `SSDDefaultTrainTransform`, or any callable that takes the image, ``(height, width, 3)``
        uint8 RGB as `mx.nd.NDArray`, and the label, ``(N, 6)`` float64 rows xmin, ymin, xmax, ymax, class,
        difficult. It returns the image for the network, normalized float ``(3, H, W)`` or uint8
        ``(H, W, 3)``, and either a label in its pixels or class targets ``(A,)`` and box targets ``(A, 4)``.
        It is called in one thread at a time, with the global generators of Python, NumPy and MXNet seeded
        for the image; numbers from other generators differ from run to run.
    size, anchors, match_iou
        As of `TrainingSamples`. `match_iou` is for labels.
    classes : sequence of str
    item : callable
        Gives the image and the label of a sample.

    Raises
    ------
    OptionError
        If a transform of GluonCV has been made for another size, normalization or other anchors.
    """

    def __init__(
        self,
        transform: Transform,
        size: Size,
        anchors: np.ndarray,
        classes: Sequence[str],
        match_iou: float,
        item: Item,
    ) -> None:
        gluon.check_preset(transform, title(transform), size, anchors)
        self._transform, self._size, self._classes, self._item = transform, size, classes, item
        self._assign = TargetAssigner(anchors, match_iou)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Arrays:
        """Network input and targets, as of `TrainingSamples`.

        Raises TransformError, which names the transform, the sample and what is wrong, besides the DataError
        of an image that cannot be used.
        """
        image, label = self._item(sample)
        with gluon.named(title(self._transform), sample):
            made = gluon.call(self._transform, image, label, rng)
            pixels = gluon.network_input(made[0], self._size)
            if len(made) == 2:
                boxes = gluon.boxes_and_labels(made[1], self._size, self._classes)
                return (pixels, *self._assign(*boxes))
            count = len(self._assign.anchors)
            return (pixels, *gluon.targets(made[1], made[2], count, len(self._classes)))


class TransformedImages:
    """Validation images by a transform, such as GluonCV's `SSDDefaultValTransform`; see `predict`.

    The boxes that it returns, in pixels of the network input, are those that detections are compared with.
    """

    def __init__(self, transform: Transform, size: Size, anchors: np.ndarray, classes: Sequence[str]) -> None:
        gluon.check_preset(transform, title(transform), size, anchors)
        self._transform, self._size, self._classes = transform, size, classes

    def __call__(self, sample: Sample) -> PreparedImage:
        """Network input of a sample, and the sample with the boxes that the transform has returned.

        The boxes are scaled to the pixels of the image file. Raises DataError as `TransformedSamples`.
        """
        image, label = gluon_item(sample)
        with gluon.named(title(self._transform), sample):
            made = gluon.call(self._transform, image, label, np.random.default_rng(0))
            pixels = gluon.network_input(made[0], self._size)
            boxes, labels = gluon.boxes_and_labels(made[1], self._size, self._classes)
            difficult = gluon.difficult_flags(made[1], sample)
        scale = np.array([sample.size[0] / self._size[0], sample.size[1] / self._size[1]] * 2)
        boxes, labels = (boxes * scale).astype(np.float32), labels.astype(np.int32)
        annotated = replace(sample, boxes=boxes, labels=labels, difficult=difficult)
        return PreparedImage(annotated, pixels, sample.size)
