"""Inputs of `mnssd detect`: order, laziness, and errors that name the input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.detectors import make_image, write_image

from mnssd.errors import ImageError, MnssdError
from mnssd.inference.sources import iter_frames
from mnssd.inference.video import CAMERA, Frame, VideoWriter


def test_folders_patterns_and_videos_have_a_stable_order(workspace: Path) -> None:
    photos = workspace / "photos"
    names = [os.path.relpath(frame.name, photos) for frame in iter_frames([str(photos)])]
    assert names == ["image0.jpg", "image1.jpg", "image2.jpg", os.path.join("more", "image0.png")]
    inputs = [str(photos / "im*2.jpg"), str(photos / "image0.jpg"), str(workspace / "clip.avi")]
    frames = list(iter_frames(inputs))
    assert [Path(frame.name).name for frame in frames] == ["image2.jpg", "image0.jpg", *["clip.avi"] * 4]
    videos = [frame for frame in frames if frame.number is not None]
    assert [frame.number for frame in videos] == [0, 1, 2, 3]
    assert {frame.fps for frame in videos} == {5.0}
    for i, frame in enumerate(videos):
        assert isinstance(frame.image, np.ndarray)
        expected = make_image(20 + i, 160, 120).astype(int)
        assert np.abs(frame.image.astype(int) - expected).mean() < 12  # loss of the codec


def test_inputs_are_expanded_one_by_one(workspace: Path) -> None:
    (workspace / "later").mkdir()
    stream = iter_frames([str(workspace / "photos"), str(workspace / "later")])
    for _ in range(4):
        next(stream)
    write_image(workspace / "later" / "a.jpg", make_image(1))
    assert [frame.name for frame in stream] == [str(workspace / "later" / "a.jpg")]


def test_an_input_without_images_is_named_and_the_rest_goes_on(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.foo").write_bytes(b"\0\1")
    bad = ["empty", "absent-*.jpg", "empty/**", "*.foo", "absent.jpg"]
    entries = [*(str(tmp_path / name) for name in bad), CAMERA + "front", CAMERA + "87"]
    good = str(workspace / "photos" / "image0.jpg")
    for entry in entries:
        first, last = iter_frames([entry, good])
        assert first.name == entry
        if entry != str(tmp_path / "absent.jpg"):  # told by the decoder
            assert entry in str(first.image)
            assert isinstance(first.image, ImageError)
        assert last == Frame(good, good)


def test_broken_videos_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    for name in ("broken.mp4", "absent.mp4"):
        (video,) = iter_frames([str(tmp_path / name)])
        assert isinstance(video.image, ImageError)
        assert name in str(video.image)


def test_an_unwritable_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(MnssdError, match=r"x\.mp4"):
        VideoWriter(tmp_path / "absent" / "x.mp4", (64, 48), 0)
