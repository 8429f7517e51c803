"""Images and videos with drawn detections. They carry a mark, so that they are never detected in."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Set

import numpy as np
from PIL import Image

from ..data.image_files import DRAWING_MARK, is_drawing
from ..errors import MnssdError
from ..files import fit_name
from ..options import Size
from .video import Frame, VideoWriter

_SOFTWARE_TAG = 0x0131

_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
"""Kinds of images that can hold the mark, by ending; drawings of others are written as .png."""

_SETTINGS: Dict[str, Dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {"compress_level": 1},
    "WEBP": {"quality": 95},
}


class DrawingWriter:
    """Writes drawings to a folder, under the names of their inputs.

    A name is numbered where it would replace a drawing of another input, or a file that is no drawing.

    Parameters
    ----------
    folder : str
        An existing folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._taken: Set[str] = set()
        self._video: Optional[_Video] = None
        self._name = ""  # of the last video

    def reserve(self, frame: Frame) -> None:
        """Take the name of a frame that an earlier call has drawn."""
        if not frame.number:
            self._choose(frame)

    def write(self, frame: Frame, drawn: np.ndarray) -> Optional[Path]:
        """Write an image, or the frame of a video, after `finish_before`; returns the path of a new file.

        Parameters
        ----------
        drawn : numpy.ndarray
            ``(height, width, 3)`` RGB uint8.

        Raises
        ------
        MnssdError
            If the file cannot be written. Of a video, the following frames are then dropped.
        OSError
            If the operating system refuses it.
        """
        if frame.number is None:
            return self._write_image(self._choose(frame), drawn)
        path = None
        if frame.number == 0 or self._name != frame.name:
            self._name = frame.name
            path = self._choose(frame)
            self._video = _Video(path, (drawn.shape[1], drawn.shape[0]), frame.fps)
        if self._video:
            self._video.add(drawn)
        return path

    def finish_before(self, frame: Frame) -> None:
        """Finish the last video if `frame` is not of it; see `close`."""
        if frame.number in (None, 0) or frame.name != self._name:
            self.close()

    def close(self) -> None:
        """Finish the last video; raises MnssdError if it is incomplete."""
        video, self._video, self._name = self._video, None, ""
        if video:
            video.close()

    def _choose(self, frame: Frame) -> Path:
        """A path that was not chosen before and is no other file."""
        stem, ending = os.path.splitext(os.path.basename(frame.name))
        if frame.number is not None:
            stem, ending = stem.replace(":", ""), ".mp4"
        elif ending.lower() not in _FORMATS:
            ending += ".png"
        path, number = self._folder / fit_name(stem, ending), 1
        while str(path) in self._taken or (os.path.lexists(path) and not is_drawing(str(path))):
            number += 1
            path = self._folder / fit_name(stem, f"-{number}{ending}")
        self._taken.add(str(path))
        return path

    @staticmethod
    def _write_image(path: Path, image: np.ndarray) -> Path:
        kind, exif, content = _FORMATS[path.suffix.lower()], Image.Exif(), io.BytesIO()
        exif[_SOFTWARE_TAG] = DRAWING_MARK.decode()
        try:
            Image.fromarray(image).save(content, kind, exif=exif, **_SETTINGS.get(kind, {}))
        except (OSError, ValueError) as error:  # larger than the format allows
            height, width = image.shape[:2]
            problem = f"an image of {width}x{height} cannot be written as {kind} ({error})"
            raise MnssdError(f"{path}: {problem}; convert the input to PNG") from error
        try:
            path.write_bytes(content.getvalue())
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            error.filename = str(path)
            raise
        return path


class _Video:
    """A video that is at its path only when it is complete; until then it is in a hidden folder beside it."""

    def __init__(self, path: Path, size: Size, fps: float) -> None:
        self._path = path
        self._scratch = tempfile.TemporaryDirectory(".unfinished", ".mnssd-", path.parent)
        self._file = Path(self._scratch.name) / path.name
        with self._named():
            self._writer = VideoWriter(self._file, size, fps)

    def add(self, frame: np.ndarray) -> None:
        self._writer.add(frame)

    def close(self) -> None:
        """Finish and mark the video; raises MnssdError if it is incomplete."""
        with self._named():
            try:
                self._writer.close()
                with open(self._file, "ab") as file:  # readers skip boxes of the type free
                    file.write(struct.pack(">I4s", 8 + len(DRAWING_MARK), b"free") + DRAWING_MARK)
                os.replace(self._file, self._path)
            finally:
                self._scratch.cleanup()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors that name the path of the complete video."""
        try:
            yield
        except MnssdError as error:
            raise MnssdError(str(error).replace(str(self._file), str(self._path))) from error
