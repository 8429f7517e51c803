"""`mnssd detect --track`: ids per input, counts, files, and what is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import pytest
from helpers.detectors import write_image

from mnssd.cli.detect import DetectOptions
from mnssd.cli.main import run_command
from mnssd.cli.track import SequenceTracker
from mnssd.data.image import read_image
from mnssd.inference.detector import Detector
from mnssd.inference.results import DetectionResult
from mnssd.inference.sources import Sequences, iter_frames
from mnssd.inference.video import Frame
from mnssd.options import add_options, as_arguments, from_mapping, given

SIZE = (160, 120)


class SquareDetector:
    """Detects white squares with the score .9, and gray ones with .3."""

    classes = ("cat", "dog")

    def __call__(
        self,
        image: Any,
        score: float,
        iou: Optional[float],
        max_detections: int,
        classes: Optional[Sequence[str]],
        tiles: str = "none",
        across_classes: bool = False,
    ) -> DetectionResult:
        pixels = (read_image(image) if isinstance(image, str) else image)[..., 0]
        boxes, scores = [], []
        for contour in cv2.findContours((pixels > 60).astype(np.uint8), cv2.RETR_EXTERNAL, 2)[0]:
            x, y, width, height = cv2.boundingRect(contour)
            if width * height > 100:
                boxes.append((x, y, x + width - 1, y + height - 1))
                scores.append(0.9 if pixels[y + height // 2, x + width // 2] > 180 else 0.3)
        kept = [i for i in range(len(boxes)) if scores[i] >= score]
        return DetectionResult(
            np.array([boxes[i] for i in kept], np.float32).reshape(-1, 4), np.zeros(len(kept), np.int32),
            np.array([scores[i] for i in kept], np.float32), self.classes, (pixels.shape[1], pixels.shape[0]),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def square_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "load", lambda *_: SquareDetector())


def frame(*squares: Tuple[int, int], gray: bool = False) -> np.ndarray:
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for x, y in squares:
        image[y : y + 24, x : x + 24] = 120 if gray else 255
    return image


def falling(count: int, x: int = 40) -> List[np.ndarray]:
    """A square that moves downwards, 4 pixels per frame; it is gray in the frame 7."""
    return [frame((x, 8 + 4 * t), gray=t == 7) for t in range(count)]


def write_video(path: Path, images: Sequence[np.ndarray], fps: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, SIZE)
    for image in images:
        writer.write(image)
    writer.release()
    return path


def detect(*arguments: Any) -> int:
    return run_command("detect", ["--detector", "any", "--track", *map(str, arguments)])


def read_lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids(lines: Sequence[Dict[str, Any]]) -> List[List[Optional[int]]]:
    return [[detection["id"] for detection in line["detections"]] for line in lines]


LINE = "0,60,160,60"
ZONE = "20,70,90,70,90,119,20,119"


def test_each_input_has_ids_and_counts_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    down = write_video(tmp_path / "down.avi", falling(20))
    both = [frame((40, 88 - 4 * t), (100, 8 + 4 * t)) for t in range(20)]
    both = write_video(tmp_path / "both.avi", both)
    (tmp_path / "seen").mkdir()
    outputs = ["--jsonl", tmp_path / "a.jsonl", "--output", tmp_path / "drawn", "--mot", tmp_path / "mot"]
    outputs += ["--json", tmp_path / "a.json", "--coco", tmp_path / "coco.json"]
    assert detect(down, both, *outputs, "--count-line", LINE, "--count-zone", ZONE) == 0
    lines = read_lines(tmp_path / "a.jsonl")
    assert ids(lines[:20]) == [[1]] * 7 + [[]] + [[1]] * 12  # the gray one is below --score
    assert [sorted(row) for row in ids(lines[20:])] == [[1, 2]] * 20
    assert lines[19]["counts"] == [
        {"line": [0, 60, 160, 60], "in": {"cat": 1}, "out": {}},
        {"zone": [20, 70, 90, 70, 90, 119, 20, 119], "entered": {"cat": 1}, "left": {}, "inside": {"cat": 1}},
    ]
    assert lines[39]["counts"] == [
        {"line": [0, 60, 160, 60], "in": {"cat": 1}, "out": {"cat": 1}},
        {"zone": [20, 70, 90, 70, 90, 119, 20, 119], "entered": {}, "left": {"cat": 1}, "inside": {}},
    ]
    assert json.loads((tmp_path / "a.json").read_text())["images"] == lines
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [row["track_id"] for row in coco["annotations"][:19]] == [1] * 19
    shown = capsys.readouterr().out
    for text in ("down.avi", "both.avi", LINE, ZONE):
        assert text in shown
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["both.mp4", "down.mp4"]
    rows = [line.split(",") for line in (tmp_path / "mot" / "down.txt").read_text().splitlines()]
    assert [int(row[0]) for row in rows] == [t + 1 for t in range(20) if t != 7]
    assert rows[0][1] == "1"
    np.testing.assert_allclose([float(value) for value in rows[0][2:6]], [41, 9, 24, 24], atol=2)
    assert rows[0][6:] == ["0.9", "-1", "-1", "-1"]
    assert len((tmp_path / "mot" / "both.txt").read_text().splitlines()) == 40


def test_the_images_of_a_folder_are_a_sequence_in_the_order_of_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for t, image in enumerate(falling(12)):
            write_image(tmp_path / name / f"f{t}.png", image)
    (tmp_path / "one" / "f3.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    assert detect(tmp_path / "one", tmp_path / "two", "--jsonl", tmp_path / "a.jsonl", "--mot",
                  tmp_path / "mot", "--count-line", LINE) == 1  # fmt: skip
    lines = read_lines(tmp_path / "a.jsonl")
    assert [Path(line["image"]).name for line in lines] == [f"f{t}.png" for t in range(12)] * 2
    assert "error" in lines[3]
    readable = [line for line in lines if "error" not in line]
    assert ids(readable) == [[1]] * 6 + [[]] + [[1]] * 11 + [[]] + [[1]] * 4
    assert lines[-1]["counts"][0]["in"] == {"cat": 1}
    frames = [int(line.split(",")[0]) for line in (tmp_path / "mot" / "one.txt").read_text().splitlines()]
    assert frames == [1, 2, 3, 5, 6, 7, 9, 10, 11, 12]
    assert len((tmp_path / "mot" / "two.txt").read_text().splitlines()) == 11
    assert str(tmp_path / "one") in capsys.readouterr().err  # told that they are taken for a sequence


def test_a_single_photograph_is_a_sequence_of_one(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", frame((10, 10), (100, 50)))
    assert detect(tmp_path / "a.png", "--jsonl", tmp_path / "a.jsonl") == 0
    assert sorted(ids(read_lines(tmp_path / "a.jsonl"))[0]) == [1, 2]


def test_a_video_that_breaks_off_is_tracked_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.avi", falling(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    after = write_video(tmp_path / "after.avi", falling(5))
    assert detect(path, after, "--jsonl", tmp_path / "a.jsonl", "--mot", tmp_path / "mot") == 1
    lines = read_lines(tmp_path / "a.jsonl")
    assert sum("error" in line for line in lines) == 1
    first = [line for line in lines if line["image"] == str(path) and "error" not in line]
    assert len(first) in range(3, 20)
    assert ids(first)[:3] == [[1]] * 3
    assert sorted(file.name for file in (tmp_path / "mot").iterdir()) == ["after.txt", "cut.txt"]


def test_a_line_outside_of_one_video_refuses_that_one_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(small), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 64))
    for _ in range(4):
        writer.write(np.zeros((64, 80, 3), np.uint8))
    writer.release()
    good = write_video(tmp_path / "z.avi", falling(20))
    assert detect(small, good, "--jsonl", tmp_path / "a.jsonl", "--count-line", LINE) == 1
    lines = read_lines(tmp_path / "a.jsonl")
    assert ["error" in line for line in lines] == [True] + [False] * 20
    assert lines[-1]["counts"][0]["in"] == {"cat": 1}
    error = capsys.readouterr().err
    assert LINE in error
    assert "small.avi" in error
    assert "z.avi" not in error


def test_an_image_that_a_line_is_not_within_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    for t, image in enumerate(falling(20)):
        write_image(tmp_path / "seen" / f"{t:02}.png", image[:50] if t == 7 else image)
    lines, mot = tmp_path / "a.jsonl", tmp_path / "mot"
    assert detect(tmp_path / "seen", "--jsonl", lines, "--mot", mot, "--count-line", LINE) == 1
    found = read_lines(lines)
    assert ["error" in line for line in found] == [t == 7 for t in range(20)]
    assert found[-1]["counts"][0]["in"] == {"cat": 1}
    rows = [line.split(",")[:2] for line in (mot / "seen.txt").read_text().splitlines()]
    assert rows == [[str(t + 1), "1"] for t in range(20) if t != 7]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--count-line", "1,2,3"], ["--count-line", "1,2,1,2"], ["--count-line", "0,0,nan,5"],
        ["--count-zone", "0,0,9,9,9,0,0,9"], ["--count-zone", "1,2,3,4,5"], ["--count-zone", "1,2,3,4"],
    ],
)  # fmt: skip
def test_invalid_lines_and_zones(
    arguments: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.png", frame())
    assert detect(tmp_path / "a.png", "--jsonl", tmp_path / "a.jsonl", *arguments) == 2
    assert arguments[1] in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_options_that_need_each_other(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", frame())
    for arguments in (["--count-line", LINE], ["--count-zone", ZONE], ["--mot", tmp_path / "mot"]):
        values = ["--detector", "any", str(tmp_path / "a.png"), *map(str, arguments)]
        assert run_command("detect", values) == 2
    assert detect(tmp_path / "a.png", "--jsonl", tmp_path / "a.jsonl", "--resume") == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "gt.txt").write_text("1,1,1,1,1,1,1,1,1")
    assert detect(tmp_path / "a.png", "--mot", tmp_path / "full") == 2
    assert (tmp_path / "full" / "gt.txt").read_text() == "1,1,1,1,1,1,1,1,1"
    assert not (tmp_path / "mot").exists()


def test_repeated_options() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, DetectOptions)
    arguments = ["--track", "--count-line=0,1,2,3", "--count-line=4,5,6,7.5", "--count-zone=0,0,9,0,9,9"]
    options = from_mapping(DetectOptions, given(parser.parse_args(arguments), DetectOptions))
    assert options.count_line == ((0, 1, 2, 3), (4, 5, 6, 7.5))
    assert options.count_zone == ((0, 0, 9, 0, 9, 9),)
    again = from_mapping(DetectOptions, given(parser.parse_args(as_arguments(options)), DetectOptions))
    assert again == options
    assert from_mapping(DetectOptions, {"track": True, "count_line": "0,1,2,3"}).count_line == ((0, 1, 2, 3),)


def test_times_of_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", falling(4), fps=12.5)
    times = [item.time for item in iter_frames([str(path)])]
    np.testing.assert_allclose(np.array(times, float), [0, 0.08, 0.16, 0.24], atol=1e-6)


@pytest.mark.parametrize("fps", [10.0, 0.0, 90000.0])
def test_the_times_of_frames_tell_which_were_dropped(fps: float) -> None:
    """A camera at 10 frames per second; of 6 to 21, only each fifth one was read."""
    tracks = SequenceTracker(DetectOptions(track=True), print, print)
    for t in (*range(6), *range(6, 22, 5)):
        box = np.array([[5 + 9 * t, 20, 44 + 9 * t, 59]], np.float32)
        result = DetectionResult(box, np.zeros(1, int), np.full(1, 0.9), ("cat", "dog"), (320, 240))
        place = Frame("camera:0", np.zeros((240, 320, 3), np.uint8), t, fps, 50 + t / 10)
        assert tracks.track(place, result).ids.tolist() == [1]
    for time in (50.0, 50.0, 49.0, float("nan")):  # a clock that does not go on
        tracked = tracks.track(place._replace(time=time), result)
    assert tracked.ids.tolist() == [1]


def test_sequences() -> None:
    sequences = Sequences()
    steps: List[Tuple[str, Optional[int], bool, str, int]] = [
        ("a/1.png", None, True, "a", 0), ("a/2.png", None, False, "a", 1), ("b/1.png", None, True, "b", 0),
        ("a/c.mp4", 0, True, "a/c.mp4", 0), ("a/c.mp4", 1, False, "a/c.mp4", 1),
        ("a/c.mp4", 0, True, "a/c.mp4", 0), ("1.png", None, True, "", 0),
    ]  # fmt: skip
    for name, number, begins, sequence, place in steps:
        assert sequences.add(name, number) == begins
        assert (sequences.name, sequences.frame) == (sequence, place)
    sequences.add_failed("x/1.png")
    sequences.add_failed("x/broken.mp4")
    assert sequences.add("x/2.png", None)
    assert sequences.frame == 1
    sequences.add_failed("x/3.png")
    assert not sequences.add("x/4.png", None)
    assert sequences.frame == 3
