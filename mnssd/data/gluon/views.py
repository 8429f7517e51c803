"""Our datasets as those of Gluon: for its `DataLoader`, and for GluonCV's transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.data import Dataset as GluonDataset

from ..image import read_image
from .transform import rows_of

if TYPE_CHECKING:
    from ..classification.labeled_image import ClassificationDataset
    from ..dataset import Dataset

_WHOLE = (1 << 20, 1 << 20)  # no image is larger, so none is reduced


class _View(GluonDataset):  # type: ignore[misc]
    """A dataset of ours with Gluon's interface."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the class indices."""
        return tuple(self.dataset.classes)

    def __len__(self) -> int:
        return len(self.dataset)


class DetectionView(_View):
    """A `Dataset` with the items of GluonCV's `VOCDetection`; see `Dataset.as_gluon`."""

    dataset: Dataset

    @property
    def num_class(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def __getitem__(self, index: int) -> Tuple[Any, np.ndarray]:
        sample = self.dataset[int(index)]
        return mx.nd.array(read_image(sample.image_path), dtype=np.uint8), rows_of(sample)


class ClassificationView(_View):
    """A `ClassificationDataset` with the items of Gluon's `ImageFolderDataset`."""

    dataset: ClassificationDataset

    @property
    def synsets(self) -> Tuple[str, ...]:
        """The classes, as `ImageFolderDataset` calls them."""
        return self.classes

    def __getitem__(self, index: int) -> Tuple[Any, int]:
        image = self.dataset[int(index)]
        return mx.nd.array(self.dataset.read(image, _WHOLE), dtype=np.uint8), image.label
