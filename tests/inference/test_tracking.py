"""`Tracker`: the same id for the same object, whatever the detector misses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Sequence, Set, Tuple

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import mnssd
from mnssd.errors import OptionError
from mnssd.inference.motion import POSITION_NOISE, VELOCITY_NOISE, BoxMotion
from mnssd.inference.results import DetectionResult
from mnssd.inference.tracking import NO_TRACK, TrackedResult, Tracker

CLASSES = ("cat", "dog")
REFERENCE = Path(__file__).with_name("tracking")

Row = Tuple[float, float, float, float, float, int]
"""Box, score and label."""


def result(rows: Sequence[Row], size: Tuple[int, int] = (320, 240)) -> DetectionResult:
    table = np.array(rows, np.float64).reshape(-1, 6)
    boxes, scores, labels = table[:, :4], table[:, 4], table[:, 5]
    return DetectionResult(
        boxes.astype(np.float32), labels.astype(np.int32), scores.astype(np.float32), CLASSES, size
    )


def square(x: float, y: float = 100, score: float = 0.9, label: int = 0, side: float = 40) -> Row:
    return (x, y, x + side - 1, y + side - 1, score, label)


def ids(tracker: Tracker, *frames: Sequence[Row]) -> List[List[int]]:
    return [tracker.update(result(rows)).ids.tolist() for rows in frames]


def test_the_filter_equals_that_of_matrices() -> None:
    """The textbook's filter of eight values, with frames of different lengths."""
    rng = np.random.default_rng(0)
    boxes = np.array([[10.0, 20, 49, 79], [100, 50, 159, 69]])
    motion = BoxMotion(boxes)
    means = [np.concatenate([row, np.zeros(4)]) for row in motion.value.copy()]
    scales = [mean[[2, 3, 2, 3]] for mean in means]
    start = [np.concatenate([2 * POSITION_NOISE * s, 10 * VELOCITY_NOISE * s]) for s in scales]
    covariances = [np.diag(deviation**2) for deviation in start]
    observe = np.eye(4, 8)
    for frames in (1.0, 1.0, 2.5, 0.5):
        boxes = boxes + [3, 1, 4, 1] + rng.normal(0, 0.5, boxes.shape)
        motion.predict(frames, np.zeros(2, bool))
        motion.correct(np.arange(2), boxes)
        move = np.eye(8) + frames * np.eye(8, k=4)
        for i, box in enumerate(boxes):
            scale = means[i][[2, 3, 2, 3]]
            noise = np.concatenate([POSITION_NOISE * scale, VELOCITY_NOISE * scale]) ** 2 * frames
            mean, covariance = move @ means[i], move @ covariances[i] @ move.T + np.diag(noise)
            measured = np.diag((POSITION_NOISE * mean[[2, 3, 2, 3]]) ** 2)
            gain = covariance @ observe.T @ np.linalg.inv(observe @ covariance @ observe.T + measured)
            value = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0] + 1, box[3] - box[1] + 1]
            means[i] = mean + gain @ (np.array(value) - mean[:4])
            covariances[i] = covariance - gain @ observe @ covariance
            np.testing.assert_allclose(motion.value[i], means[i][:4], rtol=1e-9)
            np.testing.assert_allclose(motion.velocity[i], means[i][4:], rtol=1e-9, atol=1e-12)
            variances = np.diag(covariances[i])
            np.testing.assert_allclose(motion.covariance[i, :, 0], variances[:4], rtol=1e-9)
            np.testing.assert_allclose(motion.covariance[i, :, 2], variances[4:], rtol=1e-9)


def test_ids_begin_with_the_second_detection_and_in_the_first_frame_at_once() -> None:
    late = [square(200)]
    assert ids(Tracker(), [square(10)], [square(12), *late], [square(14), *late], [*late]) == [
        [1], [1, NO_TRACK], [1, 2], [2],
    ]  # fmt: skip
    # A false detection of one frame gets none.
    assert ids(Tracker(), [], [square(10)], [], [square(10)], [square(10)]) == [
        [], [NO_TRACK], [], [NO_TRACK], [1],
    ]  # fmt: skip


def test_a_hidden_object_keeps_its_id_for_a_while_and_ids_are_never_used_again() -> None:
    moving = [[square(10 + 4 * t)] for t in range(40)]
    for hidden, last in ((range(10, 20), 1), (range(5, 30), 2)):
        tracker = Tracker(keep_frames=20)
        found = ids(tracker, *([] if t in hidden else rows for t, rows in enumerate(moving)))
        assert found[4] == [1]
        assert found[-1] == [last]
    found = ids(Tracker(keep_frames=2), *([[square(10)], [square(10)], [], [], [], []] * 4))
    assert [row[0] for row in found if row] == [1, 1, NO_TRACK, 2, NO_TRACK, 3, NO_TRACK, 4]


def test_low_scores_continue_tracks_and_begin_none() -> None:
    tracker = Tracker(score=0.5, low_score=0.1)
    low = [square(10 + t, score=0.2) for t in range(9)]
    assert ids(tracker, [square(10)], *([row] for row in low), [square(19)]) == [[1]] * 11
    assert ids(Tracker(), *([row] for row in low)) == [[NO_TRACK]] * 9
    assert ids(Tracker(), [square(10)], [square(11, score=0.05)]) == [[1], [NO_TRACK]]
    assert Tracker(score=0.05).low_score == 0.05


def test_a_track_never_changes_its_class() -> None:
    frames = [[square(10 + t, label=int(t in (5, 6)))] for t in range(10)]
    assert ids(Tracker(), *frames) == [[1]] * 5 + [[NO_TRACK], [2]] + [[1]] * 3


