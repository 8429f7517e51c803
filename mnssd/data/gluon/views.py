"""Our datasets as those of Gluon: for its `DataLoader`, and for GluonCV's transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon.data import Dataset as GluonDataset

from ..image import read_image

if TYPE_CHECKING:
    from ..classification.labeled_image import ClassificationDataset
    from ..dataset import Dataset

_WHOLE = (1 << 20, 1 << 20)  # no image is larger, so none is reduced


class DetectionView(GluonDataset):  # type: ignore[misc]
    """A `Dataset` with the items of GluonCV's `VOCDetection`; see `Dataset.as_gluon`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the class indices."""
        return self.dataset.classes

    @property
    def num_class(self) -> int:
        """Number of classes."""
        return len(self.dataset.classes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tuple[Any, np.ndarray]:
        sample = self.dataset[int(index)]
        label = np.column_stack([sample.boxes, sample.labels, sample.difficult]).astype(np.float64)
        return mx.nd.array(read_image(sample.image_path), dtype=np.uint8), label


class ClassificationView(GluonDataset):  # type: ignore[misc]
    """A `ClassificationDataset` with the items of Gluon's `ImageFolderDataset`."""

    def __init__(self, dataset: ClassificationDataset) -> None:
        self.dataset = dataset

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the labels."""
        return self.dataset.classes

    @property
    def synsets(self) -> Tuple[str, ...]:
        """The same, as `ImageFolderDataset` calls them."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tuple[Any, int]:
        image = self.dataset[int(index)]
        return mx.nd.array(self.dataset.read(image, _WHOLE), dtype=np.uint8), image.label
