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

from mnssd.data.classification.datasets import OPENERS, open_classification_dataset
from mnssd.data.classification.labeled_image import LabeledImage, read_labeled_image
from mnssd.data.classification.options import ClassAugmentOptions
from mnssd.data.classification.transforms import _COLORS, _SHAPES, ClassificationTransform, val_transform
from mnssd.data.image import read_image
from mnssd.data.shapes.dataset import SHAPE_CLASSES, make_shapes
from mnssd.errors import DataError, ImageError, OptionError
from mnssd.data.classification.options import CLASSIFICATION_ROOTS


def fill(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, make_image(number, 40, 30))


def test_kinds_are_said_twice() -> None:
    assert set(OPENERS) == set(CLASSIFICATION_ROOTS)
    with pytest.raises(OptionError, match="did you mean folder"):
        open_classification_dataset("foldr", None, "train")


class TestFolder:
    def test_split_by_hand(self, tmp_path: Path) -> None:
        fill(
            tmp_path, "train/dog/b.jpg", "train/dog/deep/a.png", "train/a cat é/1.JPG", "train/.hidden/x.jpg"
        )
        fill(tmp_path, "val/dog/v.jpg", "val/stranger/s.jpg")
        (tmp_path / "train" / "nothing").mkdir()
        (tmp_path / "train" / "dog" / "notes.txt").write_text("no image")
        (tmp_path / "train" / "loose.jpg").write_bytes(b"")
        train, val = (open_classification_dataset("folder", str(tmp_path), role) for role in ("train", "val"))
        assert train.classes == val.classes == ("a cat é", "dog")
        assert [(image.image_id, image.label) for image in train] == [
            (os.path.join("a cat é", "1.JPG"), 0),
            (os.path.join("dog", "b.jpg"), 1),
            (os.path.join("dog", "deep", "a.png"), 1),
        ]
        assert train.notes == ["1 classes without an image left out: nothing"]
        assert len(val) == 1
        assert "val: 1 classes without training images left out: stranger" in val.notes
        assert train.counts().tolist() == [1, 2]

    def test_not_split_is_split_by_names_and_stays_so(self, tmp_path: Path) -> None:
        fill(tmp_path, *(f"{name}/{i}.png" for name in ("a", "b") for i in range(60)))
        train, val = (open_classification_dataset("folder", str(tmp_path), role) for role in ("train", "val"))
        ids = [{image.image_id for image in part} for part in (train, val)]
        assert not ids[0] & ids[1]
        assert len(ids[0] | ids[1]) == 120
        assert 0.1 < len(val) / 120 < 0.3
        assert "not split: 20% of the images" in train.notes[0]
        fill(tmp_path, "a/another.png")
        assert ids[1] <= {
            image.image_id for image in open_classification_dataset("folder", str(tmp_path), "val")
        }

    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        odd = os.fsdecode(b"b\xff")
        try:
            fill(tmp_path, "a/1.png")
            (tmp_path / odd).mkdir()
            (tmp_path / odd / "1.png").write_bytes((tmp_path / "a" / "1.png").read_bytes())
        except OSError:
            pytest.skip("this file system takes no such name")
        found = open_classification_dataset("folder", str(tmp_path), "train")
        assert found.classes == ("a", "b\\udcff")
        assert (
            sum(len(open_classification_dataset("folder", str(tmp_path), role)) for role in ("train", "val"))
            == 2
        )

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ([], "cannot be read"),
            (["a/1.png"], "1 class folders with images"),
            (["train/a/1.png", "train/b/1.png"], "has train but none of val, valid"),
        ],
    )
    def test_what_is_no_such_folder(self, files: List[str], words: str, tmp_path: Path) -> None:
        fill(tmp_path / "set", *files)
        with pytest.raises(DataError, match=words):
            open_classification_dataset("folder", str(tmp_path / "set"), "val")


