"""`Tracker`: gives the detections of an object the same id in all frames of a video.

The association is that of ByteTrack (Zhang et al. 2022, arXiv:2110.06864), except that low scores also
continue tracks that were not detected in the frame before. `benchmarks/TRACKING.md` compares the results with
a public ByteTrack; `docs/architecture.md` says why no package is used. The assignment is SciPy's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Tuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..boxes import clip, iou
from ..errors import OptionError
from ..options import Size
from . import DISPLAY_SCORE
from .motion import BoxMotion
from .results import DetectionResult

NO_TRACK = -1
"""Id of a detection that is of no track, or not yet."""

LOW_SCORE = 0.1
"""Lowest score of a detection that continues a track; ByteTrack's."""

KEEP_FRAMES = 30
"""Frames for which a track without detections is kept; ByteTrack's."""

_MIN_IOU, _MIN_IOU_UNSURE = 0.2, 0.3
"""Least IoU of a predicted box and a detection; the second for detections below `Tracker.score` and for the
second detection of a track. ByteTrack has .5 for low scores, and multiplies the others by the score. The
values were chosen with the seeds 10 to 13 of `benchmarks/tracking.py`, not with those of its table."""


@dataclass(frozen=True, eq=False)
class TrackedResult(DetectionResult):
    """Detections in one frame with the ids of their tracks, by a `Tracker`.

    Attributes
    ----------
    ids : numpy.ndarray
        ``(N,)`` int64 id of each detection, from 1; -1 for one that is of no track, or not yet.
    active_ids : tuple of int
        Ids of all tracks that may go on, also of those without a detection in this frame.
    """

    ids: np.ndarray
    active_ids: Tuple[int, ...]

    def __repr__(self) -> str:
        marks = [f"#{number} " if number != NO_TRACK else "" for number in self.ids.tolist()]
        listed = ", ".join(f"{mark}{name} {score:.2f}" for mark, (name, score, _) in zip(marks, self))
        count = f"{len(self)} detection{'' if len(self) == 1 else 's'}"
        return f"{count}: {listed}" if listed else count

    def at_least(self, score: float) -> TrackedResult:
        """The detections of at least this score."""
        rows = np.flatnonzero(self.scores >= score)
        parts = {name: getattr(self, name)[rows] for name in ("boxes", "labels", "scores", "ids")}
        return replace(self, **parts)

    def to_dict(self) -> Dict[str, Any]:
        """As `DetectionResult.to_dict`; each detection has an ``"id"``, None without a track."""
        entry = super().to_dict()
        for detection, number in zip(entry["detections"], self.ids.tolist()):
            detection["id"] = None if number == NO_TRACK else number
        return entry

    def _draw(self, pixels: np.ndarray) -> np.ndarray:
        from .draw import draw

        return draw(pixels, self, self.classes, self.ids)


