"""What is to be looked at: image files, folders of them, patterns, video files, cameras; one by one.

Nothing is opened before its turn, and nothing is kept after it, so any number will do.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np

from ..data.image import IMAGE_ENDINGS
from ..errors import MnssdError, OptionError

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

CAMERA = "camera:"
"""Followed by its number."""


class Frame(NamedTuple):
    """One image, or one frame.

    Attributes
    ----------
    name : str
        The path as given, or found.
    image : str or numpy.ndarray
        The path of an image file; or a frame's pixels, ``(height, width, 3)`` uint8 RGB.
    frame : int or None
        Of a video or a camera, from 0.
    rate : float
        Frames a second of the video; 0 where that is not known, and for images.
    """

    name: str
    picture: Union[str, np.ndarray]
    frame: Optional[int] = None
    rate: float = 0.0

    def key(self) -> Dict[str, Union[str, int]]:
        """What tells it from others, for a report."""
        return {"image": self.name} if self.frame is None else {"image": self.name, "frame": self.frame}


class Unreadable(NamedTuple):
    """A video that gave nothing, and why."""

    name: str
    error: str


def iter_frames(inputs: Sequence[str]) -> Iterator[Union[Frame, Unreadable]]:
    """Every image and frame, in an order that stays the same as long as the files do.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (all images and videos below them), patterns such as ``photos/*.jpg``, ``camera:0``.

    Yields
    ------
    Frame or Unreadable
        The latter for a video that cannot be opened; the others go on.

    Raises
    ------
    OptionError
        For a folder or a pattern in which there is nothing, and a camera that is not there.
    """
    for path in (path for given in inputs for path in _expand(given)):
        if path.startswith(CAMERA):
            yield from _frames(path, _open_camera(path))
        elif path.lower().endswith(VIDEO_ENDINGS):
            video = cv2.VideoCapture(path) if os.path.isfile(path) else None
            if video is None or not video.isOpened():
                yield Unreadable(path, f"{path} cannot be opened as a video; is it one, and is it whole?")
            else:
                yield from _frames(path, video)
        else:
            yield Frame(path, path)


def _expand(given: str) -> Iterator[str]:
    if os.path.isdir(given):
        yield from _found(_walk(given), f"{given}: no image or video in this folder")
    elif not os.path.exists(given) and glob.has_magic(given):
        yield from _found(iter(sorted(glob.glob(given, recursive=True))), f"{given}: fits no file")
    else:
        yield given


def _found(paths: Iterator[str], otherwise: str) -> Iterator[str]:
    count = 0
    for path in paths:
        count += 1
        yield path
    if not count:
        raise OptionError(otherwise)


def _walk(folder: str) -> Iterator[str]:
    """Folder by folder, names in order; links to folders are not followed, which might go round."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(IMAGE_ENDINGS + VIDEO_ENDINGS):
                yield os.path.join(place, name)


def _open_camera(path: str) -> cv2.VideoCapture:
    number = path[len(CAMERA) :]
    if not number.isdigit():
        raise OptionError(f"{path}: a camera is called camera:0, camera:1, ...")
    camera = cv2.VideoCapture(int(number))
    if not camera.isOpened():
        raise OptionError(f"{path}: there is no such camera, or it is in use")
    return camera


def _frames(path: str, video: cv2.VideoCapture) -> Iterator[Union[Frame, Unreadable]]:
    rate, number = float(video.get(cv2.CAP_PROP_FPS)), 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            yield Frame(path, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), number, rate)
            number += 1
    finally:
        video.release()
    if not number:
        yield Unreadable(path, f"{path} has no frame that can be read; is it whole?")


class VideoFile:
    """A video that is written frame by frame.

    Parameters
    ----------
    path : Path
        Ending in ``.mp4``.
    size : (int, int)
        ``(width, height)`` of every frame.
    rate : float
        Frames a second; 25 where it is 0.
    """

    def __init__(self, path: Path, size: Sequence[int], rate: float) -> None:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._size = (int(size[0]), int(size[1]))
        self._writer = cv2.VideoWriter(str(path), code, rate or 25.0, self._size)
        if not self._writer.isOpened():
            raise MnssdError(f"{path} cannot be written; is the folder writable? Else leave --output out")

    def add(self, frame: np.ndarray) -> None:
        """``(height, width, 3)`` uint8 RGB; of another size, as cameras may turn, it is resized."""
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Write what is left."""
        self._writer.release()
