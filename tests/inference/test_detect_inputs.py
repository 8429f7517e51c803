"""Inputs of `mnssd detect`: brackets, drawings of earlier calls, folders that cannot be read, other files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from helpers.detectors import make_image, write_image, write_video
from helpers.unreadable import deny

from mnssd.cli.main import run_command
from mnssd.data.image_files import is_drawing
from mnssd.errors import ImageError
from mnssd.inference.drawings import DrawingWriter
from mnssd.inference.inputs import match_pattern
from mnssd.inference.sources import iter_frames
from mnssd.inference.video import Frame

pytestmark = pytest.mark.usefixtures("loaded_once")

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".JPG")


def make_folder(folder: Path, *names: str) -> Path:
    """Small images of these names."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, make_image(number, 64, 48))
    return folder


def names(folder: Path, *patterns: str) -> List[str]:
    """Names of the frames of inputs, relative to a folder."""
    frames = iter_frames([str(folder / pattern) for pattern in patterns])
    return [os.path.relpath(frame.name, folder) for frame in frames]


def detect(workspace: Path, *arguments: Any) -> int:
    return run_command("detect", [str(workspace / "run"), "--score", "0.9", *map(str, arguments)])


def files_below(folder: Path) -> List[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- patterns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos [2024]/*.jpg", ["photos [2024]/IMG_1.jpg", "photos [2024]/a [1].jpg"]),
        ("photos [2024]/a [1].jpg", ["photos [2024]/a [1].jpg"]),
        ("photos [2024]", ["photos [2024]/IMG_1.jpg", "photos [2024]/a [1].jpg", "photos [2024]/sub/b.png"]),
        ("photos [2024]/IMG_[0-9]*.jpg", ["photos [2024]/IMG_1.jpg"]),
        ("photos [[]2024]/*.jpg", ["photos [2024]/IMG_1.jpg", "photos [2024]/a [1].jpg"]),
        ("* [2024]/a [1].*", ["photos [2024]/a [1].jpg"]),
        ("photos [2024]/**/*.png", ["photos [2024]/sub/b.png"]),
        ("**/[ab]*", ["b1/c.jpg", "photos [2024]/a [1].jpg", "photos [2024]/sub/b.png"]),
        ("b[0-9]/?.jpg", ["b1/c.jpg"]),
        ("b[0-9]", ["b1/c.jpg"]),
    ],
)
def test_brackets_are_names_or_patterns(pattern: str, expected: List[str], tmp_path: Path) -> None:
    make_folder(
        tmp_path, "photos [2024]/IMG_1.jpg", "photos [2024]/a [1].jpg", "photos [2024]/sub/b.png", "b1/c.jpg"
    )
    assert names(tmp_path, pattern) == expected


def test_patterns_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, "x/[a]/1.jpg", "x/2.jpg", "x/.hidden/3.jpg")
    monkeypatch.chdir(tmp_path)
    assert match_pattern("x/[[]a]/*") == match_pattern("./x/[a]/*.jpg".lstrip("./")) == ["x/[a]/1.jpg"]
    assert match_pattern("**/*.jpg") == ["x/2.jpg", "x/[a]/1.jpg"]
    assert match_pattern("./*/2.jpg") == ["./x/2.jpg"]
    assert match_pattern("x/*.png") == match_pattern("y/*") == []


# ---- what is left out --------------------------------------------------------------------------------------


def test_folders_that_cannot_be_read_are_named_and_counted(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "new", "a.jpg", "closed/b.jpg", "open/c.jpg")
    deny(monkeypatch, folder / "closed")
    for entry in (folder, f"{folder}/**/*.jpg"):
        lines = tmp_path / "lines.jsonl"
        assert detect(workspace, entry, "--jsonl", lines) == 1
        content = [json.loads(line) for line in lines.read_text().splitlines()]
        assert sorted(Path(line["image"]).name for line in content) == ["a.jpg", "c.jpg", "closed"]
        assert ["closed" in line["image"] for line in content] == ["error" in line for line in content]
        assert str(folder / "closed") in capsys.readouterr().err
        lines.unlink()
    deny(monkeypatch, folder)
    assert detect(workspace, folder, "--jsonl", lines) == 1
    assert str(folder) in capsys.readouterr().err


def test_files_of_unknown_kinds_are_counted_in_one_line(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "new", "a.jpg", "sub/b.jpg")
    for name in ("a.foo", "b.foo", "sub/c.bar"):
        (folder / name).write_bytes(b"\0\1\2 no image")
    (folder / "labels.txt").write_text("a known kind of file")
    for entry in (folder, folder / "*"):
        assert detect(workspace, entry) == 0
        notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        (note,) = (note for note in notes if "unknown" in note)
        assert "a.foo" in note
    assert detect(workspace, folder / "a.foo", folder / "a.jpg") == 1
    assert "a.foo" in capsys.readouterr().err


