"""A classifier's data: folders with odd names, crops, MXNet's record files, CIFAR-10; their augmentation."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import pytest
from helpers.detectors import make_image, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.classification import CLASSIFICATION_ROOTS
from mnssd.data.classification.datasets import OPENERS, open_classification_dataset
from mnssd.data.classification.labeled_image import LabeledImage, read_labeled_image
from mnssd.data.image import read_image
from mnssd.data.shapes.dataset import SHAPE_CLASSES, make_shapes
from mnssd.errors import DataError, ImageError, OptionError


def fill(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, make_image(number, 40, 30))


def test_every_dataset_has_a_default_folder_and_an_opener() -> None:
    assert set(OPENERS) == set(CLASSIFICATION_ROOTS)
    with pytest.raises(OptionError, match="foldr.*folder"):
        open_classification_dataset("foldr", None, "train")


class TestFolder:
    def test_train_and_val_folders(self, tmp_path: Path) -> None:
        fill(
            tmp_path, "train/dog/b.jpg", "train/dog/deep/a.png", "train/a cat é/1.JPG", "train/.hidden/x.jpg"
        )
        fill(tmp_path, "val/dog/v.jpg", "val/unknown/s.jpg")
        (tmp_path / "train" / "empty").mkdir()
        (tmp_path / "train" / "dog" / "notes.txt").write_text("text")
        (tmp_path / "train" / "loose.jpg").write_bytes(b"")
        train, val = (open_classification_dataset("folder", str(tmp_path), role) for role in ("train", "val"))
        assert train.classes == val.classes == ("a cat é", "dog")
        assert [(image.image_id, image.label) for image in train] == [
            (os.path.join("a cat é", "1.JPG"), 0),
            (os.path.join("dog", "b.jpg"), 1),
            (os.path.join("dog", "deep", "a.png"), 1),
        ]
        assert len(train.notes) == 1
        assert "1 (empty)" in train.notes[0]
        assert len(val) == 1
        assert any("val" in note and "1 (unknown)" in note for note in val.notes)
        assert train.counts().tolist() == [1, 2]

    def test_images_are_split_by_name_without_train_and_val_folders(self, tmp_path: Path) -> None:
        fill(tmp_path, *(f"{name}/{i}.png" for name in ("a", "b") for i in range(60)))
        train, val = (open_classification_dataset("folder", str(tmp_path), role) for role in ("train", "val"))
        ids = [{image.image_id for image in part} for part in (train, val)]
        assert not ids[0] & ids[1]
        assert len(ids[0] | ids[1]) == 120
        assert 0.1 < len(val) / 120 < 0.3
        assert "20%" in train.notes[0]
        fill(tmp_path, "a/new.png")
        assert ids[1] <= {
            image.image_id for image in open_classification_dataset("folder", str(tmp_path), "val")
        }

    def test_class_name_that_is_not_text_is_escaped(self, tmp_path: Path) -> None:
        odd = os.fsdecode(b"b\xff")
        try:
            fill(tmp_path, "a/1.png")
            (tmp_path / odd).mkdir()
            (tmp_path / odd / "1.png").write_bytes((tmp_path / "a" / "1.png").read_bytes())
        except OSError:
            pytest.skip("the file system refuses the name")
        dataset = open_classification_dataset("folder", str(tmp_path), "train")
        assert dataset.classes == ("a", "b\\udcff")
        assert (
            sum(len(open_classification_dataset("folder", str(tmp_path), role)) for role in ("train", "val"))
            == 2
        )

    @pytest.mark.parametrize(
        ("files", "parts"),
        [
            ([], "set"),
            (["a/1.png"], "set: 1 "),
            (["train/a/1.png", "train/b/1.png"], "set: "),
        ],
    )
    def test_unsuitable_folder_is_refused(self, files: List[str], parts: str, tmp_path: Path) -> None:
        fill(tmp_path / "set", *files)
        with pytest.raises(DataError, match=parts):
            open_classification_dataset("folder", str(tmp_path / "set"), "val")


def test_shapes_are_cropped_around_objects(tmp_path: Path) -> None:
    make_shapes(tmp_path / "s", train=5, val=2, size=(96, 96))
    crops = open_classification_dataset("shapes", str(tmp_path / "s"), "train")
    assert crops.classes == SHAPE_CLASSES
    assert len({image.image_id for image in crops}) == len(crops) >= 5
    for image in crops:
        pixels = crops.read(image, (32, 32))
        assert image.box is not None
        whole = read_image(image.file)
        left, top, right, bottom = (int(edge) for edge in image.box)
        np.testing.assert_array_equal(pixels, whole[top : bottom + 1, left : right + 1])


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_crop_of_a_large_image_is_reduced(ending: str, tmp_path: Path) -> None:
    path = write_image(tmp_path / f"large{ending}", cv2.resize(make_image(0, 40, 30), (800, 600)))
    image = LabeledImage("a", path, 0, path, (100.0, 200.0, 499.0, 399.0))
    full = read_labeled_image(image, (300, 150))
    half = read_labeled_image(image, (200, 100))
    assert full.shape == (200, 400, 3)
    assert half.shape == (100, 200, 3)
    again = cv2.resize(full, (200, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(int) - again).mean() < 3


# ---- RecordIO ----


def test_record_file_written_by_mxnet(tmp_path: Path) -> None:
    """Both encodings of one label are read; records with other labels are skipped."""
    from mxnet import recordio

    writer = recordio.MXRecordIO(str(tmp_path / "train.rec"), "w")
    (tmp_path / "val.rec").write_bytes(b"")  # so that nothing is held out
    contents = [make_image(i, 20 + i, 17) for i in range(5)]
    labels: List[Any] = [2, 0.0, np.array([1.0], np.float32), [1.0, 2.0], 0.5]
    for number, (image, label) in enumerate(zip(contents, labels)):
        coded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        writer.write(recordio.pack(recordio.IRHeader(0, label, number, 0), coded))
    writer.close()
    dataset = open_classification_dataset("recordio", str(tmp_path), "train")
    assert [image.label for image in dataset] == [2, 0, 1]
    assert dataset.classes == ("0", "1", "2")
    assert len(dataset.notes) == 1
    assert dataset.notes[0].startswith("train.rec: ")
    assert dataset.notes[0].endswith(": 2")
    for image, pixels in zip(dataset, contents):
        np.testing.assert_array_equal(dataset.read(image, (8, 8)), read_reduced(pixels, tmp_path))
    (tmp_path / "classes.txt").write_text("x\ny\n")
    with pytest.raises(DataError, match=r"classes\.txt: 2 .* 2$"):
        open_classification_dataset("recordio", str(tmp_path), "train")
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    assert open_classification_dataset("recordio", str(tmp_path), "train").classes == ("x", "y", "z")


def read_reduced(pixels: np.ndarray, folder: Path) -> np.ndarray:
    path = write_image(folder / "same.png", pixels)
    return read_labeled_image(LabeledImage("", path, 0, path), (8, 8))


@pytest.mark.parametrize("kind", ["folder", "recordio"])
def test_part_of_the_training_images_is_held_out_if_there_are_no_others(kind: str, tmp_path: Path) -> None:
    """As of a folder that is not divided; the whole is evaluated as a dataset of its own."""
    if kind == "folder":
        fill(tmp_path, *(f"training/{name}/{i}.png" for name in ("a", "b") for i in range(30)))
    else:
        record = struct.pack("<IfQQ", 0, 1.0, 0, 0) + b"image bytes!"
        (tmp_path / "train.rec").write_bytes((struct.pack("<II", 0xCED7230A, len(record)) + record) * 60)
    train, val, whole = (
        open_classification_dataset(kind, str(tmp_path), role) for role in ("train", "val", "eval")
    )
    ids = [{image.image_id for image in part} for part in (train, val, whole)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == ids[2]
    assert len(ids[2]) == 60
    assert 3 < len(val) < 24
    assert train.classes == val.classes == whole.classes
    assert any("20%" in note for note in train.notes)


@pytest.mark.parametrize("damage", ["cut", "magic", "longer"])
def test_damaged_record_files_are_refused(damage: str, tmp_path: Path) -> None:
    record = struct.pack("<IfQQ", 0, 1.0, 0, 0) + b"image bytes!"
    intact = struct.pack("<II", 0xCED7230A, len(record)) + record
    damaged = {
        "cut": intact + intact[:-4],
        "magic": intact + b"\0" * 40,
        "longer": intact + struct.pack("<II", 0xCED7230A, 10**6) + record,
    }
    (tmp_path / "train.rec").write_bytes(damaged[damage])
    with pytest.raises(DataError, match=rf"train\.rec.*byte {len(intact)}\b"):
        open_classification_dataset("recordio", str(tmp_path), "train")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.rec").write_bytes(content)
        with pytest.raises(DataError):
            open_classification_dataset("recordio", folder, "train")


# ---- CIFAR-10 ----


def test_cifar10_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    content = b"".join(bytes([label]) + image.tobytes() for label, image in zip((3, 9, 0, 1), pixels))
    (tmp_path / "test_batch.bin").write_bytes(content)
    dataset = open_classification_dataset("cifar10", str(tmp_path), "val")
    assert [dataset.classes[image.label] for image in dataset] == ["cat", "truck", "airplane", "automobile"]
    np.testing.assert_array_equal(dataset.read(dataset[2], (8, 8)), pixels[2].transpose(1, 2, 0))
    with pytest.raises(DataError, match=r"data_batch_1\.bin"):
        open_classification_dataset("cifar10", str(tmp_path), "train")
    (tmp_path / "test_batch.bin").write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"test_batch\.bin"):
        open_classification_dataset("cifar10", str(tmp_path), "val")
    with pytest.raises(ImageError, match=r"test_batch\.bin"):
        dataset.read(dataset[3], (8, 8))
