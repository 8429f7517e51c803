"""Lists of MXNet's record files as real tools write them, and text files of class names."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import numpy as np
import pytest
from helpers.datasets import codes
from helpers.detectors import make_image, write_image

from mnssd.data.annotations.text_files import class_name, read_classes, read_lines
from mnssd.data.formats import formats

RECORDIO = formats["recordio"]

OBJECT = "0.1\t0.1\t0.4\t0.5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        write_image(tmp_path / f"{name}.jpg", make_image(seed, 200, 100))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "label", "name"),
    [
        ("cat\n\ndog\n", 2, "dog"),
        ("\ncat\n", 1, "cat"),
        ("cat\r\n\r\n\r\ndog", 3, "dog"),
        ("a  b\ncat", 0, "a b"),
    ],
)
def test_blank_lines_keep_the_numbers_of_classes(text: str, label: int, name: str, folder: Path) -> None:
    (folder / "classes.txt").write_bytes(text.encode())
    (folder / "train.lst").write_text(f"0\t2\t5\t{label}\t{OBJECT}\ta.jpg\n")
    dataset = RECORDIO.read(folder, "train", allow_absent=True)
    assert [dataset.classes[label] for label in dataset[0].labels] == [name]
    assert "" not in dataset.classes


@pytest.mark.parametrize(("text", "label"), [("cat\n\ndog\n", 1), ("\ncat\n", 0), ("cat\n\n\ndog", 2)])
def test_object_of_a_class_without_name_is_an_error(text: str, label: int, folder: Path) -> None:
    (folder / "classes.txt").write_text(text)
    (folder / "train.lst").write_text(f"0\t2\t5\t{label}\t{OBJECT}\ta.jpg\n")
    dataset = RECORDIO.read(folder, "train", allow_absent=True)
    assert codes(dataset) >= {"class-unknown"}
    assert not len(dataset[0].labels)


@pytest.mark.parametrize("name", ["train.lst", "Train.LST"])
@pytest.mark.parametrize("image", ["a.jpg", "a", "A.JPG", "/data/set/a.jpg", "x\\a.jpg"])
def test_names_of_lists_and_images(name: str, image: str, folder: Path) -> None:
    (folder / name).write_text(f"0\t2\t5\t0\t{OBJECT}\t{image}\n1\t2\t5\t0\t{OBJECT}\tb.jpg\n")
    (split,) = RECORDIO.lists(folder)
    dataset = RECORDIO.read(folder, split)
    assert [sample.image_id for sample in dataset] == [Path(image.replace("\\", "/")).stem, "b"]
    np.testing.assert_allclose(dataset[0].boxes, [[20, 10, 80, 50]])


def test_missing_image_is_skipped_and_counted(folder: Path) -> None:
    rows = [f"{number}\t2\t5\t0\t{OBJECT}\t{name}.jpg\n" for number, name in enumerate(("a", "gone", "b"))]
    (folder / "train.lst").write_text("".join(rows))
    dataset = RECORDIO.read(folder, "train")
    assert [sample.image_id for sample in dataset] == ["a", "b"]
    assert [finding.code for finding in dataset.findings] == ["image-missing"]


def test_line_without_tabs_is_counted(folder: Path) -> None:
    good = "".join(f"{n}\t2\t5\t0\t{OBJECT}\t{name}.jpg\n" for n, name in enumerate("ab"))
    (folder / "train.lst").write_text(good + "\n2 2 5 0 0.1 0.1 0.4 0.5 c.jpg\n")
    dataset = RECORDIO.read(folder, "train")
    assert len(dataset) == 2
    assert len(dataset.findings) == 1


def test_lines_of_one_image_are_joined(folder: Path) -> None:
    line = f"0\t2\t5\t0\t{OBJECT}\ta.jpg\n"
    other = "1\t2\t5\t1\t0.5\t0.5\t0.7\t0.9\ta.jpg\n"
    (folder / "train.lst").write_text(line + other + line)
    (sample,) = dataset = RECORDIO.read(folder, "train")
    assert sample.labels.tolist() == [0, 1]
    np.testing.assert_allclose(sample.boxes, [[20, 10, 80, 50], [100, 50, 140, 90]])
    assert codes(dataset) == {"image-listed-twice"}


def test_images_of_another_list_are_not_used(folder: Path) -> None:
    for name in ("train", "val"):
        (folder / name).mkdir()
        write_image(folder / name / "d.jpg", make_image(9, 200, 100))
        (folder / f"{name}.lst").write_text(f"0\t2\t5\t0\t{OBJECT}\t/x/d.jpg\n")
    for name in ("train", "val"):
        assert Path(RECORDIO.read(folder, name)[0].image_path).parent.name == name


# ---- text files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("cat\ndog\n".encode("utf-8-sig"), ("cat", "dog")),
        ("cat\r\ndog".encode("utf-16"), ("cat", "dog")),
        ("cat\ndog".encode("utf-16-le"), ("cat", "dog")),
        ("cat\ndog".encode("utf-16-be"), ("cat", "dog")),
        ("cat\ndog".encode("utf-32"), ("cat", "dog")),
        (b"cat\rdog\r", ("cat", "dog")),
        (b"NA\nnull\n1\n", ("NA", "null", "1")),
        ("caf\u00e9\n".encode(), ("caf\u00e9",)),
        (b"", ()),
        (b"\n\n", ()),
    ],
)
def test_files_of_class_names(content: bytes, names: Tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_classes(tmp_path / "classes.txt") == names


def test_class_name_is_one_line() -> None:
    assert [class_name(text) for text in (" a\n b\t", "a\u00a0b", 1, "NA")] == ["a b", "a b", "1", "NA"]


def test_lines_have_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a\r\n\r\n b \n")
    assert read_lines(tmp_path / "x.txt", "text") == [(1, "a"), (3, "b")]
