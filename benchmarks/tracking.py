"""Quality of the tracker: MOTA and IDF1 on sequences with known tracks, beside a public ByteTrack.

    python benchmarks/tracking.py FOLDER --peer PYTHON

Writes the true tracks, the detections and the tracks of `mnssd.Tracker` to FOLDER. The interpreter PYTHON, of
an environment with the packages `trackers` and `supervision`, then tracks the same detections and evaluates
all tracks (`tracking_peer.py`). Without --peer the files are written only. Results: TRACKING.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from tracking_scenes import Settings, detect, make_objects, render, visible

from mnssd.cli.detect import BUILTIN_DETECTOR
from mnssd.data.shapes.outlines import SHAPE_CLASSES
from mnssd.inference.detector import Detector
from mnssd.inference.results import DetectionResult
from mnssd.inference.tracking import LOW_SCORE, NO_TRACK, Tracker

KINDS: Dict[str, Settings] = {
    "plain": Settings(),
    "crowded": Settings(objects=30, missed=0.1, low=0.15, false=0.6),
    "fast": Settings(objects=10, speed=9.0, missed=0.12),
    "small": Settings(objects=7, frames=60, size=(320, 240), sides=(30.0, 60.0), speed=2.0),
    "rendered": Settings(objects=6, frames=150, size=(320, 320), sides=(70.0, 130.0), speed=1.5),
}
"""Kinds of sequences; those that are rendered are seen by the built-in detector. Tests use ``small-0``."""

SEQUENCES = 4  # per kind


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with the packages of the peers")
    args = parser.parse_args()
    seconds, frames = 0.0, 0
    for kind, settings in KINDS.items():
        for seed in range(SEQUENCES):
            sequence = make_sequence(kind, settings, seed)
            name = f"{kind}-{seed}"
            write(args.folder / "truth" / f"{name}.txt", sequence["truth"])
            (args.folder / f"{name}.json").write_text(json.dumps(sequence["detections"]))
            start = time.perf_counter()
            tracks = track(sequence["detections"], settings)
            seconds, frames = seconds + time.perf_counter() - start, frames + settings.frames
            write(args.folder / "mnssd" / f"{name}.txt", tracks)
            write(args.folder / "mnssd-shown" / f"{name}.txt", [row for row in tracks if row[6] >= 0.5])
            one_class = [[{**item, "class": SHAPE_CLASSES[0]} for item in f] for f in sequence["detections"]]
            write(args.folder / "mnssd-one-class" / f"{name}.txt", track(one_class, settings))
    print(f"mnssd.Tracker: {1000 * seconds / frames:.2f} ms per frame")
    if args.peer:
        peer = Path(__file__).with_name("tracking_peer.py")
        subprocess.run([args.peer, str(peer), str(args.folder)], check=True)


def make_sequence(kind: str, settings: Settings, seed: int) -> Dict[str, Any]:
    """True tracks as rows of the MOT Challenge, and the detections of each frame."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    objects = make_objects(settings, rng)
    by_frame = [visible(objects, frame, settings.size) for frame in range(settings.frames)]
    truth = [
        [*mot_row(t, item.number + 1, item.box, 1)[:7], 1, item.share]  # of class 1
        for t, items in enumerate(by_frame)
        for item in items
    ]
    if kind == "rendered":
        detector = Detector.load(BUILTIN_DETECTOR)
        results = [detector(image, LOW_SCORE) for image in render(objects, settings, rng)]
        return {"truth": truth, "detections": [result.to_dict()["detections"] for result in results]}
    return {"truth": truth, "detections": [detect(items, settings, rng) for items in by_frame]}


def track(detections: List[List[Dict[str, Any]]], settings: Settings) -> List[List[float]]:
    """Rows of the tracks of `Tracker`, low scores included."""
    tracker, rows = Tracker(), []
    for t, found in enumerate(detections):
        boxes = np.array([item["box"] for item in found], np.float32).reshape(-1, 4)
        labels = np.array([SHAPE_CLASSES.index(item["class"]) for item in found], np.int32)
        scores = np.array([item["score"] for item in found], np.float32)
        result = tracker.update(DetectionResult(boxes, labels, scores, SHAPE_CLASSES, settings.size))
        for number, box, score in zip(result.ids.tolist(), result.boxes, result.scores.tolist()):
            if number != NO_TRACK:
                rows.append(mot_row(t, number, box, score))
    return rows


def mot_row(frame: int, number: int, box: np.ndarray, score: float) -> List[float]:
    """A row of the MOT Challenge: frames and pixels count from 1."""
    left, top, right, bottom = box.tolist()
    return [frame + 1, number, left + 1, top + 1, right - left + 1, bottom - top + 1, score, -1, -1, -1]


def write(path: Path, rows: List[List[float]]) -> None:
    """Write rows as a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(f"{value:.10g}" for value in row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
