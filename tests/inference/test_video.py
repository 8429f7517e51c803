"""Videos are read upright and to their end, and written at the rate and size of the original."""

from __future__ import annotations

import math
import struct
import wave
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, List, Sequence

import cv2
import numpy as np
import pytest
from helpers.videos import quarters, turn_iso, turn_matroska, write_video

from mnssd.data.image import apply_orientation
from mnssd.errors import ImageError, MnssdError
from mnssd.inference.containers import read_container
from mnssd.inference.video import (
    DEFAULT_FPS,
    VIDEO_ENDINGS,
    VideoWriter,
    is_camera,
    stream_frames,
    video_frames,
    writable_fps,
)
from mnssd.options import Size


def pixels_of(path: Path) -> List[np.ndarray]:
    return [frame.image for frame in video_frames(str(path)) if isinstance(frame.image, np.ndarray)]


def errors_of(path: Path) -> List[str]:
    return [str(frame.image) for frame in video_frames(str(path)) if isinstance(frame.image, ImageError)]


def check_upright(path: Path, orientation: int) -> None:
    expected = apply_orientation(quarters(), orientation)
    frames = pixels_of(path)
    assert len(frames) == 3
    for frame in frames:
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 25  # loss of the codec


@pytest.mark.parametrize("ending", VIDEO_ENDINGS)
def test_frames_of_every_kind_of_file_are_read(ending: str, tmp_path: Path) -> None:
    codec = {".webm": "VP80", ".ogv": "VP80", ".flv": "FLV1"}.get(ending, "mp4v")
    path = tmp_path / f"clip{ending}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (128, 96))
    colors = [(40 * number, 100, 200) for number in range(5)]  # blue, green, red
    for color in colors:
        writer.write(np.full((96, 128, 3), color, np.uint8))
    writer.release()
    means = [frame.mean(axis=(0, 1)) for frame in pixels_of(path)]
    np.testing.assert_allclose(means, [color[::-1] for color in colors], rtol=0, atol=12)


