"""Datasets of GluonCV are read as our readers read their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gluoncv.data as gcv
import numpy as np
import pytest
from gluoncv.data.transforms.presets.ssd import SSDDefaultTrainTransform
from helpers.gluon_datasets import KINDS, SPLIT, Items, assert_same_objects, make_copies, voc
from mxnet.gluon.data import SequentialSampler, SimpleDataset

from mnssd.data.dataset import Dataset
from mnssd.data.gluon.read import class_names, from_gluon
from mnssd.data.open import open_dataset
from mnssd.errors import DataError


@pytest.fixture(scope="module")
def copies(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_copies(shapes, tmp_path_factory.mktemp("copies"))


@pytest.fixture(scope="module")
def ours(copies: Path) -> Dataset:
    return open_dataset("voc", copies / "voc", SPLIT)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_our_reader(kind: str, copies: Path, ours: Dataset) -> None:
    make, folder = KINDS[kind]
    expected = open_dataset("auto", copies / folder, SPLIT, ours.classes)
    dataset = from_gluon(make(copies, ours.classes), ours.classes)
    assert any(sample.difficult.any() for sample in dataset)
    assert_same_objects(dataset, expected)
    if kind != "a user's own":
        assert [s.image_path for s in dataset] == [s.image_path for s in expected]
        assert [s.image_id for s in dataset] == [s.image_id for s in expected]
    assert not dataset.findings


@pytest.fixture(scope="module")
def cells(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_copies(str(shared / "bccd" / "BCCD"), tmp_path_factory.mktemp("cells"))


@pytest.mark.slow  # as above, with 87 photographs of 1,137 cells
@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_photographs_are_those_of_our_reader(kind: str, cells: Path) -> None:
    make, folder = KINDS[kind]
    expected = open_dataset("auto", cells / folder, SPLIT)
    assert_same_objects(from_gluon(make(cells, expected.classes), expected.classes), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_chosen_items_are_read_alone(kind: str, copies: Path, ours: Dataset) -> None:
    dataset = KINDS[kind][0](copies, ours.classes)
    if isinstance(dataset, Items):
        dataset = SimpleDataset(dataset)
    whole = from_gluon(dataset, ours.classes)
    chosen = [
        (dataset.take(3), range(3)),
        (dataset.shard(3, 1), range(3, 6)),
        (dataset.filter(lambda image, label=None: True).take(2), range(2)),
        (dataset.sample(SequentialSampler(2, 1)), range(1, 3)),
        (dataset.shard(2, 1).take(2), range(4, 6)),
    ]
    for part, rows in chosen:
        expected = replace(whole, samples=[whole[row] for row in rows])
        assert_same_objects(from_gluon(part, ours.classes), expected)


def test_classes_of_a_chosen_part_are_known(copies: Path, ours: Dataset) -> None:
    assert class_names(voc(copies, ours.classes).take(2)) == ours.classes
    assert class_names(SimpleDataset([1, 2])) is None


def test_names_follow_the_index_map(copies: Path, ours: Dataset) -> None:
    index_map = {name: label for label, name in enumerate(reversed(ours.classes))}
    dataset = type(voc(copies, ours.classes))(str(copies), (("voc", SPLIT),), index_map=index_map)
    result = from_gluon(dataset)
    assert result.classes == tuple(reversed(ours.classes))
    assert_same_objects(result.with_classes(ours.classes), ours)


def test_index_map_that_joins_classes_needs_names(copies: Path, ours: Dataset) -> None:
    index_map = {name: label // 3 for label, name in enumerate(ours.classes)}
    dataset = type(voc(copies, ours.classes))(str(copies), (("voc", SPLIT),), index_map=index_map)
    with pytest.raises(DataError):
        from_gluon(dataset)
    result = from_gluon(dataset, ["round", "other"])
    for sample, other in zip(result, ours):
        np.testing.assert_array_equal(sample.labels, other.labels // 3)


def test_only_the_classes_of_the_dataset_are_read(copies: Path, ours: Dataset) -> None:
    result = from_gluon(voc(copies, ours.classes[1:3]))
    assert result.classes == ours.classes[1:3]
    assert_same_objects(result, ours.with_classes(ours.classes[1:3]))
    assert {finding.code for finding in result.findings} == {"class-ignored"}


def test_classes_are_chosen_by_name(copies: Path, ours: Dataset) -> None:
    chosen = (ours.classes[2], ours.classes[0])
    assert_same_objects(from_gluon(voc(copies, ours.classes), chosen), ours.with_classes(chosen))


def test_labels_of_a_subclass_are_used(copies: Path, ours: Dataset) -> None:
    def first_object(dataset: Any, index: int) -> np.ndarray:
        return gcv.VOCDetection._load_label(dataset, index)[:1]

    def moved(dataset: Any, index: int) -> Any:
        image, label = gcv.VOCDetection.__getitem__(dataset, index)
        return image, label + [[1, 0, 1, 0, 0, 0]]

    result = from_gluon(voc(copies, ours.classes, _load_label=first_object))
    assert [s.image_path for s in result] == [s.image_path for s in ours]
    assert [s.boxes.tolist() for s in result] == [s.boxes[:1].tolist() for s in ours]
    result = from_gluon(voc(copies, ours.classes, __getitem__=moved))
    for sample, other in zip(result, ours):
        right = np.minimum(other.boxes + [1, 0, 1, 0], np.array(other.size * 2) - 1)
        np.testing.assert_array_equal(sample.boxes, right)


def test_ours_are_read_again_unchanged(ours: Dataset) -> None:
    assert from_gluon(ours.as_gluon()).samples == ours.samples
    assert from_gluon(ours.as_gluon().shard(2, 1)).samples == ours.samples[4:]
    assert from_gluon(ours).samples == ours.samples


@pytest.mark.parametrize("kind", ["LstDetection", "RecordFileDetection"])
def test_classes_without_names_are_refused(kind: str, copies: Path, ours: Dataset) -> None:
    dataset = KINDS[kind][0](copies, ours.classes)
    with pytest.raises(DataError, match=kind):
        from_gluon(dataset)


@pytest.mark.parametrize("classes", ["cat", b"cat", 3])
def test_classes_that_are_no_list_of_names_are_refused(classes: Any) -> None:
    with pytest.raises(DataError, match="Items"):
        from_gluon(Items([], classes))


def test_transforms_for_training_and_mixtures_are_refused(copies: Path, ours: Dataset) -> None:
    dataset = voc(copies, ours.classes)
    with pytest.raises(DataError, match="item 0"):
        from_gluon(dataset.transform(SSDDefaultTrainTransform(64, 64)), ours.classes)
    with pytest.raises(DataError, match="MixupDetection"):
        from_gluon(gcv.MixupDetection(dataset), ours.classes)


def test_difficult_objects_need_a_column(copies: Path, ours: Dataset) -> None:
    dataset = KINDS["LstDetection"][0](copies, ours.classes)
    dataset._labels = [
        np.concatenate([[4, 5, 0, 0], label[4:].reshape(-1, 6)[:, :5].ravel()]) for label in dataset._labels
    ]
    result = from_gluon(dataset, ours.classes)
    assert [len(sample.labels) for sample in result] == [len(sample.labels) for sample in ours]
    assert not any(sample.difficult.any() for sample in result)


def test_pixel_labels_of_a_list(copies: Path, ours: Dataset) -> None:
    dataset = KINDS["LstDetection"][0](copies, ours.classes)
    for label, sample in zip(dataset._labels, ours):
        label[4:].reshape(-1, 6)[:, 1:5] = sample.boxes
    dataset._coord_normalized = False
    assert_same_objects(from_gluon(dataset, ours.classes), ours)


def test_missing_image_is_skipped(copies: Path, ours: Dataset) -> None:
    dataset = KINDS["LstDetection"][0](copies, ours.classes)
    dataset._items[3] += ".missing"
    result = from_gluon(dataset, ours.classes)
    assert len(result) == len(ours) - 1
    assert [finding.where for finding in result.findings] == ["item 3"]


def test_bccd_as_our_reader(shared: Path) -> None:
    folder = shared / "bccd" / "BCCD"
    names = ("Platelets", "RBC", "WBC")
    expected = open_dataset("voc", folder, "test", names)

    class Cells(gcv.VOCDetection):
        CLASSES = tuple(name.lower() for name in names)

    dataset = from_gluon(Cells(str(folder.parent), (("BCCD", "test"),)))
    assert_same_objects(replace(dataset, classes=names), expected, pixels=False)
    assert [s.image_id for s in dataset] == [s.image_id for s in expected]
    custom = gcv.CustomVOCDetection(generate_classes=True, root=str(folder), splits=(("", "test"),))
    assert_same_objects(from_gluon(custom), expected, pixels=False)
