"""inference.stream: files in batches and in order, frames at once, errors in their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnssd.errors import ImageError
from mnssd.export.engines import Engine
from mnssd.inference.detector import BATCH, Detector
from mnssd.inference.stream import detect_frames
from mnssd.inference.video import Frame

SIZE = (64, 48)
LIMITS = {"score": 0.0}


class GrayEngine(Engine):
    """One detection an image: its score is the mean of the pixels."""

    takes_pixels = True

    def __init__(self) -> None:
        self.batches: List[int] = []

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        self.batches.append(len(x))
        scores = (x.mean(axis=(1, 2, 3)) / 255).reshape(-1, 1, 1)
        boxes = np.tile(np.array([1, 2, 30, 40], np.float32), (len(x), 1, 1))
        return [np.zeros_like(scores), scores, boxes]


@pytest.fixture
def engine() -> GrayEngine:
    return GrayEngine()


@pytest.fixture
def detector(engine: GrayEngine) -> Detector:
    return Detector(engine, ["thing"], SIZE)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """Images of rising brightness and several sizes; the sixth is damaged."""
    folder = tmp_path_factory.mktemp("stream")
    for number in range(20):
        pixels = np.full((48 + number, 64 + 2 * number, 3), 10 * number + 5, np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), pixels)
    (folder / "05.png").write_bytes(b"\x89PNG damaged")
    return [str(path) for path in sorted(folder.iterdir())]


def frames_of(files: List[str]) -> Iterator[Frame]:
    return (Frame(path, path) for path in files)


def test_files_are_detected_in_batches_and_in_order(
    detector: Detector, engine: GrayEngine, files: List[str]
) -> None:
    found = list(detect_frames(detector, frames_of(files), LIMITS))
    assert [frame.name for frame, _ in found] == files
    assert engine.batches == [BATCH - 1, BATCH, 4]  # one of the first eight is damaged
    for number, (frame, result) in enumerate(found):
        if number == 5:
            assert isinstance(result, ImageError)
            assert "05.png" in str(result)
        else:
            alone = detector(frame.name, **LIMITS)
            assert not isinstance(result, ImageError)
            assert result.scores == pytest.approx(alone.scores)
            assert result.boxes == pytest.approx(alone.boxes)
            assert result.size == alone.size == (64 + 2 * number, 48 + number)


def test_frames_are_detected_before_the_next_is_asked_for(detector: Detector, files: List[str]) -> None:
    asked: List[int] = []

    def source() -> Iterator[Frame]:
        for number in range(3):
            asked.append(number)
            yield Frame("camera:0", np.full((48, 64, 3), 80, np.uint8), number)

    found = detect_frames(detector, source(), LIMITS)
    for number in range(3):
        frame, _ = next(found)
        assert frame.number == number
        assert asked == list(range(number + 1))


def test_tiles_are_those_of_a_call(detector: Detector, files: List[str]) -> None:
    ((_, result),) = detect_frames(detector, frames_of(files[10:11]), LIMITS, "2x2")
    assert not isinstance(result, ImageError)
    assert len(result) == len(detector(files[10], tiles="2x2", **LIMITS))


def test_limits_apply(detector: Detector, files: List[str]) -> None:
    bright = {"score": 0.5}
    found = list(detect_frames(detector, frames_of(files[6:]), bright))
    assert [len(result) for _, result in found if not isinstance(result, ImageError)] == [
        int((10 * number + 5) / 255 >= 0.5) for number in range(6, 20)
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(["file", "damaged", "missing", "frame", "error"]), max_size=24))
def test_any_mixture_keeps_its_order(kinds: List[str], files: List[str], tmp_path: Path) -> None:
    def frame_of(number: int, kind: str) -> Frame:
        image: Any = {
            "file": files[number % 5],
            "damaged": files[5],
            "missing": str(tmp_path / "none.png"),
            "frame": np.full((48, 64, 3), number, np.uint8),
            "error": ImageError("no such input"),
        }[kind]
        return Frame(str(number), image)

    frames = [frame_of(number, kind) for number, kind in enumerate(kinds)]
    found = list(detect_frames(Detector(GrayEngine(), ["thing"], SIZE), iter(frames), LIMITS))
    assert [frame.name for frame, _ in found] == [str(number) for number in range(len(kinds))]
    assert [isinstance(result, ImageError) for _, result in found] == [
        kind in ("damaged", "missing", "error") for kind in kinds
    ]