@pytest.mark.parametrize("ending", ["mp4", "mov"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_frames_are_turned_and_mirrored_as_the_track_header_says(
    orientation: int, ending: str, tmp_path: Path
) -> None:
    check_upright(turn_iso(write_video(tmp_path / f"phone.{ending}"), orientation), orientation)


@pytest.mark.parametrize(
    ("matrix", "orientation"),
    [
        ((1, 65536, -65536, -1), 6),
        ((-65536, 3, -2, -65536), 3),
        ((4, -65535, 65535, 0), 8),
        ((0, 131072, -65536, 0), 6),
    ],
)
def test_matrices_with_rounding_errors(matrix: Sequence[int], orientation: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    a, b, c, d = matrix
    struct.pack_into(">5i", data, data.index(b"tkhd") + 44, a, b, 0, c, d)
    path.write_bytes(data)
    check_upright(path, orientation)


@pytest.mark.parametrize(
    ("yaw", "roll", "orientation"), [(0, -90, 6), (0, 90, 8), (0, 180, 3), (180, 0, 2), (180, 90, 5)]
)
def test_frames_of_matroska_are_turned(yaw: float, roll: float, orientation: int, tmp_path: Path) -> None:
    path = turn_matroska(write_video(tmp_path / "a.mkv"), yaw, roll)
    check_upright(path, orientation)


def test_videos_without_rotation_stay(tmp_path: Path) -> None:
    for name, code in (("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("b:c 100%.mp4", "mp4v")):
        check_upright(write_video(tmp_path / name, code=code), 1)


@pytest.mark.parametrize(
    "fps", [10, 14.985, 24000 / 1001, 25, 30000 / 1001, 60000 / 1001, 66.667, 119.917, 240, 999.9]
)
def test_drawn_videos_keep_rate_and_frames(fps: float, tmp_path: Path) -> None:
    path = tmp_path / "drawn.mp4"
    writer = VideoWriter(path, (64, 48), fps)
    for _ in range(5):
        writer.add(quarters())
    writer.close()
    video = cv2.VideoCapture(str(path))
    assert abs(video.get(cv2.CAP_PROP_FPS) / fps - 1) < 1e-4
    assert len(pixels_of(path)) == 5


@pytest.mark.parametrize("fps", [0.0, -1.0, math.nan, math.inf, 1e-9])
def test_unknown_rates(fps: float) -> None:
    assert writable_fps(fps) == DEFAULT_FPS


@pytest.mark.parametrize(
    ("size", "stored"),
    [((63, 47), (64, 48)), ((1, 1), (2, 2)), ((9000, 30), (8190, 28)), ((48, 64), (48, 64))],
)
def test_drawn_videos_of_any_size(size: Size, stored: Size, tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", size, 25)
    for _ in range(2):
        writer.add(np.zeros((size[1], size[0], 3), np.uint8))
    writer.close()
    frames = pixels_of(tmp_path / "a.mp4")
    assert [(frame.shape[1], frame.shape[0]) for frame in frames] == [stored] * 2


def test_drawn_videos_of_turned_ones_are_upright(tmp_path: Path) -> None:
    source = turn_iso(write_video(tmp_path / "phone.mov"), 6)
    writer = VideoWriter(tmp_path / "drawn.mp4", (48, 64), 25)
    for frame in pixels_of(source):
        writer.add(frame)
    writer.close()
    assert read_container(str(tmp_path / "drawn.mp4")).orientation == 1
    drawn = pixels_of(tmp_path / "drawn.mp4")
    assert np.abs(drawn[0].astype(int) - apply_orientation(quarters(), 6)).mean() < 25


def test_a_folder_that_is_missing_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(MnssdError, match=r"x\.mp4"):
        VideoWriter(tmp_path / "absent" / "x.mp4", (64, 48), 25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("ending", "code"), [("avi", "MJPG"), ("mkv", "mp4v")])
def test_cut_videos_are_read_as_far_as_possible_and_reported(ending: str, code: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"a.{ending}", 40, code=code)
    assert (len(pixels_of(path)), errors_of(path)) == (40, [])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(pixels_of(path)) < 40
    (error,) = errors_of(path)
    assert path.name in error


def test_videos_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    cut = write_video(tmp_path / "cut.mp4", 20)  # its index is at the end
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "none.avi").write_bytes(b"")
    write_video(tmp_path / "empty.avi", 0, code="MJPG")
    with wave.open(str(tmp_path / "sound.avi"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    song = write_video(tmp_path / "song.mp4")
    song.write_bytes(song.read_bytes().replace(b"vide", b"soun"))
    (tmp_path / "folder.mp4").mkdir()
    for path in (*tmp_path.iterdir(), tmp_path / "absent.mp4"):
        assert pixels_of(path) == []
        (error,) = errors_of(path)
        assert path.name in error


@pytest.mark.parametrize("start", [b"", b"\x00\x00\x00\x08ftyp", b"\x1aE\xdf\xa3\x9f", b"RIFF\xff\xff"])
def test_damaged_containers_tell_nothing(start: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        (tmp_path / "a").write_bytes(start + rng.bytes(200))
        assert read_container(str(tmp_path / "a")).orientation in (None, 1)


@pytest.mark.parametrize(
    "address", ["https://example.com/a.jpg?x=1", "ftp://example.com/a.mp4", "http://127.0.0.1:9/a.mp4"]
)
def test_addresses_without_a_video_are_named(address: str) -> None:
    (frame,) = stream_frames(address)
    assert isinstance(frame.image, ImageError)
    assert address in str(frame.image)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def test_videos_at_an_address_are_read(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 4, code="MJPG")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/a.avi"
        frames = list(stream_frames(address))
    finally:
        server.shutdown()
        server.server_close()
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert {frame.name for frame in frames} == {address}


def test_names_of_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert all(map(is_camera, ("camera:0", "camera:front", "/dev/video3", "0")))
    Path("0").mkdir()
    assert not any(map(is_camera, ("0", "a0", "0.jpg", "/dev/video")))
