"""Inputs of `mnssd detect`: image files, folders, patterns, videos and cameras, as a stream of frames.

Each is opened when its turn comes and then released, so their number is unlimited.
"""

from __future__ import annotations

import glob
import os
from typing import Iterator, Sequence

from ..data.image_files import files_below, is_image_file, is_unreadable_image
from ..errors import OptionError
from .video import Frame, camera_frames, is_address, is_camera, is_video_file, stream_frames, video_frames


def iter_frames(inputs: Sequence[str]) -> Iterator[Frame]:
    """All images and frames, in an order that depends on the file names only.

    A video that cannot be read is one `Frame` with an error; the following inputs are still read.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (all images and videos below them), patterns such as ``photos/*.jpg``, ``camera:0``,
        addresses of videos such as ``rtsp://host/stream``.

    Raises
    ------
    OptionError
        If a folder or pattern matches nothing, or a camera does not exist.
    """
    for path in (path for entry in inputs for path in _expand(entry)):
        if is_address(path):
            yield from stream_frames(path)
        elif is_camera(path):
            yield from camera_frames(path)
        elif is_video_file(path):
            yield from video_frames(path)
        else:
            yield Frame(path, path)


def _expand(entry: str) -> Iterator[str]:
    if is_address(entry) or is_camera(entry):
        yield entry
    elif os.path.isdir(entry):
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
        if is_video_file(path) or is_image_file(path) or is_unreadable_image(path):
            yield path
