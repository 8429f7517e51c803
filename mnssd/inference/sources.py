"""Inputs of `mnssd detect`, as a stream of images and frames.

Each is opened when its turn comes and then released, so their number is unlimited.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence, Tuple

from ..errors import ImageError, OptionError
from .inputs import Input, expand
from .video import Frame, camera_frames, is_address, is_camera, is_video_file, stream_frames, video_frames


def iter_frames(
    inputs: Sequence[str], note: Callable[[str], object] = lambda text: None, in_sequence: bool = False
) -> Iterator[Frame]:
    """All images and frames, in an order that depends on the file names only.

    An input that cannot be read is one `Frame` with an error; the following inputs are still read.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (all images and videos below them), patterns such as ``photos/*.jpg``, ``camera:0``,
        addresses of videos such as ``rtsp://host/stream``. Drawings by `mnssd detect` are left out.
    note : callable
        See `inputs.expand`.
    in_sequence : bool
        Take the images of a folder in the order of the numbers in their names, ``2.png`` before ``10.png``,
        and its videos after them.
    """
    expanded = expand(inputs, note)
    for path, error in _in_sequence(expanded) if in_sequence else expanded:
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


def _in_sequence(inputs: Iterable[Input]) -> Iterator[Input]:
    """The inputs; consecutive files of the same folder as `iter_frames` says."""
    for _, group in itertools.groupby(inputs, _folder_of):
        yield from sorted(group, key=_place_in_sequence)


def _folder_of(item: Input) -> Tuple[str, bool]:
    is_file = not (item.error or is_address(item.path) or is_camera(item.path))
    return (os.path.dirname(item.path) if is_file else item.path), is_file


def _place_in_sequence(item: Input) -> Tuple[bool, Sequence[Any], str]:
    """Sorts images by name, and videos after them in the order in which they were given."""
    if is_video_file(item.path):
        return True, (), ""
    parts = re.split(r"(\d+)", os.path.basename(item.path))
    parts[1::2] = map(int, parts[1::2])  # type: ignore[arg-type]
    return False, parts, item.path


class Sequences:
    """Assigns images and frames to sequences: a video, camera or stream is one, and the images of a folder.

    Attributes
    ----------
    name : str
        The video, camera or address, or the folder, of the last image or frame.
    frame : int
        Its number in its sequence, from 0. Images that cannot be read have numbers, too.
    """

    def __init__(self) -> None:
        self.name, self.frame = "", 0
        self._is_folder: Optional[bool] = None
        self._failed: Counter[str] = Counter()  # images by folder since the last readable image or frame

    def add(self, name: str, number: Optional[int]) -> bool:
        """Add the next image or frame, see `Frame`; returns whether it begins a sequence."""
        is_folder = number is None
        sequence = os.path.dirname(name) if is_folder else name
        begins = (sequence, is_folder) != (self.name, self._is_folder) or number == 0
        if number is None:
            self.frame = (0 if begins else self.frame + 1) + self._failed[sequence]
        else:
            self.frame = number
        self.name, self._is_folder = sequence, is_folder
        self._failed.clear()
        return begins

    def add_failed(self, name: str) -> None:
        """Add an input that cannot be read; an image has a place in the sequence of its folder."""
        if not (is_video_file(name) or is_address(name) or is_camera(name)):
            self._failed[os.path.dirname(name)] += 1
