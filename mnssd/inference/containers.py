"""What OpenCV does not tell of a video file: how to turn its frames, whether the file is cut, its streams.

Read from the container: ISO base media (MP4, QuickTime, 3GP), Matroska (MKV, WebM) and RIFF (AVI).
"""

from __future__ import annotations

import os
import struct
from typing import IO, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

_ISO_STARTS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_ISO_CONTENT = (b"mdat", b"moov", b"moof")
_MATROSKA_START = b"\x1aE\xdf\xa3"
_SEGMENT, _TRACKS, _TRACK, _TRACK_TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
_VIDEO, _PROJECTION, _YAW, _ROLL = 0xE0, 0x7670, 0x7673, 0x7675
_MATROSKA_VIDEO = 1  # value of the track type

_SOUND_STARTS = (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9", b"MThd")
"""MP3, FLAC, MP3 without tags, AAC, MIDI."""

_ORIENTATIONS: Dict[Tuple[int, int, int, int], int] = {
    (1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip
"""EXIF orientation of a display matrix ``(a, b, c, d)``, which maps x to ``a x + c y`` and y to
``b x + d y`` (ISO/IEC 14496-12, track header box)."""

_ROLLS: Dict[Tuple[bool, int], int] = {
    (False, 0): 1, (False, 270): 6, (False, 180): 3, (False, 90): 8,
    (True, 0): 2, (True, 270): 7, (True, 180): 4, (True, 90): 5,
}  # fmt: skip
"""EXIF orientation of Matroska's projection: whether the yaw is 180 degrees, and the roll, counter-clockwise
(RFC 9559, ProjectionPoseYaw and ProjectionPoseRoll)."""


class Container(NamedTuple):
    """What a container tells.

    Attributes
    ----------
    orientation : int or None
        EXIF orientation that makes the frames upright; None if the container does not tell.
    is_cut : bool
        Whether the file ends before its content does.
    has_video : bool
        False for a file that holds only sound.
    """

    orientation: Optional[int] = None
    is_cut: bool = False
    has_video: bool = True


def read_container(path: str) -> Container:
    """Read the headers of a video file. Unknown and damaged containers tell nothing."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(40)
            if start[4:8] in _ISO_STARTS:
                return _read_iso(file, size)
            if start.startswith(_MATROSKA_START):
                return _read_matroska(file, size)
    except (OSError, ValueError, struct.error):
        return Container()
    if start.startswith(b"RIFF"):
        return Container(None, 8 + int.from_bytes(start[4:8], "little") > size, start[8:12] != b"WAVE")
    is_sound = start.startswith(_SOUND_STARTS) or (start.startswith(b"OggS") and start[29:35] == b"vorbis")
    return Container(has_video=not (is_sound or start[28:36] == b"OpusHead"))


def _read_iso(file: IO[bytes], size: int) -> Container:
    is_cut, tracks, video = False, 0, None
    movie = np.eye(2)
    for kind, start, end in _boxes(file, 0, size):
        is_cut = is_cut or (end > size and kind in _ISO_CONTENT)
        if kind != b"moov":
            continue
        for inner, inner_start, inner_end in _boxes(file, start, min(end, size)):
            if inner == b"mvhd":
                movie = _matrix(file, inner_start, 36)
            elif inner == b"trak":
                tracks += 1
                matrix, handler = _read_track(file, inner_start, inner_end)
                if handler == b"vide" and video is None:
                    video = matrix
    if video is None:
        return Container(None, is_cut, tracks == 0)
    matrix = video @ movie
    matrix[np.abs(matrix) < 0.1 * np.abs(matrix).max()] = 0  # rounding errors of the cosine of 90 degrees
    a, b, c, d = np.sign(matrix).astype(int).ravel().tolist()
    return Container(_ORIENTATIONS.get((a, b, c, d), 1), is_cut)


def _read_track(file: IO[bytes], start: int, end: int) -> Tuple[np.ndarray, bytes]:
    """Display matrix and handler, such as ``vide``, of a track."""
    matrix, handler = np.eye(2), b""
    for kind, box_start, box_end in _boxes(file, start, end):
        if kind == b"tkhd":
            matrix = _matrix(file, box_start, 40)
        elif kind == b"mdia":
            for inner, inner_start, _ in _boxes(file, box_start, box_end):
                if inner == b"hdlr":
                    file.seek(inner_start + 8)
                    handler = file.read(4)
    return matrix, handler


def _matrix(file: IO[bytes], start: int, offset: int) -> np.ndarray:
    """``[[a, b], [c, d]]`` of a header box; in version 1, three of the fields before it have 64 bits."""
    file.seek(start)
    version = file.read(1)
    file.seek(start + offset + (12 if version == b"\x01" else 0))
    a, b, _, c, d = struct.unpack(">5i", file.read(20))
    return np.array([[a, b], [c, d]]) / 65536


def _boxes(file: IO[bytes], start: int, end: int) -> Iterator[Tuple[bytes, int, int]]:
    """Type, start and end of the content of each box in a part of an ISO file."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,), header = struct.unpack(">Q", file.read(8)), 16
        size = size or end - start
        if size < header:
            return
        yield kind, start + header, start + size
        start += size


def _read_matroska(file: IO[bytes], size: int) -> Container:
    segments = [(start, end) for kind, start, end in _elements(file, 0, size) if kind == _SEGMENT]
    tracks = [place for a, b in segments for place in _find(file, [_TRACKS, _TRACK], a, min(b, size))]
    types = [_number(file, *place) for track in tracks for place in _find(file, [_TRACK_TYPE], *track)]
    video = [place for track in tracks for place in _find(file, [_VIDEO, _PROJECTION], *track)][:1]
    yaw, roll = (
        next((_float(file, *found) for place in video for found in _find(file, [kind], *place)), 0.0)
        for kind in (_YAW, _ROLL)
    )
    orientation = _ROLLS.get((abs(yaw) == 180, round(roll) % 360), 1) if video else None
    is_cut = any(end > size for _, end in segments)
    return Container(orientation, is_cut, _MATROSKA_VIDEO in types or not types)


def _find(file: IO[bytes], path: Sequence[int], start: int, end: int) -> List[Tuple[int, int]]:
    """Start and end of the content of all elements at a path of identifiers."""
    places = [(a, b) for kind, a, b in _elements(file, start, end) if kind == path[0]]
    if len(path) == 1:
        return places
    return [found for place in places for found in _find(file, path[1:], *place)]


def _elements(file: IO[bytes], start: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """Identifier, start and end of the content of each element in a part of a Matroska file (RFC 8794)."""
    while start < end:
        file.seek(start)
        try:
            kind, _ = _variable_integer(file)
            length, width = _variable_integer(file)
        except ValueError:  # the file is cut here, or damaged
            return
        content = file.tell()
        length ^= 1 << 7 * width  # the marker bit
        is_unknown = length == (1 << 7 * width) - 1  # of a stream that was not finished
        start = end if is_unknown else content + length
        yield kind, content, start


def _variable_integer(file: IO[bytes]) -> Tuple[int, int]:
    """An integer with its marker bit, and its width in bytes."""
    first = file.read(1)
    width = 9 - first[0].bit_length() if first else 9
    data = first + file.read(width - 1)
    if width > 8 or len(data) < width:
        raise ValueError("not an element")
    return int.from_bytes(data, "big"), width


def _number(file: IO[bytes], start: int, end: int) -> int:
    file.seek(start)
    return int.from_bytes(file.read(min(end - start, 8)), "big")


def _float(file: IO[bytes], start: int, end: int) -> float:
    file.seek(start)
    (value,) = struct.unpack(">d" if end - start == 8 else ">f", file.read(min(end - start, 8)))
    return float(value)
