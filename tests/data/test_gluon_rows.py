"""Bad items of datasets of Gluon: what is reported, and what the others become."""

from __future__ import annotations

import math
from typing import Any, List

import mxnet as mx
import numpy as np
import pytest
from helpers.gluon_datasets import Items
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnssd.data.annotations.annotation import AnnotationError
from mnssd.data.annotations.label_rows import label_rows, parse_rows
from mnssd.data.findings import SKIPPED_CODES, Findings
from mnssd.data.gluon.read import from_gluon
from mnssd.data.image import read_image
from mnssd.errors import DataError, ImageError

WIDTH, HEIGHT = 40, 30
PIXELS = np.random.RandomState(0).randint(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
GOOD = np.array([[1.0, 2, 11, 12, 1]])


def read(*labels: Any, image: Any = PIXELS) -> Any:
    """A dataset of one item per label, between good items."""
    return from_gluon(Items([(PIXELS, GOOD), *((image, label) for label in labels), (PIXELS, GOOD)]))


BAD_ROWS = {
    "not a number": ([5, 5, math.nan, 20, 1], "box-not-finite"),
    "infinite": ([5, 5, math.inf, 20, 1], "box-not-finite"),
    "inverted x": ([20, 5, 10, 20, 1], "box-inverted"),
    "inverted y": ([5, 20, 10, 5, 1], "box-inverted"),
    "without width": ([5, 5, 5, 20, 1], "box-without-area"),
    "class too high": ([5, 5, 10, 20, 2], "class-unknown"),
    "negative class": ([5, 5, 10, 20, -1], "class-unknown"),
    "class between": ([5, 5, 10, 20, 0.5], "class-unknown"),
    "class not a number": ([5, 5, 10, 20, math.nan], "class-unknown"),
    "normalized": ([0.1, 0.2, 0.5, 0.9, 1], "boxes-normalized"),
    "outside": ([50, 50, 60, 60, 1], "box-outside"),
    "outside, negative": ([-20, 5, -10, 20, 1], "box-outside"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
@pytest.mark.parametrize("as_mxnet", [False, True])
def test_bad_row_is_dropped_and_reported(kind: str, as_mxnet: bool) -> None:
    row, code = BAD_ROWS[kind]
    label = np.array([[3, 4, 9, 8, 0], row, [1, 2, 30, 20, 1]])
    dataset = read(mx.nd.array(label) if as_mxnet else label)
    assert dataset[1].boxes.tolist() == [[3, 4, 9, 8], [1, 2, 30, 20]]
    assert dataset[1].labels.tolist() == [0, 1]
    assert [(f.code, f.where) for f in dataset.findings if f.code != "class-unused"] == [(code, "item 1")]
    assert any("item 1" in note for note in dataset.notes)


def test_box_over_the_edge_is_clipped_and_reported() -> None:
    dataset = read([[30, 20, 60, 25, 0], [0, 0, WIDTH - 1, HEIGHT - 1, 0]])
    assert dataset[1].boxes.tolist() == [[30, 20, WIDTH - 1, 25], [0, 0, WIDTH - 1, HEIGHT - 1]]
    assert [(f.code, f.where) for f in dataset.findings] == [("box-clipped", "item 1")]


@pytest.mark.parametrize("label", [[], np.zeros((0, 5)), np.zeros((0, 6)), [[-1] * 5], [[-1] * 6] * 3])
def test_label_without_objects(label: Any) -> None:
    dataset = read(label)
    assert [len(sample.labels) for sample in dataset] == [1, 0, 1]
    assert {f.code for f in dataset.findings} <= {"class-unused"}


def test_difficult_and_further_columns() -> None:
    dataset = read([[1, 1, 9, 9, 0, 0, 7], [2, 2, 9, 9, 0, 1, 7]], [[1, 1, 9, 9, 0, 0.3]])
    assert [sample.difficult.tolist() for sample in dataset] == [[False], [False, True], [False], [False]]
    assert [(f.code, f.where) for f in dataset.findings] == [("difficult-unknown", "item 2")]


BAD_LABELS = {
    "four columns": [[1, 2, 11, 12]],
    "one dimension": [1, 2, 11, 12, 1],
    "three dimensions": [[[1, 2, 11, 12, 1]]],
    "a class": 3,
    "nothing": None,
    "text": "cat",
    "names": [["1", "2", "11", "12", "cat"]],
    "uneven rows": [[1, 2, 11, 12, 1], [1, 2]],
    "a dict": {"boxes": [[1, 2, 11, 12]]},
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_item_with_another_label_is_skipped_and_reported(kind: str) -> None:
    dataset = read(BAD_LABELS[kind])
    assert [sample.image_path for sample in dataset] == ["Items[0]", "Items[2]"]
    assert [(f.code in SKIPPED_CODES, f.where) for f in dataset.findings if f.code != "class-unused"] == [
        (True, "item 1")
    ]


BAD_IMAGES = {
    "levels of 0 to 1": PIXELS.astype(np.float32) / 255,
    "channels first": PIXELS.transpose(2, 0, 1),
    "network input": mx.nd.zeros((3, 300, 300)),
    "a batch": PIXELS[None],
    "nothing": None,
    "a path": "cat.jpg",
    "empty": PIXELS[:0],
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_item_with_another_image_is_skipped_and_reported(kind: str) -> None:
    dataset = read(GOOD, image=BAD_IMAGES[kind])
    assert len(dataset) == 2
    assert [f.where for f in dataset.findings if f.code in SKIPPED_CODES] == ["item 1"]


@pytest.mark.parametrize("item", [(PIXELS,), (PIXELS, GOOD, 1), PIXELS, None, 3, KeyError("x"), IndexError()])
def test_item_that_is_no_pair_is_skipped_and_reported(item: Any) -> None:
    dataset = from_gluon(Items([(PIXELS, GOOD), item, (PIXELS, GOOD)]))
    assert len(dataset) == 2
    assert [f.where for f in dataset.findings if f.code in SKIPPED_CODES] == ["item 1"]


@pytest.mark.parametrize(
    "image", [PIXELS, mx.nd.array(PIXELS, dtype=np.uint8), Image.fromarray(PIXELS), PIXELS[:, ::-1][:, ::-1]]
)
def test_forms_of_images(image: Any) -> None:
    np.testing.assert_array_equal(read_image(read(GOOD, image=image)[1].image_path), PIXELS)


def test_gray_images_become_rgb() -> None:
    gray = PIXELS[:, :, :1]
    for image in (gray, gray[:, :, 0]):
        pixels = read_image(read(GOOD, image=image)[1].image_path)
        np.testing.assert_array_equal(pixels, np.repeat(gray, 3, axis=2))


@pytest.mark.parametrize(
    "items", [[], [ValueError("x")], [(PIXELS, 3), (PIXELS, GOOD), ValueError("x")], [(PIXELS, None)] * 3]
)
def test_nothing_usable_is_an_error(items: List[Any]) -> None:
    with pytest.raises(DataError, match="Items"):
        from_gluon(Items(items))


class Random(Items):
    """Items that change from the call number `start` on."""

    start, calls = 0, 0

    def __getitem__(self, index: int) -> Any:
        self.calls += 1
        image, label = super().__getitem__(index)
        return image, label + (self.calls > self.start) * self.calls % 7


def test_dataset_that_changes_is_refused() -> None:
    with pytest.raises(DataError, match="item 0"):
        from_gluon(Random([(PIXELS, GOOD)] * 4))


def test_item_that_changes_later_is_refused_when_it_is_read() -> None:
    items = Random([(PIXELS, GOOD)] * 6)
    items.start = 100
    dataset = from_gluon(items)
    read_image(dataset[0].image_path)
    items.start = 0
    with pytest.raises(ImageError, match=r"\[4\]"):
        read_image(dataset[4].image_path)


def test_dataset_may_use_one_array_for_all_images() -> None:
    class OneArray(Items):
        array = PIXELS.copy()

        def __getitem__(self, index: int) -> Any:
            self.array[:] = index
            return self.array, GOOD

    dataset = from_gluon(OneArray([0] * 6))
    assert len({sample.image_id[-8:] for sample in dataset}) == 6
    for index in (4, 5):
        assert (read_image(dataset[index].image_path) == index).all()


def test_images_are_not_kept() -> None:
    items = Items([(PIXELS, GOOD)] * 5)
    dataset = from_gluon(items)
    items.items[3] = (255 - PIXELS, GOOD)
    np.testing.assert_array_equal(read_image(dataset[3].image_path), 255 - PIXELS)
    items.items[3] = OSError("gone")
    read_image(dataset[0].image_path)
    with pytest.raises(ImageError, match="gone"):
        read_image(dataset[3].image_path)


NUMBERS = st.one_of(
    st.integers(-50, 50), st.floats(-60, 60, width=32), st.sampled_from([math.nan, math.inf, -1e30])
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=5, max_size=7), max_size=4))
def test_every_row_is_an_object_or_a_finding(rows: List[List[float]]) -> None:
    try:
        table = label_rows(rows)
    except AnnotationError:
        assert len({len(row) for row in rows}) > 1
        return
    findings = Findings()
    objects = parse_rows(table, ("cat", "dog"), findings, "file", "item 0")
    dropped = [finding for finding in findings.items if finding.code != "difficult-unknown"]
    padding = sum(row[:5] == [-1] * 5 for row in rows)
    assert len(objects) + len(dropped) + padding == len(rows)
    for entry in objects:
        left, top, right, bottom = entry.box
        assert left < right
        assert top < bottom
        assert any([*entry.box, ("cat", "dog").index(entry.name)] == row[:5] for row in rows)
