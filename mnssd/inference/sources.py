"""Inputs of `mnssd detect`: image files, folders, patterns, videos and cameras, as a stream of frames.

Each is opened when its turn comes and then released, so their number is unlimited.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np

from ..data.image_files import files_below, is_image_file, is_unreadable_image
from ..errors import ImageError, MnssdError, OptionError
from ..options import Size

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

CAMERA = "camera:"
"""Prefix of a camera's number."""

DEFAULT_FPS = 25.0


class Frame(NamedTuple):
    """An image file, or one frame of a video or camera.

    Attributes
    ----------
    name : str
        Path of the image or video, or the camera as given.
    image : str, numpy.ndarray or ImageError
        Path of an image file, pixels of a frame (``(height, width, 3)`` uint8 RGB), or a video's error.
    number : int or None
        Number of the frame, from 0; None for an image file.
    fps : float
        Frames per second of the video; 0 if unknown, and for images.
    """

    name: str
    image: Union[str, np.ndarray, ImageError]
    number: Optional[int] = None
    fps: float = 0.0

    def as_dict(self) -> Dict[str, Union[str, int]]:
        """``{"image"}``, and ``"frame"`` for a frame."""
        return {"image": self.name} if self.number is None else {"image": self.name, "frame": self.number}


def iter_frames(inputs: Sequence[str]) -> Iterator[Frame]:
    """All images and frames, in an order that depends on the file names only.

    A video that cannot be read is one `Frame` with an error; the following inputs are still read.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (all images and videos below them), patterns such as ``photos/*.jpg``, ``camera:0``.

    Raises
    ------
    OptionError
        If a folder or pattern matches nothing, or a camera does not exist.
    """
    for path in (path for entry in inputs for path in _expand(entry)):
        if path.startswith(CAMERA):
            yield from _video_frames(path, _open_camera(path))
        elif path.lower().endswith(VIDEO_ENDINGS):
            video = cv2.VideoCapture(path) if os.path.isfile(path) else None
            if video is None or not video.isOpened():
                reason = "cannot be opened as a video; check that the file is complete"
                yield Frame(path, ImageError(f"{path}: {reason}"))
            else:
                yield from _video_frames(path, video)
        else:
            yield Frame(path, path)


def _expand(entry: str) -> Iterator[str]:
    if os.path.isdir(entry):
        yield from _require_one(_walk(entry), f"{entry}: no image or video in this folder")
    elif not os.path.exists(entry) and glob.has_magic(entry):
        yield from _require_one(iter(sorted(glob.glob(entry, recursive=True))), f"{entry}: matches no file")
    else:
        yield entry


def _require_one(paths: Iterator[str], message: str) -> Iterator[str]:
    first = next(paths, None)
    if first is None:
        raise OptionError(message)
    yield first
    yield from paths


def _walk(folder: str) -> Iterator[str]:
    """Images and videos below a folder, sorted; links to folders are not followed, as they may form loops.

    Images of kinds that cannot be read are among them, so that they are reported.
    """
    for path in files_below(folder):
        is_video = path.lower().endswith(VIDEO_ENDINGS) and not os.path.basename(path).startswith("._")
        if is_video or is_image_file(path) or is_unreadable_image(path):
            yield path


def _open_camera(path: str) -> cv2.VideoCapture:
    number = path[len(CAMERA) :]
    if not number.isdigit():
        raise OptionError(f"{path}: expected camera:0, camera:1, ...")
    camera = cv2.VideoCapture(int(number))
    if not camera.isOpened():
        raise OptionError(f"{path}: no such camera, or it is in use")
    return camera


def _video_frames(path: str, video: cv2.VideoCapture) -> Iterator[Frame]:
    fps, number = float(video.get(cv2.CAP_PROP_FPS)), 0
    try:
        success, pixels = video.read()
        while success:
            yield Frame(path, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), number, fps)
            number += 1
            success, pixels = video.read()
    finally:
        video.release()
    if not number:
        yield Frame(path, ImageError(f"{path}: no readable frame; check that the file is complete"))


class VideoWriter:
    """Writes a video frame by frame.

    Parameters
    ----------
    path : Path
        Ending in ``.mp4``.
    size : (int, int)
        ``(width, height)`` of the frames.
    fps : float
        Frames per second; `DEFAULT_FPS` if 0.
    """

    def __init__(self, path: Path, size: Size, fps: float) -> None:
        self._size = (int(size[0]), int(size[1]))
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), code, fps or DEFAULT_FPS, self._size)
        if not self._writer.isOpened():
            raise MnssdError(
                f"{path}: cannot be written; check that the folder is writable, or omit --output"
            )

    def add(self, frame: np.ndarray) -> None:
        """Append ``(height, width, 3)`` uint8 RGB, resized if a turned camera has changed the size."""
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
