"""Lines and zones: what is counted, and what is refused."""

from __future__ import annotations

import contextlib
import math
from typing import List, Sequence, Tuple

import numpy as np
import pytest

import mnssd
from mnssd.errors import OptionError
from mnssd.inference.counting import AnyCounter, LineCounter, ZoneCounter, describe
from mnssd.inference.draw import draw_regions
from mnssd.inference.regions import parse_line, parse_zone
from mnssd.inference.results import DetectionResult
from mnssd.inference.tracking import TrackedResult, Tracker

CLASSES = ("cat", "dog")
SIZE = (320, 240)

Point = Tuple[float, float]


def tracked(points: Sequence[Point], ids: Sequence[int], labels: Sequence[int] = ()) -> TrackedResult:
    """Boxes of 40x40 pixels, whose margin is 2 pixels, with these centers."""
    boxes = np.array([[x - 19.5, y - 19.5, x + 19.5, y + 19.5] for x, y in points], np.float32)
    classes = np.array(labels or [0] * len(ids), np.int32)
    scores = np.full(len(ids), 0.9, np.float32)
    return TrackedResult(
        boxes.reshape(-1, 4), classes, scores, CLASSES, SIZE, np.array(ids, np.int64), tuple(sorted(ids))
    )


def follow(counter: AnyCounter, *way: Point, number: int = 1, label: int = 0) -> AnyCounter:
    for point in way:
        counter.update(tracked([point], [number], [label]))
    return counter


LINE = (100.0, 120.0, 200.0, 120.0)


@pytest.mark.parametrize(
    ("way", "went_in", "went_out"),
    [
        ([(150, 100), (150, 140)], 1, 0),
        ([(150, 140), (150, 100)], 0, 1),
        ([(150, 10), (150, 230)], 1, 0),  # from far to far
        ([(150, 100), (150, 140), (150, 100), (150, 140)], 2, 1),  # each time
        ([(150, y) for y in (100, 119, 121, 119.5, 120.5, 119, 121, 119, 100)], 0, 0),  # trembles, returns
        ([(150, y) for y in (100, 119, 121, 119.5, 120.5, 119, 121, 119, 121, 130)], 1, 0),  # and passes
        ([(150, y) for y in (100, 120, 120, 130)], 1, 0),  # stops on the line
        ([(150, y) for y in (100, 120, 120, 110)], 0, 0),
        ([(150, 119.5), (150, 140)], 0, 0),  # begins within the margin
        ([(250, 100), (250, 140), (150, 140)], 0, 0),  # beside the end
        ([(150, 100), (230, 110), (230, 130), (150, 140)], 0, 0),  # around the end
        ([(90, 100), (110, 140)], 1, 0),  # through the end itself
        ([(230, 100), (150, 118), (150, 140)], 1, 0),
    ],
)
def test_crossings_of_a_line(way: List[Point], went_in: int, went_out: int) -> None:
    counter = follow(LineCounter(LINE), *way)
    assert [sum(counter.counts[kind].values()) for kind in ("in", "out")] == [went_in, went_out]
    reverse = follow(LineCounter((*LINE[2:], *LINE[:2])), *way)
    assert [sum(reverse.counts[kind].values()) for kind in ("in", "out")] == [went_out, went_in]


def test_the_margin_grows_with_the_box() -> None:
    counter = LineCounter(LINE)
    for y in (80, 124, 80, 124):
        box = np.array([[50, y - 100, 249, y + 99]], np.float32)  # 200 pixels: a margin of 10
        one = tracked([(150, y)], [1])
        counter.update(TrackedResult(box, one.labels, one.scores, CLASSES, SIZE, one.ids, one.active_ids))
    assert counter.counts == {"in": {}, "out": {}}


def test_counts_are_by_class_and_object() -> None:
    counter = LineCounter(LINE)
    counter.update(tracked([(110, 100), (150, 100), (190, 140), (130, 100)], [1, 2, 3, -1], [0, 1, 1, 0]))
    counter.update(tracked([(110, 140), (150, 140), (190, 100), (130, 140)], [1, 2, 3, -1], [0, 1, 1, 0]))
    assert counter.counts == {"in": {"cat": 1, "dog": 1}, "out": {"dog": 1}}
    assert counter.to_dict() == {"line": list(LINE), **counter.counts}
    assert describe(counter.counts) == "in 2 (cat 1, dog 1), out 1 (dog 1)"
    assert describe(counter.counts, with_classes=False) == "in 2, out 1"


def test_a_slanted_line() -> None:
    assert follow(LineCounter((0, 0, 200, 200)), (100, 50), (50, 100)).counts["in"] == {"cat": 1}
    assert follow(LineCounter((0, 0, 20, 20)), (100, 50), (50, 100)).counts["in"] == {}


ZONE = (100, 100, 200, 100, 200, 200, 100, 200)


