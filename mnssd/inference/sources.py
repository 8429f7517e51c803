"""Inputs of `mnssd detect`, as a stream of images and frames.

Each is opened when its turn comes and then released, so their number is unlimited.
"""

from __future__ import annotations

from typing import Callable, Iterator, Sequence

from ..errors import ImageError, OptionError
from .inputs import expand
from .video import Frame, camera_frames, is_address, is_camera, is_video_file, stream_frames, video_frames


def iter_frames(inputs: Sequence[str], note: Callable[[str], object] = lambda text: None) -> Iterator[Frame]:
    """All images and frames, in an order that depends on the file names only.

    An input that cannot be read is one `Frame` with an error; the following inputs are still read.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (all images and videos below them), patterns such as ``photos/*.jpg``, ``camera:0``,
        addresses of videos such as ``rtsp://host/stream``. Drawings by `mnssd detect` are left out.
    note : callable
        See `inputs.expand`.
    """
    for path, error in expand(inputs, note):
        if error is not None:
            yield Frame(path, error)
        elif is_address(path):
            yield from stream_frames(path)
        elif is_camera(path):
            yield from _camera_frames(path)
        elif is_video_file(path):
            yield from video_frames(path)
        else:
            yield Frame(path, path)


def _camera_frames(entry: str) -> Iterator[Frame]:
    try:
        yield from camera_frames(entry)
    except OptionError as error:
        yield Frame(entry, ImageError(str(error)))
