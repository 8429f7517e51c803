"""A disk that fills up: the message names the file, nothing good is lost, and it goes on when there is room.

The disk is a small tmpfs, mounted for the test; where that is not allowed, the tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import pytest
from helpers.detectors import make_net, write_images, write_run

from mnssd.cli.main import main
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import MnssdError
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint

OPTIONS: Dict[str, Any] = {
    "dataset": "shapes", "width": 0.25, "size": (96, 96), "epochs": 3, "batch_size": 4, "lr": 0.02,
    "val_interval": 1, "workers": 1,
}  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; `remount` changes it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here, so no disk can be filled")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size // 1024}k", str(disk)], check=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=12, val=4, size=(96, 96))
    return str(folder)


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "whole"
    return train_detector({**OPTIONS, "data_root": data, "output": str(output)})


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_training_goes_on_when_there_is_room_again(data: str, whole: Path, disk: Path) -> None:
    """Room for the run, but not for a checkpoint that is kept of each epoch."""
    one = (whole / "last.ckpt").stat().st_size
    resize(disk, used(whole) + 2 * one)
    run = disk / "run"
    with pytest.raises(MnssdError, match=r"ckpt: .*No space left on device"):
        train_detector({**OPTIONS, "data_root": data, "output": str(run), "keep_every": 1})
    assert not list(run.glob("*.unfinished"))
    _, progress = read_checkpoint(run / "last.ckpt")
    assert 0 < progress.step < 9
    with pytest.raises(MnssdError, match="No space left on device"):
        train_detector({"resume": str(run), "keep_every": 1})
    resize(disk, 20 * one)
    train_detector({"resume": str(run)})
    expected, found = (read_checkpoint(folder / "last.ckpt")[0] for folder in (whole, run))
    assert all(np.array_equal(value, found[name]) for name, value in expected.items())


def test_a_run_that_has_no_room_at_all(data: str, disk: Path, capsys: pytest.CaptureFixture) -> None:
    (disk / "full").write_bytes(bytes(int(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize)))
    arguments = [f"--{name}={value}" for name, value in (("data-root", data), ("width", 0.25), ("size", 96))]
    assert main(["train-ssd", *arguments, "--epochs=1", "--output", str(disk / "run")]) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert str(disk / "run") in err
    assert "Traceback" not in err


def test_an_export_leaves_no_half(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    net, spec = make_net()
    run, images = write_run(tmp_path / "run", net, spec), write_images(tmp_path, 4)
    command = ["export", str(run), "--output", str(disk / "export"), "--images", *images]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert list(disk.iterdir()) == []
    resize(disk, 64 << 20)
    assert main(command) == 0


def test_detections_are_whole_lines(disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    net, spec = make_net()
    run, images = write_run(tmp_path / "run", net, spec), write_images(tmp_path, 6)
    lines = disk / "lines.jsonl"
    room = 4096 * 3
    (disk / "full").write_bytes(bytes(int(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize) - room))
    command = ["detect", str(run), *images, "--score", "0.02", "--jsonl", str(lines)]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "lines.jsonl: " in err
    assert "No space left on device" in err
    assert "--resume" in err
    (disk / "full").unlink()
    assert main([*command, "--resume"]) == 0
    assert [json.loads(line)["image"] for line in lines.read_text().splitlines()] == images
