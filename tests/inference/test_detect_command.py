"""`mnssd detect`: outputs in all formats, videos, unreadable inputs, interruption and resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
from helpers.detectors import CLASSES, make_image, write_image, write_video

from mnssd.cli.main import run_command
from mnssd.data.annotations.voc_xml import read_annotation
from mnssd.inference.detector import Detector
from mnssd.inference.sources import Frame, iter_frames

SCORE = 0.4


def detect(workspace: Path, *arguments: Any) -> int:
    """Run the command with the run of the workspace."""
    return run_command("detect", [str(workspace / "run"), "--score", str(SCORE), *map(str, arguments)])


def read_lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_formats_have_the_same_detections(workspace: Path, detector: Detector, tmp_path: Path) -> None:
    outputs = [
        "--jsonl", tmp_path / "lines.jsonl", "--json", tmp_path / "one.json",
        "--coco", tmp_path / "coco.json", "--voc", tmp_path / "voc", "--output", tmp_path / "drawn",
    ]  # fmt: skip
    assert detect(workspace, workspace / "photos", *outputs) == 0
    lines = read_lines(tmp_path / "lines.jsonl")
    assert json.loads((tmp_path / "one.json").read_text()) == {"classes": list(CLASSES), "images": lines}
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [c["name"] for c in coco["categories"]] == list(CLASSES)
    names = ["image0.xml", "image1.xml", "image2.xml", os.path.join("more", "image0.xml")]
    voc = tmp_path / "voc"
    assert sorted(os.path.relpath(path, voc) for path in voc.rglob("*.xml")) == names
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {
        "image0.jpg", "image0.png", "image1.jpg", "image2.jpg",
    }  # fmt: skip
    assert len(lines) == len(coco["images"]) == 4
    for number, (line, image) in enumerate(zip(lines, coco["images"]), 1):
        result = detector(line["image"], SCORE)
        assert line == {"image": line["image"], **result.to_dict()}
        name = os.path.relpath(line["image"], workspace / "photos")
        assert (image["file_name"], image["width"], image["height"]) == (name, *result.size)
        height, width = cv2.imread(line["image"]).shape[:2]
        assert result.size == (width, height)
        rows = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        assert len(rows) == len(result) > 3
        expected = result.to_coco(image["id"])
        assert [{k: row[k] for k in expected[0]} for row in rows] == expected
        annotation = read_annotation(voc / names[number - 1])
        assert annotation.size == result.size
        assert not annotation.invalid
        assert [entry.name for entry in annotation.objects] == result.names
        np.testing.assert_allclose([entry.box for entry in annotation.objects], result.boxes, atol=1.01)
    assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))


@pytest.mark.usefixtures("loaded_once")
def test_videos_are_processed_frame_by_frame(
    workspace: Path, detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    clip = workspace / "clip.avi"
    outputs = ["--jsonl", tmp_path / "lines.jsonl", "--output", tmp_path, "--voc", tmp_path / "voc"]
    assert detect(workspace, clip, *outputs) == 0
    lines = read_lines(tmp_path / "lines.jsonl")
    assert [(line["image"], line["frame"]) for line in lines] == [(str(clip), i) for i in range(4)]
    for line, frame in zip(lines, iter_frames([str(clip)])):
        assert isinstance(frame, Frame)
        assert line["detections"] == detector(frame.image, SCORE).to_dict()["detections"]
    drawn = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    assert (drawn.get(cv2.CAP_PROP_FRAME_WIDTH), drawn.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (160, 120)
    assert sum(drawn.read()[0] for _ in range(9)) == 4
    assert list((tmp_path / "voc").iterdir()) == []
    assert "clip.avi frame 2: " in capsys.readouterr().out


@pytest.mark.usefixtures("loaded_once")
def test_unreadable_inputs_are_skipped_and_named(
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
    assert "2 of 4" in err


@pytest.mark.usefixtures("loaded_once")
def test_outputs_never_replace_each_other_or_an_input(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs of one name, endings that cannot be written, and an input in the output folder."""
    for folder in ("a", "b", "out"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.jpg", make_image(ord(folder[0])))
    before = (tmp_path / "out" / "x.jpg").read_bytes()
    shutil.copy(tmp_path / "a" / "x.jpg", tmp_path / "photo")
    shutil.copy(tmp_path / "a" / "x.jpg", tmp_path / "old.jfif")
    inputs = [str(tmp_path / name) for name in ("a/x.jpg", "b/x.jpg", "out/x.jpg", "photo", "old.jfif")]
    command = [str(workspace / "run"), *inputs, "--output", str(tmp_path / "out")]
    for _ in range(2):  # the second call writes the same files
        assert run_command("detect", command) == 0
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["old.jfif.png", "photo.png", "x-2.jpg", "x-3.jpg", "x-4.jpg", "x.jpg"]
        assert (tmp_path / "out" / "x.jpg").read_bytes() == before
    assert f"{inputs[1]}: " in capsys.readouterr().out


# ---- resume ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("loaded_once")
@pytest.mark.parametrize("cut", [0, 1, 30])
def test_resume_continues_after_the_last_complete_line(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture, cut: int
) -> None:
    """The file ends after two complete lines and `cut` bytes of the third."""
    inputs = [workspace / "photos", workspace / "clip.avi"]
    for folder in ("whole", "cut"):
        outputs = ["--jsonl", tmp_path / folder / "lines.jsonl", "--output", tmp_path / folder / "drawn"]
        assert detect(workspace, *inputs, *outputs) == 0
    whole, path = (tmp_path / folder / "lines.jsonl" for folder in ("whole", "cut"))
    first, second, third = whole.read_bytes().splitlines(keepends=True)[:3]
    path.write_bytes(first + second + third[:cut])
    drawing = tmp_path / "cut" / "drawn" / "image2.jpg"
    drawing.unlink()
    capsys.readouterr()
    outputs = ["--jsonl", path, "--output", tmp_path / "cut" / "drawn", "--resume"]
    assert detect(workspace, *inputs, *outputs, "--json", tmp_path / "all.json") == 0
    assert path.read_bytes() == whole.read_bytes()
    assert len(json.loads((tmp_path / "all.json").read_text())["images"]) == 8
    assert drawing.exists()
    assert "6 images" in capsys.readouterr().out


@pytest.mark.usefixtures("loaded_once")
def test_resume_keeps_the_names_of_outputs(workspace: Path, tmp_path: Path) -> None:
    """A second video or image of one name does not replace the first, even if one could not be read."""
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
    assert [path.relative_to(cut) for path in cut.rglob("*.xml")] == [Path("voc", "b", "x.xml")]


@pytest.mark.usefixtures("loaded_once")
def test_other_files_are_not_overwritten(workspace: Path, tmp_path: Path, capsys: Any) -> None:
    path, photo = tmp_path / "lines.jsonl", workspace / "photos" / "image0.jpg"
    path.write_text("my notes\n")
    assert detect(workspace, photo, "--jsonl", path) == 1
    assert "lines.jsonl" in capsys.readouterr().err
    assert detect(workspace, photo, "--jsonl", path, "--resume") == 1
    assert "lines.jsonl: line 1" in capsys.readouterr().err
    assert path.read_text() == "my notes\n"
    path.write_text('{"image": "other.jpg"}\n')
    assert detect(workspace, photo, "--jsonl", path, "--resume") == 1
    err = capsys.readouterr().err
    assert "other.jpg" in err
    assert str(photo) in err
    assert path.read_text() == '{"image": "other.jpg"}\n'
    assert detect(workspace, photo, "--resume") == 2
    assert "--jsonl" in capsys.readouterr().err


def test_ctrl_c_leaves_complete_lines(workspace: Path, tmp_path: Path) -> None:
    lines, photo = tmp_path / "lines.jsonl", str(workspace / "photos" / "image0.jpg")
    command = [sys.executable, "-m", "mnssd.cli.main", "detect", str(workspace / "run"), *[photo] * 3000]
    process = subprocess.Popen(
        [*command, "--jsonl", str(lines), "--json", str(tmp_path / "one.json")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A process in the background ignores SIGINT, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while (not lines.exists() or lines.stat().st_size < 20_000) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--jsonl {lines} --resume" in err
    assert "Traceback" not in err
    count = len(read_lines(lines))
    assert 0 < count < 3000
    assert len(json.loads((tmp_path / "one.json").read_text())["images"]) == count


# ---- errors ------------------------------------------------------------------------------------------------


def test_a_window_needs_a_display(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    photo = workspace / "photos" / "image0.jpg"
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    assert detect(workspace, photo, "--show") == 2
    assert "DISPLAY" in capsys.readouterr().err
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    assert detect(workspace, photo, "--show") == 2
    assert "opencv-python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["RUN", "PHOTO", "--score", "2"], 2, "score"),
        (["RUN", "PHOTO", "--iou", "-1"], 2, "iou"),
        (["RUN", "PHOTO", "--engine", "tensorrt"], 2, "tensorrt"),
        (["RUN", "PHOTO", "--output", "PHOTO"], 1, "image0.jpg"),
        (["EMPTY", "PHOTO"], 1, "empty"),
    ],
)
def test_invalid_arguments_are_named(
    arguments: List[str], status: int, named: str, workspace: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "empty").mkdir()
    paths = {
        "RUN": workspace / "run",
        "PHOTO": workspace / "photos" / "image0.jpg",
        "EMPTY": tmp_path / "empty",
    }
    assert run_command("detect", [str(paths.get(argument, argument)) for argument in arguments]) == status
    assert named in capsys.readouterr().err