def test_crops_of_the_shapes(tmp_path: Path) -> None:
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
def test_a_part_of_a_large_image_is_read_reduced(ending: str, tmp_path: Path) -> None:
    path = write_image(tmp_path / f"large{ending}", cv2.resize(make_image(0, 40, 30), (800, 600)))
    image = LabeledImage("a", path, 0, path, (100.0, 200.0, 499.0, 399.0))
    full = read_labeled_image(image, (300, 150))
    half = read_labeled_image(image, (200, 100))
    assert full.shape == (200, 400, 3)
    assert half.shape == (100, 200, 3)
    again = cv2.resize(full, (200, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(int) - again).mean() < 3


# ---- record files ------------------------------------------------------------------------------------------


def test_record_files_of_mxnet(tmp_path: Path) -> None:
    """Written by MXNet's own writer; two ways to give one label, and labels that are none."""
    from mxnet import recordio

    writer = recordio.MXRecordIO(str(tmp_path / "train.rec"), "w")
    contents = [make_image(i, 20 + i, 17) for i in range(5)]
    labels: List[Any] = [2, 0.0, np.array([1.0], np.float32), [1.0, 2.0], 0.5]
    for number, (image, label) in enumerate(zip(contents, labels)):
        coded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        writer.write(recordio.pack(recordio.IRHeader(0, label, number, 0), coded))
    writer.close()
    found = open_classification_dataset("recordio", str(tmp_path), "train")
    assert [image.label for image in found] == [2, 0, 1]
    assert found.classes == ("0", "1", "2")
    assert found.notes == ["train.rec: 2 records without one whole label left out"]
    for image, pixels in zip(found, contents):
        np.testing.assert_array_equal(found.read(image, (8, 8)), read_reduced(pixels, tmp_path))
    (tmp_path / "classes.txt").write_text("x\ny\n")
    with pytest.raises(DataError, match="2 names, but labels go up to 2"):
        open_classification_dataset("recordio", str(tmp_path), "train")
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    assert open_classification_dataset("recordio", str(tmp_path), "train").classes == ("x", "y", "z")
    with pytest.raises(DataError, match=r"none of val\.rec"):
        open_classification_dataset("recordio", str(tmp_path), "val")


def read_reduced(pixels: np.ndarray, folder: Path) -> np.ndarray:
    path = write_image(folder / "same.png", pixels)
    return read_labeled_image(LabeledImage("", path, 0, path), (8, 8))


@pytest.mark.parametrize("damage", ["cut", "magic", "longer"])
def test_damaged_record_files_are_refused(damage: str, tmp_path: Path) -> None:
    record = struct.pack("<IfQQ", 0, 1.0, 0, 0) + b"image bytes!"
    good = struct.pack("<II", 0xCED7230A, len(record)) + record
    bad = {
        "cut": good + good[:-4],
        "magic": good + b"\0" * 40,
        "longer": good + struct.pack("<II", 0xCED7230A, 10**6) + record,
    }
    (tmp_path / "train.rec").write_bytes(bad[damage])
    with pytest.raises(DataError, match=rf"train\.rec: damaged at byte {len(good)}"):
        open_classification_dataset("recordio", str(tmp_path), "train")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_records_or_refused(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.rec").write_bytes(content)
        with pytest.raises(DataError):
            open_classification_dataset("recordio", folder, "train")


# ---- CIFAR-10 ----------------------------------------------------------------------------------------------


def test_cifar10(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    content = b"".join(bytes([label]) + image.tobytes() for label, image in zip((3, 9, 0, 1), pixels))
    (tmp_path / "test_batch.bin").write_bytes(content)
    found = open_classification_dataset("cifar10", str(tmp_path), "val")
    assert [found.classes[image.label] for image in found] == ["cat", "truck", "airplane", "automobile"]
    np.testing.assert_array_equal(found.read(found[2], (8, 8)), pixels[2].transpose(1, 2, 0))
    with pytest.raises(DataError, match=r"data_batch_1\.bin: cannot be read"):
        open_classification_dataset("cifar10", str(tmp_path), "train")
    (tmp_path / "test_batch.bin").write_bytes(content[:-1])
    with pytest.raises(DataError, match="damaged"):
        open_classification_dataset("cifar10", str(tmp_path), "val")
    with pytest.raises(ImageError, match="cut short"):
        found.read(found[3], (8, 8))


# ---- augmentation ------------------------------------------------------------------------------------------

PLAIN = ClassAugmentOptions(crop_area=1.0, crop_stretch=1.0, flip_probability=0.0, operations=0)


def test_nothing_drawn_is_a_plain_resize() -> None:
    image = make_image(3, 64, 48)
    result = ClassificationTransform((32, 24), PLAIN)(image, np.random.default_rng(0))
    assert np.abs(result.astype(int) - cv2.resize(image, (32, 24), interpolation=cv2.INTER_AREA)).max() <= 2
    same = ClassificationTransform((64, 48), PLAIN)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(same, image)


def test_a_mirror_image() -> None:
    image = make_image(3, 64, 48)
    mirrored = ClassAugmentOptions(crop_area=1.0, crop_stretch=1.0, flip_probability=1.0, operations=0)
    result = ClassificationTransform((64, 48), mirrored)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(result, image[:, ::-1])


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 2**32),
    st.floats(0.01, 1),
    st.floats(1, 4),
    st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_any_image_gives_one_of_the_size(
    width: int, height: int, seed: int, area: float, stretch: float, count: int
) -> None:
    options = ClassAugmentOptions(crop_area=area, crop_stretch=stretch, operations=count, magnitude=1.0)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    transform = ClassificationTransform((24, 16), options)
    first, again = (transform(image, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == (16, 24, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)


def test_crops_stay_inside_the_image() -> None:
    """A white image shows no border unless an operation moves it."""
    white = np.full((50, 70, 3), 255, np.uint8)
    options = ClassAugmentOptions(crop_area=0.1, crop_stretch=3.0, operations=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert ClassificationTransform((16, 16), options)(white, rng).min() >= 254


@pytest.mark.parametrize("name", sorted(_COLORS))
def test_no_change_at_strength_nought(name: str) -> None:
    image = make_image(1, 30, 20)
    result = _COLORS[name](image, 0.0)
    if name not in ("autocontrast", "equalize"):  # these know no strength
        np.testing.assert_array_equal(result, image)
    assert result.shape == image.shape
    changed = _COLORS[name](image, 1.0)
    assert changed.shape == image.shape
    assert (changed != image).any()


@pytest.mark.parametrize("name", sorted(_SHAPES))
def test_geometric_operations_are_undone_by_their_inverse(name: str) -> None:
    there = _SHAPES[name](0.7, (30, 20))
    assert not np.allclose(there, np.eye(3))
    np.testing.assert_allclose(_SHAPES[name](0.0, (30, 20)), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(there @ _SHAPES[name](-0.7, (30, 20)), np.eye(3), atol=1e-9)


def test_the_part_that_is_measured() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[10:90, 20:180] = 255
    assert val_transform(image, (50, 50), 0.8).min() == 255
    assert val_transform(image, (50, 50), 1.0).min() == 0


@pytest.mark.parametrize(
    "values", [{"crop_area": 0}, {"crop_stretch": 0.5}, {"magnitude": 2}, {"mixup": -1}, {"val_crop": 1.1}]
)
def test_options_that_make_no_sense(values: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ClassAugmentOptions(**values)
