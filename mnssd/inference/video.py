"""Frames of videos, cameras and streams, upright; and writing of videos."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional, Union

import cv2
import numpy as np

from ..data.image import apply_orientation
from ..errors import ImageError, MnssdError, OptionError
from ..files import utf8_path
from ..options import Size
from .containers import read_container

VIDEO_ENDINGS = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".3g2", ".mts",
    ".m2ts", ".flv", ".ogv", ".asf", ".vob",
)  # fmt: skip

CAMERA = "camera:"
"""Prefix of a camera's number."""

_CAMERA = re.compile(r"(?:camera:|/dev/video)?(\d+)")

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_STREAM_SCHEMES = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "rtp", "srt"})

_IMAGE_ADDRESS = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?|gif|avif|hei[cf])$", re.IGNORECASE)

DEFAULT_FPS = 25.0

_MPEG4_TIMEBASE = 65535
"""Largest denominator of a frame duration in MPEG-4 (ISO/IEC 14496-2, ``vop_time_increment_resolution``)."""

_MPEG4_SIDE = 8190
"""Largest even width or height of MPEG-4, which stores 13 bits."""


class Frame(NamedTuple):
    """An image file, or one frame of a video, camera or stream.

    Attributes
    ----------
    name : str
        Path of the image or video, or the camera or address as given.
    image : str, numpy.ndarray or ImageError
        Path of an image file, pixels of a frame (``(height, width, 3)`` uint8 RGB, upright), or an error.
    number : int or None
        Number of the frame, from 0; None for an image file and an error.
    fps : float
        Frames per second of the video; 0 if unknown, and for images.
    time : float, optional
        Seconds at which the frame is shown, from the start of the video; of a camera, at which it was read,
        by any clock. None for images.
    """

    name: str
    image: Union[str, np.ndarray, ImageError]
    number: Optional[int] = None
    fps: float = 0.0
    time: Optional[float] = None

    def as_dict(self) -> Dict[str, Union[str, int]]:
        """``{"image"}``, and ``"frame"`` for a frame."""
        return {"image": self.name} if self.number is None else {"image": self.name, "frame": self.number}


def is_camera(entry: str) -> bool:
    """Whether an input is a camera: ``camera:0``, ``/dev/video0``, or ``0`` if there is no such file."""
    if entry.startswith(CAMERA):
        return True
    return bool(_CAMERA.fullmatch(entry)) and (entry.startswith("/dev/") or not os.path.exists(entry))


def is_address(entry: str) -> bool:
    """Whether an input is an address such as ``rtsp://host/stream``."""
    return bool(_ADDRESS.match(entry))


def is_video_file(path: str) -> bool:
    """Whether the name of a file ends as that of a video. Companions of macOS (``._a.mp4``) are none."""
    return path.lower().endswith(VIDEO_ENDINGS) and not os.path.basename(path).startswith("._")


def video_frames(path: str) -> Iterator[Frame]:
    """Frames of a video file, upright; an error as a frame if it cannot be read, or not to its end."""
    if not os.path.isfile(path):
        problem = "is not a file" if os.path.exists(path) else "no such file"
        yield Frame(path, ImageError(f"{path}: {problem}"))
        return
    container = read_container(path)
    if not container.has_video:
        yield Frame(path, ImageError(f"{path}: holds no video, only sound"))
        return
    video = _open(path)
    if not video.isOpened():
        reason = "cut; copy it again" if container.is_cut else "damaged, or not a video"
        yield Frame(path, ImageError(f"{path}: cannot be opened as a video: the file is {reason}"))
        return
    count = 0
    for frame in _frames(path, video, container.orientation):
        count += isinstance(frame.image, np.ndarray)
        yield frame
    if count and container.is_cut:
        problem = f"the file is cut; only its first {count} frames could be read"
        yield Frame(path, ImageError(f"{path}: {problem}"))


def camera_frames(entry: str) -> Iterator[Frame]:
    """Frames of a camera; raises OptionError if there is none."""
    match = _CAMERA.fullmatch(entry)
    if not match:
        raise OptionError(f"{entry}: expected camera:0, camera:1, ...")
    camera = cv2.VideoCapture(int(match.group(1)))
    if not camera.isOpened():
        raise OptionError(f"{entry}: no such camera, or it is in use")
    yield from _frames(entry, camera, 1, is_live=True)


