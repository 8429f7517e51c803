"""Drawing of labeled boxes on a copy of the image."""

from __future__ import annotations

import colorsys
from typing import List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections
from mnssd.inference.draw import class_color, draw

Box = Tuple[float, float, float, float]

CLASSES = ("person", "a class with a name that is longer than its box", "snowman ☃")


def detections(*boxes: Box, label: int = 0) -> Detections:
    """Boxes of one class, scores falling."""
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, label, np.int32),
        np.linspace(0.9, 0.6, count, dtype=np.float32),
    )


def gray(width: int, height: int) -> np.ndarray:
    """A plain image."""
    return np.full((height, width, 3), 128, np.uint8)


def changed(image: np.ndarray) -> np.ndarray:
    """Mask ``(height, width)`` of the pixels drawn on `gray`."""
    return (image != 128).any(axis=2)


def letter_pixels(image: np.ndarray) -> int:
    """Number of pixels drawn on `gray` that do not have the color of class 0, that is, of letters."""
    return int((changed(image) & (image != class_color(0)).any(axis=2)).sum())


def test_box_is_drawn_on_a_copy() -> None:
    image = gray(300, 200)
    drawn = draw(image, detections((100, 80, 220, 170)), CLASSES)
    assert (image == 128).all()
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    color = np.array(class_color(0))
    for x, y in ((100, 120), (220, 120), (160, 170), (160, 80)):
        assert (drawn[y, x] == color).all()
    assert not changed(drawn)[90:160, 110:210].any()  # the object itself stays visible
    assert not changed(drawn)[175:].any()
    label = changed(drawn)[:77]
    assert label.any()  # above the box, with letters
    assert len(np.unique(drawn[:77][label], axis=0)) > 1


@pytest.mark.parametrize(
    "box", [(0, 0, 60, 60), (250, 150, 299, 199), (0, 0, 299, 199), (-50, -50, 400, 400), (150, 0, 150, 0)]
)
def test_label_is_whole_at_every_edge(box: Box) -> None:
    """The label has as many letter pixels as in the middle of the image."""
    room = draw(gray(300, 200), detections((100, 80, 180, 170)), CLASSES)
    edge = draw(gray(300, 200), detections(box), CLASSES)
    assert letter_pixels(edge) == letter_pixels(room) > 100


def test_labels_do_not_cover_each_other() -> None:
    """Both labels of two boxes in one place are legible."""
    one = draw(gray(300, 200), detections((100, 80, 180, 170)), CLASSES)
    two = draw(gray(300, 200), detections((100, 80, 180, 170), (102, 80, 180, 170)), CLASSES)
    assert letter_pixels(two) > 1.7 * letter_pixels(one) > 0


def test_line_width_grows_with_the_image() -> None:
    small = changed(draw(gray(200, 200), detections((50, 100, 150, 180)), CLASSES))
    large = changed(draw(gray(2000, 2000), detections((500, 1000, 1500, 1800)), CLASSES))
    assert large[1500, :1000].sum() >= 4 * small[150, :100].sum() > 0


edges = st.floats(-100, 500, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.lists(st.tuples(edges, edges, edges, edges, st.integers(0, 2)), max_size=6),
)
def test_any_image_and_boxes(width: int, height: int, boxes: List[Tuple[float, ...]]) -> None:
    corners = np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4)
    labels = np.array([box[4] for box in boxes], np.int32)
    boxed = Detections(corners, labels, np.linspace(1, 0, len(boxes), dtype=np.float32))
    drawn = draw(gray(width, height), boxed, CLASSES)
    assert drawn.shape == (height, width, 3)
    assert changed(drawn).any() == bool(boxes)


def test_views_and_read_only_arrays_can_be_drawn_on() -> None:
    image = np.zeros((50, 60, 3), np.uint8)[::-1, :, ::-1]
    image.flags.writeable = False
    assert draw(image, detections((5, 5, 40, 40)), CLASSES).any()


def test_class_colors_differ() -> None:
    colors = np.array([class_color(label) for label in range(20)])
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(20, dtype=int)
    assert distance.min() > 40
    assert np.abs(np.diff(colors, axis=0)).sum(axis=1).min() > 150
    assert len({class_color(label) for label in range(200)}) == 200
    assert min(colorsys.rgb_to_hsv(*(c / 255 for c in color))[2] for color in colors) > 0.7
