"""Our datasets as those of Gluon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from gluoncv.data import VOCDetection
from gluoncv.data.batchify import Pad, Stack, Tuple
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform, SSDDefaultValTransform
from helpers.gluon_datasets import subclass
from mxnet.gluon.data import DataLoader, SequentialSampler
from mxnet.gluon.data import Dataset as GluonDataset

from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.errors import ImageError


@pytest.fixture(scope="module")
def ours(shapes: str) -> Dataset:
    return open_dataset("voc", shapes, "val")


def test_items_are_those_of_voc_detection(shapes: str, ours: Dataset) -> None:
    view = ours.as_gluon()
    assert isinstance(view, GluonDataset)
    assert (len(view), view.classes, view.num_class) == (8, ours.classes, 6)
    theirs = subclass(VOCDetection, ours.classes)(root=shapes, splits=(("", "val"),))
    for (image, label), (expected, expected_label) in zip(view, theirs):
        assert type(image) is type(expected)
        assert (image.dtype, image.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(image.asnumpy(), expected.asnumpy())
        np.testing.assert_array_equal(label, expected_label)
        assert label.dtype == expected_label.dtype
    np.testing.assert_array_equal(view[-1][1], view[7][1])


def test_methods_of_gluon(ours: Dataset) -> None:
    view = ours.as_gluon()
    labels = [label.tolist() for _, label in view]
    assert [item[1].tolist() for item in view.take(3)] == labels[:3]
    assert [item[1].tolist() for item in view.shard(3, 2)] == labels[6:]
    assert [item[1].tolist() for item in view.sample(SequentialSampler(2, 4))] == labels[4:6]
    many = view.filter(lambda item: len(item[1]) > 3)
    assert [item[1].tolist() for item in many] == [label for label in labels if len(label) > 3]
    assert list(view.transform(lambda image, label: len(label))) == [len(label) for label in labels]
    assert view.transform_first(lambda image: image.shape)[0][0] == (96, 96, 3)


def test_image_without_objects(ours: Dataset) -> None:
    empty = ours.with_classes(("none",)).as_gluon()
    assert empty[0][1].shape == (0, 6)


def test_transforms_and_loader_of_gluoncv(ours: Dataset) -> None:
    anchors = mx.nd.array([[[0.5, 0.5, 0.3, 0.3], [0.3, 0.3, 0.2, 0.2]]])
    train = ours.as_gluon().transform(SSDDefaultTrainTransform(64, 48, anchors))
    batch = next(iter(DataLoader(train, 4, batchify_fn=Tuple(Stack(), Stack(), Stack()), thread_pool=True)))
    assert [array.shape for array in batch] == [(4, 3, 48, 64), (4, 2), (4, 2, 4)]
    val = ours.as_gluon().transform(SSDDefaultValTransform(64, 48))
    images, labels = next(iter(DataLoader(val, 8, batchify_fn=Tuple(Stack(), Pad(pad_val=-1)))))
    assert images.shape == (8, 3, 48, 64)
    for label, sample in zip(labels.asnumpy(), ours):
        scale = [64 / 96, 48 / 96] * 2
        np.testing.assert_allclose(label[: len(sample.labels), :4], sample.boxes * scale, rtol=1e-5)
        assert (label[len(sample.labels) :] == -1).all()


def test_unreadable_image_raises(ours: Dataset, shapes: str, tmp_path: Path) -> None:
    sample = ours[0]
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(Path(sample.image_path).read_bytes()[:200])
    view = replace(ours, samples=[replace(sample, image_path=str(damaged))]).as_gluon()
    with pytest.raises(ImageError, match="damaged.jpg"):
        view[0]


def test_classification(shapes: str) -> None:
    dataset = open_classification_dataset("shapes", shapes, "val")
    view = dataset.as_gluon()
    assert isinstance(view, GluonDataset)
    assert view.classes == view.synsets == dataset.classes
    assert len(view) == len(dataset)
    image, label = view[3]
    assert label == dataset[3].label
    np.testing.assert_array_equal(image.asnumpy(), dataset.read(dataset[3], (1000, 1000)))
    assert [item[1] for item in view.take(4)] == [entry.label for entry in dataset[:4]]
