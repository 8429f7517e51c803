"""Detecting in folders, videos and many images: what is found where, formats, interruptions, selection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
from helpers.detectors import CLASSES, make_image, make_net, write_image, write_images, write_run

from mnssd.cli.main import run_command
from mnssd.data.annotations.voc_xml import read_annotation
from mnssd.errors import MnssdError, OptionError
from mnssd.inference.detector import Detector
from mnssd.inference.output import Lines
from mnssd.boxes import iou
from mnssd.inference.results import DetectionResult
from mnssd.inference.sources import CAMERA, Frame, Unreadable, iter_frames

SCORE = 0.4


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a folder ``photos`` with images in it and below it, and a video."""
    folder = tmp_path_factory.mktemp("many")
    write_run(folder / "run", *make_net())
    (folder / "photos" / "more").mkdir(parents=True)
    write_images(folder / "photos", 3)
    write_image(folder / "photos" / "more" / "image0.png", make_image(9))
    (folder / "photos" / "notes.txt").write_text("no image")
    write_video(folder / "clip.avi", 4)
    return folder


@pytest.fixture(scope="module")
def detector(workspace: Path) -> Detector:
    return Detector.load(workspace / "run")


def write_video(path: Path, frames: int) -> None:
    """160x120, 5 frames a second, every frame another image."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (160, 120))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(cv2.cvtColor(make_image(20 + i, 160, 120), cv2.COLOR_RGB2BGR))
    writer.release()


def detect(workspace: Path, *arguments: Any) -> int:
    """Call the command."""
    return run_command("detect", [str(workspace / "run"), "--score", str(SCORE), *map(str, arguments)])


def read_lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- what is looked at -------------------------------------------------------------------------------------


def test_folders_patterns_and_files_in_an_order_that_stays(workspace: Path) -> None:
    photos = workspace / "photos"
    found = [os.path.relpath(view.name, photos) for view in iter_frames([str(photos)])]
    assert found == ["image0.jpg", "image1.jpg", "image2.jpg", os.path.join("more", "image0.png")]
    inputs = [str(photos / "im*2.jpg"), str(photos / "image0.jpg"), str(workspace / "clip.avi")]
    seen = list(iter_frames(inputs))
    assert [Path(view.name).name for view in seen] == ["image2.jpg", "image0.jpg", *["clip.avi"] * 4]
    frames = [view for view in seen if isinstance(view, Frame) and view.frame is not None]
    assert [view.frame for view in frames] == [0, 1, 2, 3]
    assert {view.rate for view in frames} == {5.0}
    for i, view in enumerate(frames):
        assert isinstance(view.picture, np.ndarray)
        wanted = make_image(20 + i, 160, 120).astype(int)
        assert np.abs(view.picture.astype(int) - wanted).mean() < 12  # as far as the codec loses


def test_nothing_is_opened_before_its_turn(workspace: Path) -> None:
    stream = iter_frames([str(workspace / "photos"), str(workspace / "absent-*.jpg")])
    for _ in range(4):
        next(stream)
    with pytest.raises(OptionError, match="fits no file"):
        next(stream)


def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no image or video in this folder"):
        list(iter_frames([str(tmp_path)]))
    with pytest.raises(OptionError, match="camera:0, camera:1"):
        list(iter_frames([CAMERA + "front"]))
    with pytest.raises(OptionError, match="no such camera"):
        list(iter_frames([CAMERA + "87"]))
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    for name in ("broken.mp4", "absent.mp4"):
        (one,) = iter_frames([str(tmp_path / name)])
        assert isinstance(one, Unreadable)
        assert name in one.error


# ---- the command -------------------------------------------------------------------------------------------


def test_every_format_says_the_same(workspace: Path, detector: Detector, tmp_path: Path) -> None:
    outputs = [
        "--jsonl", tmp_path / "lines.jsonl", "--json", tmp_path / "one.json",
        "--coco", tmp_path / "coco.json", "--voc", tmp_path / "voc", "--output", tmp_path / "drawn",
    ]  # fmt: skip
    assert detect(workspace, workspace / "photos", *outputs) == 0
    lines = read_lines(tmp_path / "lines.jsonl")
    assert json.loads((tmp_path / "one.json").read_text()) == {"classes": list(CLASSES), "images": lines}
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [c["name"] for c in coco["categories"]] == list(CLASSES)
    assert sorted(path.name for path in (tmp_path / "voc").iterdir()) == [
        "image0-2.xml", "image0.xml", "image1.xml", "image2.xml",
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {
        "image0.jpg", "image0.png", "image1.jpg", "image2.jpg",
    }  # fmt: skip
    assert len(lines) == len(coco["images"]) == 4
    for number, (line, image) in enumerate(zip(lines, coco["images"]), 1):
        found = detector(line["image"], SCORE)
        assert line == {"image": line["image"], **found.to_dict()}
        assert (image["file_name"], image["width"], image["height"]) == (line["image"], *found.size)
        height, width = cv2.imread(line["image"]).shape[:2]
        assert found.size == (width, height)
        rows = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        assert len(rows) == len(found) > 3
        expected = found.to_coco(image["id"])
        assert [{k: row[k] for k in expected[0]} for row in rows] == expected
        name = ["image0.xml", "image1.xml", "image2.xml", "image0-2.xml"][number - 1]
        annotation = read_annotation(tmp_path / "voc" / name)
        assert annotation.size == found.size
        if not annotation.invalid:  # boxes of one pixel cannot be read back
            assert [entry.name for entry in annotation.objects] == found.names
            np.testing.assert_allclose([entry.box for entry in annotation.objects], found.boxes, atol=0.51)
    assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))


def test_videos_frame_by_frame(
    workspace: Path, detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    clip = workspace / "clip.avi"
    outputs = ["--jsonl", tmp_path / "lines.jsonl", "--output", tmp_path, "--voc", tmp_path / "voc"]
    assert detect(workspace, clip, *outputs) == 0
    lines = read_lines(tmp_path / "lines.jsonl")
    assert [(line["image"], line["frame"]) for line in lines] == [(str(clip), i) for i in range(4)]
    for line, view in zip(lines, iter_frames([str(clip)])):
        assert isinstance(view, Frame)
        assert line["detections"] == detector(view.picture, SCORE).to_dict()["detections"]
    drawn = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    assert (drawn.get(cv2.CAP_PROP_FRAME_WIDTH), drawn.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (160, 120)
    assert sum(drawn.read()[0] for _ in range(9)) == 4
    assert list((tmp_path / "voc").iterdir()) == []
    said = capsys.readouterr().out
    assert "clip.avi frame 2: " in said
    assert "4 images, " in said


def test_what_cannot_be_read_is_passed_over_and_told(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_image(tmp_path / "a.jpg", make_image(1))
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (tmp_path / "c.avi").write_bytes(b"no video")
    write_image(tmp_path / "d.png", make_image(2))
    lines = tmp_path / "out" / "lines.jsonl"
    assert detect(workspace, tmp_path, "--jsonl", lines, "--coco", tmp_path / "out" / "coco.json") == 1
    assert [Path(line["image"]).name for line in read_lines(lines)] == ["a.jpg", "b.jpg", "c.avi", "d.png"]
    assert ["error" in line for line in read_lines(lines)] == [False, True, True, False]
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [Path(image["file_name"]).name for image in coco["images"]] == ["a.jpg", "d.png"]
    err = capsys.readouterr().err
    assert "b.jpg" in err
    assert "c.avi" in err
    assert "2 of 4 images" in err


# ---- interrupted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_it_goes_on_where_it_ended(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture, cut: int
) -> None:
    """The file ends after two whole lines and `cut` bytes of the third."""
    inputs = [workspace / "photos", workspace / "clip.avi"]
    for folder in ("whole", "cut"):
        outputs = ["--jsonl", tmp_path / folder / "lines.jsonl", "--output", tmp_path / folder / "drawn"]
        assert detect(workspace, *inputs, *outputs) == 0
    whole, path = (tmp_path / folder / "lines.jsonl" for folder in ("whole", "cut"))
    first, second, third = whole.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(first + second + third[:cut])
    gone = tmp_path / "cut" / "drawn" / "image2.jpg"
    gone.unlink()
    capsys.readouterr()
    outputs = ["--jsonl", path, "--output", tmp_path / "cut" / "drawn", "--resume"]
    assert detect(workspace, *inputs, *outputs, "--json", tmp_path / "all.json") == 0
    assert path.read_bytes() == whole.read_bytes()
    assert len(json.loads((tmp_path / "all.json").read_text())["images"]) == 8
    assert gone.exists()
    said = capsys.readouterr().out
    assert "6 images, " in said
    assert "2 were there" in said


def test_names_stay_taken_after_an_interruption(workspace: Path, tmp_path: Path) -> None:
    """A second video of one name does not replace the first, nor do images, whatever could not be read."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "clip.avi", 2)
        write_image(tmp_path / folder / "x.jpg", make_image(ord(folder)))
    (tmp_path / "a" / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    inputs = [tmp_path / "a", tmp_path / "b"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for target in (whole, cut):
        outputs = ["--jsonl", target / "lines.jsonl", "--output", target / "drawn", "--voc", target / "voc"]
        assert detect(workspace, *inputs, *outputs) == 1
    names = {path.name for path in (whole / "drawn").iterdir()}
    assert names == {"clip.mp4", "clip-2.mp4", "x.jpg"}
    lines = (cut / "lines.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "lines.jsonl").write_bytes(b"".join(lines[:3]))  # clip, clip, the broken image
    before = (cut / "drawn" / "clip.mp4").read_bytes()
    assert detect(workspace, *inputs, *outputs, "--resume") == 0
    assert {path.name for path in (cut / "drawn").iterdir()} == names
    assert (cut / "drawn" / "clip.mp4").read_bytes() == before
    assert {path.name for path in (cut / "voc").iterdir()} == {"x.xml"}


def test_lines_of_something_else_are_left_alone(workspace: Path, tmp_path: Path, capsys: Any) -> None:
    path, photo = tmp_path / "lines.jsonl", workspace / "photos" / "image0.jpg"
    path.write_text("my notes\n")
    assert detect(workspace, photo, "--jsonl", path) == 1
    assert "is there already; go on with it by --resume" in capsys.readouterr().err
    assert detect(workspace, photo, "--jsonl", path, "--resume") == 1
    assert "line 1 is none of" in capsys.readouterr().err
    assert path.read_text() == "my notes\n"
    path.write_text('{"image": "other.jpg"}\n')
    assert detect(workspace, photo, "--jsonl", path, "--resume") == 1
    assert "ends with other.jpg, but image 1 is now" in capsys.readouterr().err
    assert path.read_text() == '{"image": "other.jpg"}\n'
    assert detect(workspace, photo, "--resume") == 2
    assert "give --jsonl FILE" in capsys.readouterr().err


def test_ctrl_c_leaves_whole_lines_and_says_how_to_go_on(workspace: Path, tmp_path: Path) -> None:
    lines, photo = tmp_path / "lines.jsonl", str(workspace / "photos" / "image0.jpg")
    command = [sys.executable, "-m", "mnssd.cli.main", "detect", str(workspace / "run"), *[photo] * 3000]
    process = subprocess.Popen(
        [*command, "--jsonl", str(lines), "--json", str(tmp_path / "one.json")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # Where the tests run in the background, SIGINT is ignored, also by what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    until = time.monotonic() + 120
    while (not lines.exists() or lines.stat().st_size < 20_000) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: --jsonl {lines} --resume" in err
    assert "Traceback" not in err
    done = len(read_lines(lines))
    assert 0 < done < 3000
    assert len(json.loads((tmp_path / "one.json").read_text())["images"]) == done


def test_memory_of_the_reports_does_not_grow_with_them(tmp_path: Path) -> None:
    """Ten thousand images' lines, read back one by one."""
    import tracemalloc

    from mnssd.inference.output import write_coco

    path = str(tmp_path / "lines")
    lines = Lines(path, False)
    record = {"class": "cat", "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}
    for i in range(10_000):
        lines.add({"image": f"{i}.jpg", "width": 10, "height": 10, "detections": [record] * 3})
    lines.close()
    tracemalloc.start()
    write_coco(str(tmp_path / "coco.json"), path, CLASSES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 30_000
    again = Lines(path, True)
    assert (again.done, again.last["image"] if again.last else "") == (10_000, "9999.jpg")
    again.close()


# ---- what is wanted of it ----------------------------------------------------------------------------------


def test_arguments_of_a_detector_choose_among_what_it_finds(detector: Detector, workspace: Path) -> None:
    photo = str(workspace / "photos" / "image0.jpg")
    every = detector(photo, 0.1)
    assert set(every.names) == set(CLASSES)
    some = detector(photo, 0.1, classes=["dog", "cat"])
    assert some.names == [name for name in every.names if name != "cow"]
    assert [tuple(one.box) for one in some] == [tuple(o.box) for o in every if o.name != "cow"]
    assert detector(photo, 0.1, max_detections=3).names == every.names[:3]
    assert not detector(photo, 0.1, max_detections=0)
    few = detector(photo, 0.1, iou=0.1)
    assert 0 < len(few) < len(every)
    for label in range(len(CLASSES)):
        boxes = few.boxes[few.labels == label]
        for i in range(1, len(boxes)):
            assert iou(boxes[i], boxes[:i]).max() <= 0.1
    assert len(detector(photo, 0.1, iou=0.9)) == len(every)
    both = detector([photo, photo], 0.1, classes=["cat"], max_detections=1)
    assert [one.names for one in both] == [["cat"], ["cat"]]
    with pytest.raises(OptionError, match="did you mean cat"):
        detector(photo, classes=["cats"])


def test_what_was_found_says_it_in_words_and_pictures() -> None:
    boxes = np.array([[3, 2, 7, 9], [0, 0, 1, 1]], np.float32)
    found = DetectionResult(
        boxes, np.array([1, 0]), np.array([0.75, 0.5], np.float32), ("cat", "dog"), (20, 10)
    )
    assert repr(found) == "2 found: dog 0.75, cat 0.50"
    assert found.to_coco(7)[0] == {"image_id": 7, "category_id": 2, "bbox": [3, 2, 5, 8], "score": 0.75}
    assert found.to_coco(7, {"dog": 18, "cat": 17})[1]["category_id"] == 17
    assert found.to_dict()["detections"][0] == {"class": "dog", "score": 0.75, "box": [3, 2, 7, 9]}
    assert "<name>dog</name>" in found.to_voc("x.jpg")
    assert "<xmin>4</xmin><ymin>3</ymin><xmax>8</xmax><ymax>10</ymax>" in found.to_voc("x.jpg")
    image = np.zeros((10, 20, 3), np.uint8)
    assert found.draw(image).any()
    assert not image.any()
    nothing = DetectionResult(boxes[:0], np.array([], int), np.array([]), ("cat",), (20, 10))
    assert (list(nothing), bool(nothing), repr(nothing)) == ([], False, "0 found")


def test_a_window_needs_a_display(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    photo = workspace / "photos" / "image0.jpg"
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    assert detect(workspace, photo, "--show") == 2
    assert "there is no display here" in capsys.readouterr().err
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    assert detect(workspace, photo, "--show") == 2
    assert "install opencv-python in place of" in capsys.readouterr().err


def test_a_video_needs_a_folder_that_can_be_written(tmp_path: Path) -> None:
    from mnssd.inference.sources import VideoFile

    with pytest.raises(MnssdError, match="cannot be written"):
        VideoFile(tmp_path / "absent" / "x.mp4", (64, 48), 0)
