"""``--pipeline gluoncv``: samples, targets and loss of GluonCV in place of those of the toolkit.

Images and labels come from GluonCV's dataset, then `SSDDefaultTrainTransform` augments them and generates the
targets, `gluoncv.data.batchify` stacks them, and `gluoncv.loss.SSDMultiBoxLoss` is the loss. Order of the
images, network, optimizer, schedule, validation and checkpoints are the same as without it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Tuple

import mxnet as mx
import numpy as np

from ..boxes import STDS
from ..data.dataset import Dataset
from ..data.gluon.own_datasets import gluoncv_dataset
from ..data.gluon.transform import rows_of
from ..data.image import complete_header, read_bytes
from ..data.loader import Arrays
from ..data.open import default_splits
from ..data.sample import Sample
from ..errors import DataError
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..train.options import DetectionOptions
from .detection_loss import MIN_NEGATIVES, Loss
from .transformed_samples import Item, TransformedSamples, gluon_item

MATCH_IOU = 0.5
"""IoU threshold for a positive anchor, the default of GluonCV."""


class GluoncvSamples(TransformedSamples):
    """Training samples by GluonCV's `SSDDefaultTrainTransform`, which generates the targets, too.

    Parameters
    ----------
    item : callable
        Gives the image and the label of a sample; see `training_items`.
    net : mnssd.nn.SSD
        Its size, anchors and classes are used.
    """

    def __init__(self, item: Item, net: Any) -> None:
        from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform

        transform = SSDDefaultTrainTransform(
            *net.size, mx.nd.array(net.anchors[None]), IMAGENET_MEAN, IMAGENET_STD, MATCH_IOU, STDS
        )
        super().__init__(transform, net.size, net.anchors, net.classes, MATCH_IOU, item)


class GluoncvLoss:
    """`gluoncv.loss.SSDMultiBoxLoss`, called as `MultiBoxLoss`.

    With `MIN_NEGATIVES` instead of none, so that images without objects contribute.
    """

    def __init__(self) -> None:
        from gluoncv.loss import SSDMultiBoxLoss

        self._loss = SSDMultiBoxLoss(min_hard_negatives=MIN_NEGATIVES)

    def __call__(
        self, cls_preds: Any, box_preds: Any, cls_target: np.ndarray, box_target: np.ndarray
    ) -> Loss:
        """The loss of a batch; see `MultiBoxLoss`."""
        targets = (mx.nd.array(target, ctx=cls_preds.context) for target in (cls_target, box_target))
        parts = self._loss(cls_preds, box_preds, *targets)
        return Loss(*(part[0].sum() for part in parts))


def batchify(samples: List[Arrays]) -> Arrays:
    """The arrays of samples stacked by `gluoncv.data.batchify`.

    They lie in its shared memory, which a hybridized network refuses, so they are copied out of it.
    """
    from gluoncv.data.batchify import Stack, Tuple

    parts = Tuple([Stack() for _ in samples[0]])(samples)
    return tuple(part.asnumpy() for part in parts)


class _Items:
    """Items of a dataset of GluonCV, by sample."""

    def __init__(self, dataset: Any, indices: Mapping[str, int]) -> None:
        self._dataset, self._indices = dataset, indices

    def __call__(self, sample: Sample) -> Tuple[Any, np.ndarray]:
        """Image and label; raises DataError for an image that is damaged or of another size than annotated.

        GluonCV 0.10.5 decodes truncated images with black rows, and some kinds with other levels; drops
        objects, such as those at column 0 in files that count from 0; and has no rows for images without
        objects. Here the first are refused, and the others are read by the toolkit.
        """
        path = sample.image_path
        header = complete_header(read_bytes(path), path)
        if header.by_pillow or header.orientation != 1:
            return gluon_item(sample)
        try:
            image, label = self._dataset[self._indices[path]]
        except mx.base.MXNetError as error:
            raise DataError(f"{path}: GluonCV cannot decode it: {str(error).splitlines()[-1]}") from error
        if (image.shape[1], image.shape[0]) != sample.size:
            raise DataError(
                f"{path}: {image.shape[1]}x{image.shape[0]}, but annotated as "
                f"{sample.size[0]}x{sample.size[1]}; correct the annotation"
            )
        is_usable = len(sample.labels) > 0 and same_objects(label, sample)
        return image, label if is_usable else rows_of(sample)


def same_objects(label: Any, sample: Sample) -> bool:
    """Whether a label of GluonCV has the boxes and classes of a sample, to the precision of float32."""
    rows, own = np.asarray(label, np.float64), rows_of(sample)[:, :5]
    rows = rows[rows[:, 4] >= 0] if rows.size else rows  # COCODetection gives images without objects a row
    if rows.size == 0 or len(rows) != len(own):
        return rows.size == own.size == 0
    return bool(np.allclose(rows[:, :5], own, atol=1e-3))


def training_items(train_set: Dataset, data: DetectionOptions) -> Tuple[Item, str]:
    """What gives the images and labels of a training set, and a line for the user.

    GluonCV's own dataset, if it has all images; else our dataset as one of Gluon.
    """
    splits = data.train_splits or default_splits(data.dataset, "train", data.data_root)
    dataset, paths = gluoncv_dataset(train_set, splits, str(data.folder))
    if dataset is None:
        return gluon_item, "pipeline gluoncv: images and labels by Dataset.as_gluon()"
    indices = {os.path.abspath(path): index for index, path in enumerate(paths)}
    by_path: Dict[str, int] = {s.image_path: indices[os.path.abspath(s.image_path)] for s in train_set}
    labels = dataset._label_cache if hasattr(dataset, "_label_cache") else dataset._labels
    other = [s.image_id for s in train_set if not same_objects(labels[by_path[s.image_path]], s)]
    name = type(dataset).__mro__[1].__name__
    note = f"pipeline gluoncv: images and labels by {name}"
    if other:
        note += (
            f"; it lacks or changes objects of {len(other)} images ({', '.join(other[:3])}), ours are used"
        )
    return _Items(dataset, by_path), note