def test_two_objects_that_meet_keep_their_ids() -> None:
    frames = [[square(10 + 5 * t, 100), square(210 - 5 * t, 112)] for t in range(40)]
    found = ids(Tracker(), *frames)
    assert found == [[1, 2]] * 40


@pytest.mark.parametrize("step", [3, 7])
def test_dropped_frames_are_taken_into_account(step: int) -> None:
    """An object of 40 pixels at 9 pixels per frame: predicted boxes would not overlap otherwise."""
    shown = [*range(6), *range(6, 30, step)]
    times = dict(zip(shown[1:], np.diff(shown).tolist()))
    tracker = Tracker()
    found = [tracker.update(result([square(5 + 9 * t)]), times.get(t, 1)).ids.tolist() for t in shown]
    assert found == [[1]] * len(shown)
    # The time without detections is counted in frames, too.
    tracker = Tracker(keep_frames=30)
    tracker.update(result([square(10)]))
    assert tracker.update(result([]), 30).active_ids == (1,)
    assert tracker.update(result([]), 1.5).active_ids == ()
    assert ids(Tracker(keep_frames=0), [square(10)], [square(11)], [], [square(13)]) == [[1], [1], [], [-1]]


def test_objects_leave_the_image_and_others_come() -> None:
    limit = 319
    leaving = [[(280 + 6 * t, 100, min(limit, 320 + 6 * t), 140, 0.9, 0)] for t in range(7)]
    tracker = Tracker(keep_frames=1000)
    assert ids(tracker, *leaving) == [[1]] * 7
    gone = [tracker.update(result([])).active_ids for _ in range(10)]
    assert gone[-1] == ()
    assert ids(tracker, *leaving[::-1])[-1] == [2]
    thin = Tracker()
    for _ in range(50):  # boxes without a width
        tracked = thin.update(result([(0, 0, 0, 0, 0.9, 0), (319, 0, 319, 239, 0.9, 1)]))
        assert np.isfinite(thin._tracks.motion.boxes()).all()
    assert tracked.ids.tolist() == [1, 2]


def test_another_size_ends_all_tracks() -> None:
    tracker = Tracker()
    assert tracker.update(result([square(10)])).ids.tolist() == [1]
    assert tracker.update(result([square(10)], (240, 320))).ids.tolist() == [2]
    assert tracker.update(result([], (240, 320))).active_ids == (2,)


def test_the_detections_are_those_that_were_given() -> None:
    given = result([square(10), square(100, score=0.3), square(200, label=1)])
    tracked = Tracker().update(given)
    assert isinstance(tracked, TrackedResult)
    for name in ("boxes", "labels", "scores"):
        np.testing.assert_array_equal(getattr(tracked, name), getattr(given, name))
    assert tracked.ids.tolist() == [1, NO_TRACK, 2]
    assert [entry["id"] for entry in tracked.to_dict()["detections"]] == [1, None, 2]
    assert tracked.at_least(0.5).ids.tolist() == [1, 2]
    assert tracked.at_least(0.5).names == ["cat", "dog"]
    assert Tracker().update(tracked).ids.tolist() == [1, NO_TRACK, 2]
    assert len(Tracker().update(result([]))) == 0


def test_ids_are_drawn() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    tracker = Tracker()
    first = tracker.update(result([square(100)]))
    drawn = first.draw(image)
    assert not np.array_equal(drawn, result([square(100)]).draw(image))
    assert image.max() == 0


@pytest.mark.parametrize(
    "arguments",
    [{"score": 1.5}, {"score": float("nan")}, {"low_score": -0.1}, {"keep_frames": float("inf")},
     {"keep_frames": -1}],
)  # fmt: skip
def test_invalid_arguments(arguments: Dict[str, float]) -> None:
    with pytest.raises(OptionError):
        mnssd.Tracker(**arguments)


@pytest.mark.parametrize("frames", [0, -1, float("nan"), float("inf")])
def test_invalid_frames(frames: float) -> None:
    with pytest.raises(OptionError):
        Tracker().update(result([]), frames)


def test_boxes_that_are_not_finite_are_refused_and_change_nothing() -> None:
    tracker = Tracker()
    tracker.update(result([square(10)]))
    with pytest.raises(OptionError):
        tracker.update(result([square(float("nan"))]))
    assert ids(tracker, [square(10)]) == [[1]]


def test_the_tracks_are_those_of_a_public_bytetrack() -> None:
    """`trackers` 2.6.1 on detections with misses, low scores, occlusion and false detections.

    The files are ``small-0.json`` and ``trackers-0.5/small-0.txt`` of benchmarks/tracking.py.
    """
    frames = json.loads((REFERENCE / "detections.json").read_text())
    theirs: Dict[int, Set[Tuple[int, float, float]]] = {}
    for line in (REFERENCE / "trackers-2.6.1.txt").read_text().splitlines():
        frame, number, left, top = map(float, line.split(",")[:4])
        theirs.setdefault(int(number), set()).add((int(frame) - 1, round(left - 1, 2), round(top - 1, 2)))
    ours: Dict[int, Set[Tuple[int, float, float]]] = {}
    tracker = Tracker()
    for t, found in enumerate(frames):
        tracked = tracker.update(result([(*item["box"], item["score"], 0) for item in found]))
        for number, item in zip(tracked.ids.tolist(), found):
            if number != NO_TRACK:
                left, top = item["box"][:2]
                ours.setdefault(number, set()).add((t, round(left, 2), round(top, 2)))
    ours = {number: found for number, found in ours.items() if len(found) > 1}  # of the first frame
    assert len(ours) == len(theirs)
    common = np.array([[len(a & b) for b in theirs.values()] for a in ours.values()])
    same = common[linear_sum_assignment(-common)].sum()
    total = sum(map(len, ours.values())) + sum(map(len, theirs.values()))
    assert 2 * same / total > 0.98
