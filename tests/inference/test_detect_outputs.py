"""Outputs of `mnssd detect`: refused before any work, kept if something fails, read back as datasets."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from helpers.detectors import make_image, write_image

from mnssd.cli.main import EXIT_BROKEN_PIPE, main, run_command
from mnssd.data.annotations.voc_xml import read_annotation
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.inference import output
from mnssd.inference.detector import Detector

pytestmark = pytest.mark.usefixtures("loaded_once")

SCORE = 0.9


def detect(workspace: Path, *arguments: Any) -> int:
    return run_command("detect", [str(workspace / "run"), "--score", str(SCORE), *map(str, arguments)])


def make_folder(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, make_image(number, 160 + 10 * number, 120))
    return folder


# ---- label, then train -------------------------------------------------------------------------------------


def boxes_by_image(dataset: Dataset) -> Dict[str, np.ndarray]:
    return {os.path.realpath(sample.image_path): sample.boxes for sample in dataset}


def assert_same_boxes(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert len(found) == len(expected) > 3
    distances = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert distances.min(axis=0).max() <= tolerance


IMAGES = ("a.jpg", "sub/a.jpg", "sub/b.png", "y.jpg", "y.png", "z [1].bmp", "z [1].png")


@pytest.mark.parametrize(
    ("root", "target"),
    [
        ("new", "new/labels.json"),
        ("new", "new/annotations/labels.json"),
        (".", "labels.json"),
        ("new", "out/labels.json"),  # moved into the folder afterwards
    ],
)
def test_coco_is_read_back(
    root: str,
    target: str,
    workspace: Path,
    detector: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_folder(tmp_path / "new", *IMAGES)
    monkeypatch.chdir(tmp_path)
    assert detect(workspace, "new", "--coco", target) == 0
    if target.startswith("out"):
        shutil.move(target, "new")
    for place in (root, str(tmp_path / root)):  # wherever it is opened
        found = boxes_by_image(open_dataset("coco", Path(place), "labels"))
        for name in IMAGES:
            boxes = detector(str(folder / name), SCORE).boxes
            assert_same_boxes(found[str(folder / name)], boxes, 0.01)
        monkeypatch.chdir("/")
        if root == ".":
            break


@pytest.mark.parametrize("target", ["new", "new/labels", "new/Annotations"])
def test_voc_is_read_back(target: str, workspace: Path, detector: Detector, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "new", *IMAGES)
    assert detect(workspace, folder, "--voc", tmp_path / target) == 0
    found = boxes_by_image(open_dataset("voc", folder, "all"))
    assert set(found) == {str(folder / name) for name in IMAGES}
    for name in IMAGES:
        assert_same_boxes(found[str(folder / name)], detector(str(folder / name), SCORE).boxes, 0.51)
    shown = main(["check-data", str(folder), "--no-estimate", "--json", str(tmp_path / "check.json")])
    codes = {finding["code"] for finding in json.loads((tmp_path / "check.json").read_text())["findings"]}
    assert not codes & {"image-missing", "image-unannotated", "filename-differs", "annotation-without-image"}
    assert shown in (0, 1)  # detections of an untrained network overlap


@pytest.mark.parametrize("option", ["--coco", "--voc"])
def test_drawings_do_not_belong_to_the_dataset(option: str, workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "new", "a.jpg", "sub/b.png", "c.jpg")
    target = folder / "labels.json" if option == "--coco" else folder
    assert detect(workspace, folder, option, target, "--output", folder / "drawn") == 0
    make_folder(folder, "later.jpg")
    main(["check-data", str(folder), "--no-estimate", "--json", str(tmp_path / "check.json")])
    findings = json.loads((tmp_path / "check.json").read_text())["findings"]
    unused = [finding["file"] for finding in findings if finding["code"] == "image-unannotated"]
    assert list(map(os.path.basename, unused)) == ["later.jpg"]


def test_inputs_of_several_folders_have_annotations_in_folders(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "a/x.jpg", "b/x.jpg", "c/y.jpg")
    inputs = [folder / "a", folder / "b" / "x.jpg", f"{folder}/c/*.jpg"]
    assert detect(workspace, *inputs, "--voc", folder / "labels", "--coco", folder / "labels.json") == 0
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.xml"))
    assert written == ["labels/a/x.xml", "labels/b/x.xml", "labels/c/y.xml"]
    expected = {str(folder / name) for name in ("a/x.jpg", "b/x.jpg", "c/y.jpg")}
    for name, split in (("voc", "all"), ("coco", "labels")):
        assert set(boxes_by_image(open_dataset(name, folder, split))) == expected


def test_an_annotation_says_which_of_two_images_it_is_for(tmp_path: Path, detector: Detector) -> None:
    """As labelImg writes it: y.xml for y.png, although there is a y.jpg, too."""
    folder = make_folder(tmp_path / "new", "y.jpg", "y.png", "z.jpg")
    for name, image in (("y", "y.png"), ("z", "z.jpg")):
        (folder / f"{name}.xml").write_text(detector(str(folder / image), SCORE).to_voc(image))
    found = boxes_by_image(open_dataset("voc", folder, "all"))
    assert set(found) == {str(folder / "y.png"), str(folder / "z.jpg")}


def test_annotations_that_were_changed_are_kept(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "new", "a.jpg", "b.jpg", "c.jpg")
    (folder / "c.xml").write_text("<annotation><filename>c.jpg</filename></annotation>")
    for _ in range(2):
        assert detect(workspace, folder, "--voc", folder) == 0
        assert sorted(path.name for path in folder.glob("*.xml")) == ["a.xml", "b.xml", "c.xml"]
        assert read_annotation(folder / "c.xml").objects == []
    corrected = (folder / "a.xml").read_text().replace("<name>dog<", "<name>cat<")
    (folder / "a.xml").write_text(corrected)
    before = (folder / "b.xml").read_text()
    assert (
        run_command("detect", [str(workspace / "run"), str(folder), "--score", "0.99", "--voc", str(folder)])
        == 0
    )
    assert (folder / "a.xml").read_text() == corrected
    assert len((folder / "b.xml").read_text()) < len(before)


def test_an_image_that_gets_a_namesake_keeps_its_annotation(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "new", "y.png")
    assert detect(workspace, folder, "--voc", folder) == 0
    make_folder(folder, "y.jpg")
    assert detect(workspace, folder, "--voc", folder) == 0
    assert sorted(path.name for path in folder.glob("*.xml")) == ["y.jpg.xml", "y.xml"]
    assert len(open_dataset("voc", folder, "all")) == 2


# ---- destinations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--json", "--coco", "--jsonl"])
@pytest.mark.parametrize("target", ["folder", "photo.jpg", "photo.jpg/x.json", "readonly.json", "clip.avi"])
def test_files_that_cannot_be_written_are_refused_before_any_work(
    option: str, target: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    make_folder(tmp_path, "photo.jpg")
    (tmp_path / "folder").mkdir()
    for name in ("readonly.json", "clip.avi"):
        (tmp_path / name).write_text("kept")
    monkeypatch.setattr(os, "access", lambda path, mode: "readonly" not in str(path))
    before = (tmp_path / "photo.jpg").read_bytes()
    assert detect(workspace, tmp_path / "photo.jpg", option, tmp_path / target) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(tmp_path / target) in captured.err
    assert (tmp_path / "photo.jpg").read_bytes() == before
    assert (tmp_path / "readonly.json").read_text() == (tmp_path / "clip.avi").read_text() == "kept"


def test_json_of_every_command_is_checked_before_any_work(tmp_path: Path, capsys: Any) -> None:
    target = str(tmp_path / "folder")
    os.mkdir(target)
    for command in (["check-data", "x"], ["classify", "x", "y.jpg"], ["compare"], ["bench", "infer"]):
        assert main([*command, "--json", target]) == 1
        captured = capsys.readouterr()
        assert target in captured.err
        assert captured.out == ""


@pytest.mark.parametrize("option", ["--output", "--voc"])
def test_folders_that_cannot_be_written_are_refused_before_any_work(
    option: str, workspace: Path, tmp_path: Path, capsys: Any
) -> None:
    make_folder(tmp_path, "photo.jpg")
    for target in ("photo.jpg", "photo.jpg/x"):
        assert detect(workspace, tmp_path / "photo.jpg", option, tmp_path / target) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert str(tmp_path / target) in captured.err


def test_two_outputs_need_two_files(workspace: Path, tmp_path: Path) -> None:
    make_folder(tmp_path, "photo.jpg")
    same = ["--json", tmp_path / "x.json", "--coco", f"{tmp_path}/./x.json"]
    assert detect(workspace, tmp_path / "photo.jpg", *same) == 2


def test_pipes_and_devices_are_written_to(workspace: Path, tmp_path: Path) -> None:
    make_folder(tmp_path, "photo.jpg")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert detect(workspace, tmp_path / "photo.jpg", "--json", tmp_path / "pipe") == 0
    assert len(json.loads(os.read(reader, 1 << 16))["images"]) == 1
    os.close(reader)
    device = os.stat("/dev/null").st_rdev
    assert detect(workspace, tmp_path / "photo.jpg", "--json", "/dev/null") == 0
    assert os.stat("/dev/null").st_rdev == device


def test_detections_are_kept_if_a_file_cannot_be_written_at_the_end(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    make_folder(tmp_path / "new", "a.jpg", "b.jpg")
    target = tmp_path / "x.json"
    target.write_text("before")

    def refuse(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(output, "write_json", refuse)
        outputs = ["--json", target, "--coco", tmp_path / "coco.json"]
        assert detect(workspace, tmp_path / "new", *outputs) == 1
    err = capsys.readouterr().err
    assert str(target) in err
    assert target.read_text() == "before"
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 2
    arguments = err.strip().splitlines()[-1].partition("--jsonl ")[2].split()
    assert detect(workspace, tmp_path / "new", "--jsonl", *arguments, "--json", target) == 0
    assert len(json.loads(target.read_text())["images"]) == 2
    shutil.rmtree(Path(arguments[0]).parent)


# ---- nobody reads standard output --------------------------------------------------------------------------


class ClosedPipe:
    """Standard output that the reader closes, or that fails, after some lines."""

    def __init__(self, lines: int, code: int = errno.EPIPE) -> None:
        self.code = code
        self.lines, self.text, self.null = lines, "", open(os.devnull, "w")  # noqa: SIM115

    def write(self, text: str) -> int:
        if self.text.count("\n") >= self.lines:
            raise OSError(self.code, os.strerror(self.code))
        self.text += text
        return len(text)

    def flush(self) -> None:
        if self.text.count("\n") >= self.lines:
            raise OSError(self.code, os.strerror(self.code))

    def fileno(self) -> int:
        return self.null.fileno()


@pytest.mark.parametrize("lines", [0, 1])
def test_a_closed_pipe_ends_the_command_quietly(
    lines: int, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdout", ClosedPipe(lines))
    assert detect(workspace, workspace / "photos") == EXIT_BROKEN_PIPE
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("lines", [0, 1])
def test_a_closed_pipe_loses_no_output(
    lines: int, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdout", ClosedPipe(lines))
    outputs = ["--json", tmp_path / "x.json", "--output", tmp_path / "drawn"]
    assert detect(workspace, workspace / "photos", *outputs) == 0
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == 4
    assert len(list((tmp_path / "drawn").iterdir())) == 4
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_standard_output_that_cannot_be_written_is_an_error_and_loses_no_file(
    code: int, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdout", ClosedPipe(1, code))
    outputs = ["--json", tmp_path / "x.json", "--output", tmp_path / "drawn"]
    assert detect(workspace, workspace / "photos", *outputs) == 1
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == 4
    assert len(list((tmp_path / "drawn").iterdir())) == 4
    assert os.strerror(code) in capsys.readouterr().err


def test_a_stream_that_was_closed_before_is_no_error(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("sys.stdout", "sys.stderr"):
        monkeypatch.setattr(stream, None)
    assert detect(workspace, workspace / "photos" / "image0.jpg", "--json", tmp_path / "x.json") == 0
    assert len(json.loads((tmp_path / "x.json").read_text())["images"]) == 1
    assert detect(workspace, tmp_path / "absent.jpg") == 1


def test_other_commands_end_quietly(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = make_folder(tmp_path / "new", "a.jpg", "b.jpg")
    assert detect(workspace, folder, "--voc", folder) == 0
    monkeypatch.setattr("sys.stdout", ClosedPipe(1))
    assert main(["summary", "mobilenet_v2", "--width", "0.25"]) == EXIT_BROKEN_PIPE
    assert main(["check-data", str(folder), "--no-estimate"]) == EXIT_BROKEN_PIPE
    assert main(["check-data", str(folder), "--no-estimate", "--json", str(tmp_path / "x.json")]) in (0, 1)
    assert json.loads((tmp_path / "x.json").read_text())["findings"]
    assert "error:" not in capsys.readouterr().err