def stream_frames(address: str) -> Iterator[Frame]:
    """Frames of a video at an address; an error as a frame if there is none."""
    match = _ADDRESS.match(address)
    scheme = match.group(1).lower() if match else ""
    place = re.split("[?#]", address)[0]
    if scheme not in _STREAM_SCHEMES:
        problem = f"addresses of the kind {scheme}:// are not read; download the file and give its path"
    elif _IMAGE_ADDRESS.search(place):
        problem = f"images are read from files only; download it first: curl -LO '{address}'"
    else:
        video = cv2.VideoCapture(address)
        if video.isOpened():
            yield from _frames(address, video, None)
            return
        problem = "no video could be opened at this address; check it in a player, or download the file"
    yield Frame(address, ImageError(f"{address}: {problem}"))


def _frames(
    name: str, video: cv2.VideoCapture, orientation: Optional[int], is_live: bool = False
) -> Iterator[Frame]:
    """The frames, turned by the EXIF `orientation`, or if that is None as OpenCV says.

    Their times are those of the file or stream, or when they are read if the source is live.
    """
    fps, number = float(video.get(cv2.CAP_PROP_FPS)), 0
    # OpenCV turns frames in some versions only, and ignores mirroring.
    video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    if orientation is None:
        degrees = round(video.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
        orientation = {90: 6, 180: 3, 270: 8}.get(degrees, 1)
    try:
        success, pixels = video.read()
        while success:
            upright = apply_orientation(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), orientation)
            seconds = time.monotonic() if is_live else video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield Frame(name, np.ascontiguousarray(upright), number, fps, seconds)
            number += 1
            success, pixels = video.read()
    finally:
        video.release()
    if not number:
        yield Frame(name, ImageError(f"{name}: no readable frame; the video is empty or damaged"))


def _open(path: str) -> cv2.VideoCapture:
    """Open a file; FFmpeg takes the start of a relative path such as ``a:b.mp4`` for a protocol."""
    with utf8_path(os.path.abspath(path)) as readable:
        return cv2.VideoCapture(readable)


class VideoWriter:
    """Writes a video frame by frame.

    Parameters
    ----------
    path : Path
        Ending in ``.mp4``.
    size : (int, int)
        ``(width, height)`` of the frames. MPEG-4 stores even sides of at most 8190 pixels: odd ones grow by a
        pixel, larger frames shrink.
    fps : float
        Frames per second; `DEFAULT_FPS` if unknown (0 or not finite). See `writable_fps`.

    Raises
    ------
    MnssdError
        If the file cannot be written.
    """

    def __init__(self, path: Path, size: Size, fps: float) -> None:
        self._path, self._count = path, 0
        scale = min(1.0, _MPEG4_SIDE / max(size))
        self._size = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
        self._padding = (self._size[0] % 2, self._size[1] % 2)
        try:
            path.open("wb").close()
        except OSError as error:
            raise MnssdError(f"{path}: cannot be written ({error.strerror})") from error
        stored = (self._size[0] + self._padding[0], self._size[1] + self._padding[1])
        rate = writable_fps(fps)
        with utf8_path(path.absolute()) as writable:
            self._writer = cv2.VideoWriter(writable, cv2.VideoWriter.fourcc(*"mp4v"), rate, stored)
        if not self._writer.isOpened():
            path.unlink()
            width, height = stored
            problem = f"OpenCV cannot write a video of {width}x{height} pixels at {rate:g} frames per second"
            raise MnssdError(f"{path}: {problem}")

    def add(self, frame: np.ndarray) -> None:
        """Append ``(height, width, 3)`` uint8 RGB, resized if a turned camera has changed the size."""
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        if any(self._padding):
            right, below = self._padding
            frame = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self) -> None:
        """Finish the file; raises MnssdError if it does not hold all frames, as on a full disk."""
        if not self._writer.isOpened():
            return
        self._writer.release()  # which reports no error
        video = _open(str(self._path))
        stored = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        if stored < self._count:
            raise MnssdError(f"{self._path}: incomplete, {stored} of {self._count} frames; is the disk full?")


def writable_fps(fps: float) -> float:
    """The frame rate nearest to `fps` that OpenCV can write as MPEG-4; off by less than 0.01 % from 10 on.

    OpenCV writes the rate as a fraction with a denominator of 1, 10, 100 or 1000, whose numerator is the
    denominator of MPEG-4's frame duration.
    """
    if not math.isfinite(fps) or round(fps, 3) <= 0:
        return DEFAULT_FPS
    decimals = next((d for d in (3, 2, 1) if fps * 10**d < _MPEG4_TIMEBASE), 0)
    return min(round(fps, decimals), float(_MPEG4_TIMEBASE))
