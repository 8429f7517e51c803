"""Fixtures of the tests of inference."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import pytest
from helpers.detectors import make_image, write_image, write_images, write_run, write_video

from mnssd.inference.detector import Detector


@pytest.fixture(scope="session")
def workspace(tiny_detector: Tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a folder ``photos`` with images in it and below it, and a video."""
    folder = tmp_path_factory.mktemp("inference")
    write_run(folder / "run", *tiny_detector)
    (folder / "photos" / "more").mkdir(parents=True)
    write_images(folder / "photos", 3)
    write_image(folder / "photos" / "more" / "image0.png", make_image(9))
    (folder / "photos" / "notes.txt").write_text("not an image")
    write_video(folder / "clip.avi", 4)
    return folder


@pytest.fixture(scope="session")
def detector(workspace: Path) -> Detector:
    """The detector of the run."""
    return Detector.load(workspace / "run")


@pytest.fixture
def loaded_once(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mnssd detect` takes the detector of the session, as loading takes most of its time."""
    monkeypatch.setattr(Detector, "load", lambda *_: detector)