class Tracker:
    """Tracks the objects of one video, frame by frame.

    - Detections from `score` on are assigned to the tracks whose predicted boxes they overlap, so that the
      sum of all IoUs is the largest. Tracks that remain are continued by detections below `score`.
    - A detection from `score` on that is left begins a track. It gets its id with its second detection, which
      has to be in the next frame; in the first frame of a video at once.
    - A track has one class: detections of other classes never continue it. An object that the detector takes
      for another class gets another id.
    - A track without detections moves on at its last velocity. It ends when it had none for more than
      `keep_frames` frames, or when its box has left the image.
    - Ids count from 1 and are never used again. The same detections always get the same ids.

    Parameters
    ----------
    score : float
        Lowest score of detections that begin tracks.
    low_score : float
        Lowest score of detections that continue tracks. Call the detector with it.
    keep_frames : float
        Frames for which a track without detections is kept. With 0 it ends in the first of them.

    Raises
    ------
    OptionError
        If an argument is out of range.

    Examples
    --------
    >>> tracker = mnssd.Tracker()                                         # doctest: +SKIP
    >>> for frame in iter_frames(["clip.mp4"]):                           # doctest: +SKIP
    ...     tracked = tracker.update(detector(frame.image, tracker.low_score))
    ...     for number, (name, score, box) in zip(tracked.ids, tracked):
    ...         print(number, name, score, box)
    1 star 0.98 (103.2, 41.0, 161.7, 99.4)
    """

    def __init__(
        self, score: float = DISPLAY_SCORE, low_score: float = LOW_SCORE, keep_frames: float = KEEP_FRAMES
    ) -> None:
        for name, value in (("score", score), ("low_score", low_score)):
            if not 0 <= value <= 1:
                raise OptionError(f"{name}: expected a number from 0 to 1, got {value}")
        if not (math.isfinite(keep_frames) and keep_frames >= 0):
            raise OptionError(f"keep_frames: expected a number of frames, got {keep_frames}")
        self.score, self.low_score, self.keep_frames = score, min(low_score, score), keep_frames
        self._last_id = 0
        self._size: Size = (0, 0)  # of the frames so far
        self._tracks = _Tracks(np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros(0, np.int64))

    def update(self, result: DetectionResult, frames: float = 1.0) -> TrackedResult:
        """Track the detections of the next frame.

        Parameters
        ----------
        result : DetectionResult
            Detections from `low_score` on; it may be empty. All tracks end where the size of the image
            changes.
        frames : float
            Frames since the last one, more than 1 where frames were dropped: the tracks move on by so many.

        Returns
        -------
        TrackedResult
            All detections of `result`, in their order, with ids.

        Raises
        ------
        OptionError
            If a box or score is not finite, or `frames` is not above 0.
        """
        if not isinstance(result, DetectionResult):
            raise OptionError(f"expected the DetectionResult of one frame, got {type(result).__name__}")
        if not (math.isfinite(frames) and frames > 0):
            raise OptionError(f"frames: expected a number above 0, got {frames}")
        if not (np.isfinite(result.boxes).all() and np.isfinite(result.scores).all()):
            raise OptionError("a box or a score of the detections is not finite")
        is_first = tuple(result.size) != self._size
        tracks, self._size = self._tracks, (result.size[0], result.size[1])
        if is_first:
            tracks.take(np.zeros(0, np.int64))
        tracks.predict(frames)
        is_kept = (tracks.unseen - 1 <= self.keep_frames) & _is_inside(tracks, self._size)
        tracks.take(np.flatnonzero(is_kept))
        track_of = self._assign(tracks, result)
        tracks.correct(result.boxes, track_of)
        has_second = tracks.is_seen & (tracks.ids == NO_TRACK)
        tracks.ids[has_second] = self._new_ids(has_second)
        ids = np.append(tracks.ids, NO_TRACK)[track_of]  # the last for -1
        tracks.take(np.flatnonzero(tracks.ids != NO_TRACK))  # without a second detection, a track ends
        begins = (track_of < 0) & (result.scores >= self.score)
        if is_first:
            ids[begins] = self._new_ids(begins)
        tracks.append(_Tracks(result.boxes[begins], result.labels[begins], ids[begins]))
        active = tuple(sorted(tracks.ids[tracks.ids != NO_TRACK].tolist()))
        return TrackedResult(
            result.boxes, result.labels, result.scores, result.classes, result.size, ids, active
        )

    def _assign(self, tracks: _Tracks, result: DetectionResult) -> np.ndarray:
        """``(N,)`` row of the track that each detection continues; -1 for none."""
        boxes = result.boxes.astype(np.float64)
        similarity = iou(clip(tracks.motion.boxes(), self._size).astype(np.float64)[:, None], boxes, offset=1)
        similarity[tracks.labels[:, None] != result.labels] = 0
        has_id = tracks.ids != NO_TRACK
        is_high, is_low = result.scores >= self.score, result.scores >= self.low_score
        track_of = np.full(len(boxes), -1, np.int64)
        for of_tracks, of_boxes, least in (
            (has_id, is_high, _MIN_IOU),
            (has_id, is_low & ~is_high, _MIN_IOU_UNSURE),
            (~has_id, is_high, _MIN_IOU_UNSURE),
        ):
            free = np.ones(len(tracks.ids), bool)
            free[track_of[track_of >= 0]] = False
            rows, columns = np.flatnonzero(of_tracks & free), np.flatnonzero(of_boxes & (track_of < 0))
            for row, column in _best_pairs(similarity[np.ix_(rows, columns)], least):
                track_of[columns[column]] = rows[row]
        return track_of

    def _new_ids(self, rows: np.ndarray) -> np.ndarray:
        """The next ids for the `rows`, ``(T,)`` bool."""
        first, count = self._last_id + 1, int(np.count_nonzero(rows))
        self._last_id += count
        return np.arange(first, first + count)


class _Tracks:
    """T tracks: their motion, class, id, and since when they are without a detection."""

    def __init__(self, boxes: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> None:
        self.motion, self.labels, self.ids = BoxMotion(boxes), labels, ids
        self.unseen = np.zeros(len(ids))  # frames since the last detection
        self.is_seen = np.ones(len(ids), bool)  # in this frame

    def predict(self, frames: float) -> None:
        """Move on to a frame that is `frames` later."""
        self.motion.predict(frames, ~self.is_seen)
        self.is_seen = np.zeros(len(self.ids), bool)
        self.unseen = self.unseen + frames

    def correct(self, boxes: np.ndarray, track_of: np.ndarray) -> None:
        """Take the detections of this frame into account; `track_of` as from `Tracker._assign`."""
        columns = np.flatnonzero(track_of >= 0)
        rows = track_of[columns]
        self.motion.correct(rows, boxes[columns])
        self.unseen[rows], self.is_seen[rows] = 0, True

    def take(self, rows: np.ndarray) -> None:
        """Keep the tracks `rows` only."""
        self.motion.take(rows)
        for name in ("labels", "ids", "unseen", "is_seen"):
            setattr(self, name, getattr(self, name)[rows])

    def append(self, other: _Tracks) -> None:
        """Add tracks."""
        self.motion.append(other.motion)
        for name in ("labels", "ids", "unseen", "is_seen"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(other, name)]))


def _is_inside(tracks: _Tracks, size: Size) -> np.ndarray:
    """``(T,)`` whether the predicted box of a track is in the image, at least in part."""
    boxes = tracks.motion.boxes()
    return np.asarray((boxes[:, 2:] >= 0).all(axis=1) & (boxes[:, :2] <= np.array(size) - 1).all(axis=1))


def _best_pairs(similarity: np.ndarray, least: float) -> List[Tuple[int, int]]:
    """Rows and columns of the assignment with the largest sum of the entries that are at least `least`."""
    allowed = np.where(similarity >= least, similarity, 0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    return [(row, column) for row, column in zip(rows, columns) if allowed[row, column] > 0]
