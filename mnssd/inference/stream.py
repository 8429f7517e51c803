"""Detections in a stream of images and frames: files are read ahead, in a thread, and detected in batches."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import Any, Callable, Iterable, Iterator, Mapping, Tuple, Union

from ..data.prefetch import prefetch
from ..data.preprocess import NetworkImage
from ..data.tiles import NONE
from ..errors import ImageError
from .detector import BATCH, Detector
from .results import DetectionResult
from .video import Frame

FrameResult = Tuple[Frame, Union[DetectionResult, ImageError]]


def detect_frames(
    detector: Detector, frames: Iterable[Frame], limits: Mapping[str, Any], tiles: str = NONE
) -> Iterator[FrameResult]:
    """Detect objects in each frame; yields it with its detections, or why it cannot be read.

    Consecutive image files are read ahead of the detector, and detected in batches unless in `tiles`. Frames
    of videos, cameras and streams are detected one at a time, so that none has to wait for the next.

    Parameters
    ----------
    detector : Detector
    frames : iterable of Frame
        As of `sources.iter_frames`.
    limits : mapping
        Further arguments of the detector: `score`, `iou`, `max_detections`, `classes`, `across_classes`.
    tiles : str
        As for the detector.
    """
    for is_file, group in itertools.groupby(frames, lambda frame: isinstance(frame.image, str)):
        if is_file and tiles == NONE:
            yield from _in_batches(detector, group, limits)
        else:
            yield from (detect_frame(detector, frame, {**limits, "tiles": tiles}) for frame in group)


def detect_frame(detector: Detector, frame: Frame, arguments: Mapping[str, Any]) -> FrameResult:
    """Detect objects in a frame, at once; `arguments` are those of the detector."""
    if isinstance(frame.image, ImageError):
        return frame, frame.image
    try:
        return frame, detector(frame.image, **arguments)
    except ImageError as error:
        return frame, error


def _in_batches(
    detector: Detector, files: Iterable[Frame], limits: Mapping[str, Any]
) -> Iterator[FrameResult]:
    read = prefetch(_reader(detector), files, workers=1, ahead=2 * BATCH)
    with closing(read):
        while True:
            batch = list(itertools.islice(read, BATCH))
            if not batch:
                return
            readable = [image for _, image in batch if isinstance(image, NetworkImage)]
            found = iter(detector.detect(readable, **limits))
            for frame, image in batch:
                yield frame, image if isinstance(image, ImageError) else next(found)


def _reader(detector: Detector) -> Callable[[Frame], Tuple[Frame, Union[NetworkImage, ImageError]]]:
    def read(frame: Frame) -> Tuple[Frame, Union[NetworkImage, ImageError]]:
        assert isinstance(frame.image, str)
        try:
            return frame, detector.read(frame.image)
        except ImageError as error:
            return frame, error

    return read