# ---- drawings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_drawings_carry_a_mark(ending: str, tmp_path: Path) -> None:
    image = make_image(1, 640, 480)
    (tmp_path / "x.jpg").write_bytes(b"of another program")
    path = DrawingWriter(str(tmp_path)).write(Frame(f"x{ending}", f"x{ending}"), image)
    assert path is not None
    assert is_drawing(str(path))
    assert path.name == {".jpg": "x-2.jpg", ".bmp": "x.bmp.png"}.get(ending, f"x{ending}")
    write_image(path, image)
    assert not is_drawing(str(path))
    assert not is_drawing(str(tmp_path / "absent.jpg"))
    assert not is_drawing(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "output"),
    [("new", "new/drawn"), ("new", "new"), ("new", "new/sub"), ("new/*", "new"), ("new/**", "new")],
)
def test_drawings_are_never_inputs(source: str, output: str, workspace: Path, tmp_path: Path) -> None:
    """The same images in each call, and the same files after it."""
    folder = make_folder(tmp_path / "new", "a.jpg", "sub/b.png")
    write_video(folder / "clip.avi", 2)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    coco, files = [], []
    outputs = [
        "--output",
        tmp_path / output,
        "--coco",
        folder / "labels.json",
        "--voc",
        folder,
        "--json",
        folder / "a.json",
    ]
    for _ in range(2):
        assert detect(workspace, tmp_path / source, *outputs) == 0
        coco.append(json.loads((folder / "labels.json").read_text()))
        files.append(files_below(folder))
    assert coco[0] == coco[1]
    found = {image["file_name"] for image in coco[0]["images"]}
    assert found == {"a.jpg", "clip.avi", "sub/b.png"}
    assert files[0] == files[1]
    assert {path: path.read_bytes() for path in before} == before
    assert (
        detect(workspace, tmp_path / source, "--output", folder / "other", "--json", folder / "a.json") == 0
    )
    assert len(json.loads((folder / "a.json").read_text())["images"]) == len(coco[0]["images"])


def test_only_drawings_are_no_input(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "new", "a.jpg")
    assert detect(workspace, folder, "--output", folder) == 0
    assert (
        detect(workspace, *folder.glob("*.jpg"), "--json", tmp_path / "x.json") == 0
    )  # as a shell expands it
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == 1
    (folder / "a.jpg").unlink()
    assert detect(workspace, folder) == 1
    assert detect(workspace, folder / "a-2.jpg") == 1


def test_files_of_others_are_not_replaced(workspace: Path, tmp_path: Path) -> None:
    folder, drawn = make_folder(tmp_path / "new", "a.jpg"), make_folder(tmp_path / "drawn", "a.jpg")
    before = (drawn / "a.jpg").read_bytes()
    for _ in range(2):
        assert detect(workspace, folder, "--output", drawn) == 0
    assert files_below(drawn) == ["a-2.jpg", "a.jpg"]
    assert (drawn / "a.jpg").read_bytes() == before


def test_a_video_that_cannot_be_drawn_is_one_error(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The detections in it, and the inputs after it, are written."""
    from mnssd.errors import MnssdError
    from mnssd.inference import drawings

    def refuse(path: Path, *_: Any) -> None:
        raise MnssdError(f"{path}: no codec")

    folder = make_folder(tmp_path / "new", "z.jpg")
    for name in ("a", "b"):
        shutil.copy(workspace / "clip.avi", folder / f"{name}.avi")
    monkeypatch.setattr(drawings, "VideoWriter", refuse)
    assert detect(workspace, folder, "--output", tmp_path / "out", "--json", tmp_path / "x.json") == 1
    assert files_below(tmp_path / "out") == ["z.jpg"]
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == 9
    errors = [line for line in capsys.readouterr().err.splitlines() if "no codec" in line]
    assert [name in line for name, line in zip(("a.mp4", "b.mp4"), errors)] == [True, True]
    assert len(errors) == 2


def test_an_image_that_cannot_be_drawn_is_one_error(tmp_path: Path, workspace: Path) -> None:
    """WebP holds at most 16383 pixels per side; the others are drawn."""
    folder = make_folder(tmp_path / "new", "z.jpg")
    (folder / "wide.webp").write_bytes(
        Path(write_image(tmp_path / "wide.png", np.zeros((4, 17000, 3), np.uint8))).read_bytes()
    )
    assert detect(workspace, folder, "--output", tmp_path / "out", "--jsonl", tmp_path / "x.jsonl") == 1
    assert files_below(tmp_path / "out") == ["z.jpg"]
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 2


def test_errors_of_inputs_are_image_errors(tmp_path: Path) -> None:
    (frame,) = iter_frames([str(tmp_path)])
    assert isinstance(frame.image, ImageError)