@pytest.mark.parametrize(
    ("way", "entered", "left", "inside"),
    [
        ([(50, 150), (150, 150)], 1, 0, 1),
        ([(50, 150), (150, 150), (250, 150)], 1, 1, 0),
        ([(150, 150)], 0, 0, 1),  # begins there
        ([(150, 150), (250, 150)], 0, 1, 0),
        ([(x, 150) for x in (90, 101, 99, 101, 99, 101, 110)], 1, 0, 1),  # trembles
        ([(x, 150) for x in (110, 101, 99, 101, 99)], 0, 0, 1),
        ([(50, 150), (250, 150)], 0, 0, 0),  # too fast to be seen there
    ],
)
def test_a_zone(way: List[Point], entered: int, left: int, inside: int) -> None:
    for corners in (ZONE, (*ZONE, *ZONE[:2]), (*ZONE[6:], *ZONE[4:6], *ZONE[2:4], *ZONE[:2])):
        counter = follow(ZoneCounter(corners), *way)
        counts = [sum(counter.counts[kind].values()) for kind in ("entered", "left", "inside")]
        assert counts == [entered, left, inside]


def test_hidden_objects_are_inside_until_their_track_ends() -> None:
    counter = follow(ZoneCounter(ZONE), (150, 150), number=7)
    hidden = tracked([], [])
    active = TrackedResult(hidden.boxes, hidden.labels, hidden.scores, CLASSES, SIZE, hidden.ids, (7,))
    counter.update(active)
    assert counter.counts["inside"] == {"cat": 1}
    counter.update(hidden)
    assert counter.counts == {"entered": {}, "left": {}, "inside": {}}
    assert not counter._inside


def test_a_zone_that_is_not_convex() -> None:
    corners = (100, 100, 200, 100, 200, 200, 150, 120, 100, 200)
    assert follow(ZoneCounter(corners), (20, 20), (150, 180)).counts["entered"] == {}
    assert follow(ZoneCounter(corners), (20, 20), (110, 130)).counts["entered"] == {"cat": 1}


BAD_LINES = (
    "", "1", "1,2,3", "1,2,3,4,5", "1,2,3,4,5,6", "a,b,c,d", "1,2,1,2", "1,2,nan,4", "1,2,inf,4", "-1,2,3,4",
    "1;2;3;4", "1,2,3,",
)  # fmt: skip

BAD_ZONES = (
    "", "1,2,3,4", "1,2,3,4,5", "0,0,9,0,9,9,0", "0,0,9,9,9,0,0,9", "0,0,5,0,9,0", "0,0,9,0,9,0,9,9",
    "0,0,9,0,9,9,nan,9", "0,0,9,0,9,9,-3,9", "0,0,9,0,9,9,0,9,9,4,0,4", "0,0,9,0,9,9,4,0", "0,0,9,0,0,0",
    "0,0,9,0,9,5,9,9,9,3,0,9",
)  # fmt: skip


def numbers(text: str) -> List[float]:
    return [float(part) for part in text.split(",")]


@pytest.mark.parametrize("text", BAD_LINES)
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_line(text)
    with contextlib.suppress(ValueError):  # not all are numbers
        values = numbers(text)
        with pytest.raises(OptionError):
            mnssd.LineCounter(values)


@pytest.mark.parametrize("text", BAD_ZONES)
def test_what_is_no_polygon_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_zone(text)
    if text:
        with pytest.raises(OptionError):
            mnssd.ZoneCounter(numbers(text))


@pytest.mark.parametrize(
    "text", ["0,0,9,0,9,9", "0,0,9,0,9,9,0,9,0,0", "0,0,5,0,9,0,9,9", "0,0,9,0,9,9,5,1,0,9"]
)
def test_polygons_that_are_accepted(text: str) -> None:
    assert parse_zone(text) == tuple(numbers(text))


@pytest.mark.parametrize("value", ["1,2,3,4", [1, 2, None, 4], [math.nan] * 4, 5])
def test_coordinates_that_are_no_numbers(value: object) -> None:
    with pytest.raises(OptionError):
        LineCounter(value)  # type: ignore[arg-type]


def test_lines_and_zones_outside_of_the_image_are_refused() -> None:
    for counter in (LineCounter((10, 10, 321, 10)), LineCounter((10, 10, 10, 241)),
                    ZoneCounter((0, 0, 400, 0, 400, 100))):  # fmt: skip
        with pytest.raises(OptionError):
            counter.update(tracked([], []))
    for inside in (LineCounter((0, 240, 320, 240)), ZoneCounter((0, 0, 320, 0, 320, 240))):
        inside.update(tracked([], []))


def test_results_without_ids_are_refused() -> None:
    plain = tracked([(50, 50)], [1])
    untracked = DetectionResult(plain.boxes, plain.labels, plain.scores, CLASSES, SIZE)
    for update in (LineCounter(LINE).update, ZoneCounter(ZONE).update):
        with pytest.raises(OptionError):
            update(untracked)  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        Tracker().update([untracked])  # type: ignore[arg-type]


def test_drawing() -> None:
    image = np.full((240, 320, 3), 100, np.uint8)
    drawn = draw_regions(image, [(LineCounter(LINE).points, "in 1"), (ZoneCounter(ZONE).points, "in 2")])
    assert (image == 100).all()
    assert (drawn[120, 110] > 200).all()  # the line
    assert (drawn[128:132, 150] > 200).any()  # its arrow, downwards
    assert (drawn[107:112, 150] == 100).all()
    assert (drawn[150, 200] > 200).all()  # the zone
    np.testing.assert_array_equal(draw_regions(image, []), image)
