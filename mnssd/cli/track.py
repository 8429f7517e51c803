"""Tracking and counting of `mnssd detect --track`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from ..errors import ImageError
from ..files import printable
from ..inference.counting import AnyCounter, LineCounter, ZoneCounter, describe
from ..inference.draw import draw_regions
from ..inference.regions import check_within
from ..inference.results import DetectionResult
from ..inference.sources import Sequences
from ..inference.tracking import KEEP_FRAMES, TrackedResult, Tracker
from ..inference.video import Frame

if TYPE_CHECKING:
    from .detect import DetectOptions

_FPS = (1.0, 240.0)
"""Frame rates that are plausible; streams without a rate declare others, such as 90,000."""

_LEAST_KEPT = 5
"""Frames for which a lost track is kept at least, however slow the video."""


class SequenceTracker:
    """Tracks and counts in one sequence after the other, each with ids and counts of its own.

    Parameters
    ----------
    options : DetectOptions
        Its score, lines and zones.
    note, show : callable
        Called with a sentence that says how inputs are taken, and with a line of the summary.
    """

    def __init__(
        self, options: DetectOptions, note: Callable[[str], object], show: Callable[[str], object]
    ) -> None:
        self._options, self._note, self._show = options, note, show
        self._sequences = Sequences()
        self._sequence: Optional[_Sequence] = None
        self._refused = ""  # a video whose frames a line or zone is not within
        self.low_score = Tracker(options.score).low_score

    def track(self, frame: Frame, result: DetectionResult) -> TrackedResult:
        """Ids of the detections of the next frame, which are given from `low_score` on.

        Returns those from the user's score on. Raises ImageError if a line or zone is not within the image;
        of a video, the following frames are then refused.
        """
        try:
            for points in (*self._options.count_line, *self._options.count_zone):
                check_within(points, result.size)
        except ValueError as error:
            if frame.number is not None:
                self._refused = frame.name
            raise ImageError(f"{frame.name}: {error}") from error
        if self._sequences.add(frame.name, frame.number):
            self.finish()
            self._sequence = _Sequence(self._options, self._sequences.name, frame)
            if frame.number is None:
                self._note(
                    f"{self._sequence.name}: the images of this folder are tracked as the frames of one video"
                )
        assert self._sequence
        return self._sequence.track(frame, self._sequences.frame, result)

    def refuses(self, frame: Frame) -> bool:
        """Whether a frame is of a video that was refused."""
        return bool(frame.number) and frame.name == self._refused

    def skip(self, name: str) -> None:
        """Leave out an input that cannot be read."""
        self._sequences.add_failed(name)

    def counts(self) -> Dict[str, Any]:
        """``{"counts": [...]}`` so far in this sequence, lines first; empty without lines and zones."""
        counters = self._sequence.counters if self._sequence else []
        return {"counts": [counter.to_dict() for counter in counters]} if counters else {}

    def draw(self, pixels: np.ndarray) -> np.ndarray:
        """The last frame with lines, zones and counts."""
        counters = self._sequence.counters if self._sequence else []
        return draw_regions(pixels, [(c.points, describe(c.counts, with_classes=False)) for c in counters])

    def finish(self) -> None:
        """Show the summary of the last sequence."""
        if self._sequence:
            for line in self._sequence.summary():
                self._show(line)
        self._sequence = None


class _Sequence:
    """Tracker and counters of one video, or of the images of one folder."""

    def __init__(self, options: DetectOptions, name: str, first: Frame) -> None:
        self.name = printable(name or ".")
        self.counters: List[AnyCounter] = [
            *(LineCounter(line) for line in options.count_line),
            *(ZoneCounter(zone) for zone in options.count_zone),
        ]
        low, high = _FPS
        self._fps = first.fps if low <= first.fps <= high else float(KEEP_FRAMES)
        self._score = options.score
        self._tracker = Tracker(options.score, keep_frames=max(_LEAST_KEPT, self._fps))
        self._last: Optional[Frame] = None
        self._number = 0
        self._highest = 0
        self._objects: Counter[str] = Counter()

    def track(self, frame: Frame, number: int, result: DetectionResult) -> TrackedResult:
        tracked = self._tracker.update(result, self._frames_since(frame, number))
        self._last, self._number = frame, number
        self._count_objects(tracked.ids, tracked.names)
        for counter in self.counters:
            counter.update(tracked)
        return tracked.at_least(self._score)

    def _frames_since(self, frame: Frame, number: int) -> float:
        """Frames of the usual length since the last one, more where some were dropped or last longer."""
        if self._last is None:
            return 1.0
        if frame.time is None or self._last.time is None:
            return float(max(1, number - self._number))
        frames = (frame.time - self._last.time) * self._fps
        return frames if 0 < frames < float("inf") else 1.0  # times that do not increase are none

    def _count_objects(self, ids: np.ndarray, names: Sequence[str]) -> None:
        for number, name in sorted(zip(ids.tolist(), names)):
            if number > self._highest:
                self._highest = number
                self._objects[name] += 1

    def summary(self) -> List[str]:
        """A line about the tracks, and one for each counter."""
        lines = [f"{self.name}: {describe({'tracks': self._objects})}"]
        return lines + [
            f"{self.name}: {counter.title}: {describe(counter.counts)}" for counter in self.counters
        ]
