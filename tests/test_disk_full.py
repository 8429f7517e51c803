"""A full disk: the message names the file, nothing is lost, and work resumes when there is space.

The disk is a small tmpfs that the test mounts; where mounting is not allowed, the tests are skipped.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from helpers.detectors import make_net, write_images, write_run
from helpers.runs import TINY, assert_same_arrays, train

from mnssd.cli.main import main
from mnssd.errors import MnssdError
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint

NO_SPACE = os.strerror(errno.ENOSPC)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; `resize` changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size // 1024}k", str(disk)], check=True)


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fill(disk: Path, free: int = 0) -> Path:
    """Write a file that leaves `free` bytes."""
    status = os.statvfs(disk)
    (disk / "full").write_bytes(bytes(status.f_bavail * status.f_bsize - free))
    return disk / "full"


def test_training_resumes_exactly_when_there_is_space_again(shapes: str, tiny_run: Path, disk: Path) -> None:
    """There is space for the run, but not for the checkpoints of ``keep_every``."""
    checkpoint = (tiny_run / "last.ckpt").stat().st_size
    resize(disk, used(tiny_run) + checkpoint // 2)
    run = disk / "run"
    with pytest.raises(MnssdError, match=rf"ckpt: .*{NO_SPACE}"):
        train(shapes, run, keep_every=1)
    assert not list(run.glob("*.unfinished"))
    _, progress = read_checkpoint(run / "last.ckpt")
    assert 0 < progress.epoch < TINY["epochs"]
    with pytest.raises(MnssdError, match=NO_SPACE):
        train_detector({"resume": str(run), "keep_every": 1})
    resize(disk, 20 * checkpoint)
    train_detector({"resume": str(run)})
    assert_same_arrays(run, tiny_run)


def test_training_without_any_space_names_the_run_folder(
    shapes: str, disk: Path, capsys: pytest.CaptureFixture
) -> None:
    fill(disk)
    arguments = [
        "--dataset",
        "shapes",
        "--data-root",
        shapes,
        "--width",
        "0.25",
        "--size",
        "96",
        "--epochs",
        "1",
    ]
    assert main(["train-ssd", *arguments, "--output", str(disk / "run")]) == 1
    err = capsys.readouterr().err
    assert NO_SPACE in err
    assert str(disk / "run") in err
    assert "Traceback" not in err


def test_failed_export_leaves_no_files(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    net, spec = make_net()
    run, images = write_run(tmp_path / "run", net, spec), write_images(tmp_path, 4)
    command = ["export", str(run), "--output", str(disk / "export"), "--images", *images]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert NO_SPACE in err
    assert "Traceback" not in err
    assert list(disk.iterdir()) == []
    resize(disk, 64 << 20)
    assert main(command) == 0


def test_jsonl_of_detections_has_whole_lines_and_can_be_resumed(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    net, spec = make_net()
    run, images = write_run(tmp_path / "run", net, spec), write_images(tmp_path, 6)
    lines = disk / "lines.jsonl"
    full = fill(disk, free=3 * 4096)
    command = ["detect", str(run), *images, "--score", "0.02", "--jsonl", str(lines)]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "lines.jsonl: " in err
    assert NO_SPACE in err
    assert "--resume" in err
    full.unlink()
    assert main([*command, "--resume"]) == 0
    assert [json.loads(line)["image"] for line in lines.read_text().splitlines()] == images
