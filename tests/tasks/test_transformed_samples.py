"""Training and validation images through the transforms of GluonCV and of the user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Optional, Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform, SSDDefaultValTransform
from helpers.detectors import CLASSES, SIZE

from mnssd.data.dataset import Dataset
from mnssd.data.image import read_image, resize_for_network
from mnssd.data.loader import Loader
from mnssd.data.open import open_dataset
from mnssd.errors import DataError, TransformError
from mnssd.inference.predict import Skipped, evaluate
from mnssd.tasks.detection_samples import TrainingSamples
from mnssd.tasks.transformed_samples import TransformedImages, TransformedSamples, gluon_item


@pytest.fixture(scope="module")
def dataset(shapes: str) -> Dataset:
    """Eight images with the classes of `tiny_detector`, the second without objects, some difficult."""
    samples = []
    for number, sample in enumerate(open_dataset("voc", shapes, "val")):
        flags = np.arange(len(sample.labels)) % 3 == 2
        samples.append(replace(sample, labels=sample.labels % len(CLASSES), difficult=flags))
        if number == 1:
            none = {"boxes": np.zeros((0, 4), np.float32), "labels": flags[:0].astype(np.int32)}
            samples[1] = replace(sample, **none, difficult=flags[:0])
    return Dataset("val", CLASSES, samples)


def samples_of(transform: Any, net: Any) -> TransformedSamples:
    return TransformedSamples(transform, net.size, net.anchors, net.classes, 0.5, gluon_item)


def resize(image: Any, label: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """As the toolkit resizes images without augmentation."""
    pixels, label = image.asnumpy(), label.copy()
    label[:, :4] *= np.tile(np.array(SIZE) / pixels.shape[1::-1], 2)
    return resize_for_network(pixels, SIZE), label


def batches(load: Any, dataset: Dataset, workers: int, start: int = 0) -> List[Any]:
    return list(Loader(dataset, load, 2, 0, workers).epoch(1, start))


def assert_same(one: List[Any], other: List[Any]) -> None:
    assert len(one) == len(other)
    for batch, expected in zip(one, other):
        assert batch.indices == expected.indices
        for array, expected_array in zip(batch.arrays, expected.arrays):
            np.testing.assert_array_equal(array, expected_array)


def test_own_transform_gives_the_samples_of_the_toolkit(tiny_detector: Any, dataset: Dataset) -> None:
    net, _ = tiny_detector
    plain = TrainingSamples(dataset, net.size, net.anchors, None, 0.5, read_image)
    for sample in dataset:
        made, expected = (load(sample, np.random.default_rng(0)) for load in (samples_of(resize, net), plain))
        np.testing.assert_array_equal(made[0], expected[0])
        np.testing.assert_array_equal(made[1], expected[1])
        np.testing.assert_allclose(made[2], expected[2], atol=1e-4)


def test_batches_of_gluoncv_are_the_same_with_any_threads(tiny_detector: Any, dataset: Dataset) -> None:
    """Also from the middle of an epoch; and its targets are those assigned to its boxes."""
    net, _ = tiny_detector
    load = samples_of(SSDDefaultTrainTransform(*SIZE), net)
    expected = batches(load, dataset, 0)
    for workers in (1, 3):
        assert_same(batches(load, dataset, workers), expected)
    assert_same(batches(load, dataset, 2, start=2), expected[2:])
    with_targets = samples_of(SSDDefaultTrainTransform(*SIZE, mx.nd.array(net.anchors[None])), net)
    for batch, other in zip(batches(with_targets, dataset, 2), expected):
        np.testing.assert_array_equal(batch.arrays[0], other.arrays[0])
        np.testing.assert_array_equal(batch.arrays[1], other.arrays[1])
        np.testing.assert_allclose(batch.arrays[2], other.arrays[2], atol=1e-3)


def fails(image: Any, label: Any) -> None:
    raise RuntimeError("broken")


def returns_nothing(image: Any, label: Any) -> None:
    return None


def forgets_to_scale(image: Any, label: Any) -> Tuple[Any, Any]:
    return resize(image, label)[0], label + 200


def drops_columns(image: Any, label: Any) -> Tuple[Any, Any]:
    image, label = resize(image, np.concatenate([label, np.ones((1, 6))]))
    return image, label[:, :4]


@pytest.mark.parametrize("transform", [fails, returns_nothing, forgets_to_scale, drops_columns])
def test_a_wrong_transform_is_named_with_the_sample(
    tiny_detector: Any, dataset: Dataset, transform: Any
) -> None:
    load = samples_of(transform, tiny_detector[0])
    sample = dataset[0]
    with pytest.raises(TransformError, match=transform.__name__) as raised:
        load(sample, np.random.default_rng(0))
    assert sample.image_path in str(raised.value)
    validated = TransformedImages(transform, SIZE, tiny_detector[0].anchors, CLASSES)
    with pytest.raises(TransformError, match=transform.__name__):
        validated(sample)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_that_fails_at_times_is_replaced_at_that_time(
    tiny_detector: Any, dataset: Dataset, workers: int
) -> None:
    def sometimes(image: Any, label: Any) -> Any:
        return None if np.random.rand() < 0.3 else resize(image, label)

    load = samples_of(sometimes, tiny_detector[0])
    loader = Loader(dataset, load, 2, 0, workers)
    first = [list(loader.epoch(epoch)) for epoch in (0, 1)]
    assert len(loader.skipped) > 0
    assert all("sometimes" in reason for reason in loader.skipped.values())
    assert_same(batches(load, dataset, workers), first[1])  # as in a process that began with this epoch


def test_a_transform_that_always_fails_ends_the_training(tiny_detector: Any, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="fails"):
        batches(samples_of(fails, tiny_detector[0]), dataset, 2)


def score(net: Any, dataset: Dataset, transform: Optional[Any]) -> Any:
    read = transform and TransformedImages(transform, SIZE, net.anchors, CLASSES)
    return evaluate(net, dataset, "voc12", 0.1, batch_size=3, read=read)


@pytest.mark.parametrize("transform", [SSDDefaultValTransform(*SIZE), resize])
def test_validation_is_that_of_the_toolkit(tiny_detector: Any, dataset: Dataset, transform: Any) -> None:
    net, _ = tiny_detector
    expected, result = (score(net, dataset, given) for given in (None, transform))
    assert result.positives == expected.positives
    assert 0 < expected.mean_ap == pytest.approx(result.mean_ap, abs=0.02)
    read = TransformedImages(transform, SIZE, net.anchors, CLASSES)
    for sample in dataset:
        prepared = read(sample)
        np.testing.assert_allclose(prepared.sample.boxes, sample.boxes, atol=1e-3)
        np.testing.assert_array_equal(prepared.sample.labels, sample.labels)
        np.testing.assert_array_equal(prepared.sample.difficult, sample.difficult)


def test_validation_images_that_a_transform_refuses_are_skipped(tiny_detector: Any, dataset: Dataset) -> None:
    def refuses(image: Any, label: Any) -> Any:
        assert len(label)
        return resize(image, label)

    net, _ = tiny_detector
    skipped: List[Skipped] = []
    read = TransformedImages(refuses, SIZE, net.anchors, CLASSES)
    result = evaluate(net, dataset, on_bad_image="skip", skipped=skipped, read=read)
    assert (result.images, [one.sample.image_id for one in skipped]) == (7, [dataset[1].image_id])
