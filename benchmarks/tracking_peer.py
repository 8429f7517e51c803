"""A public ByteTrack on the detections of `tracking.py`, and the evaluation of all tracks.

    PYTHON benchmarks/tracking_peer.py FOLDER

PYTHON has the packages `trackers` and `supervision`, whose NumPy is newer than MXNet's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker
from trackers.eval import evaluate_mot_sequence
from trackers.eval.clear import aggregate_clear_metrics
from trackers.eval.identity import aggregate_identity_metrics

AGGREGATES = {"CLEAR": aggregate_clear_metrics, "Identity": aggregate_identity_metrics}

PEERS: Dict[str, Dict[str, float]] = {
    "trackers": {},  # its defaults
    "trackers-0.5": {
        "track_activation_threshold": 0.5,
        "high_conf_det_threshold": 0.5,
    },  # thresholds of mnssd
}


def main() -> None:
    folder = Path(sys.argv[1])
    names = sorted(path.stem for path in (folder / "truth").glob("*.txt"))
    for name in names:
        detections = json.loads((folder / f"{name}.json").read_text())
        for peer, options in PEERS.items():
            (folder / peer).mkdir(exist_ok=True)
            rows = track(detections, options)
            text = "".join(",".join(f"{value:.10g}" for value in row) + "\n" for row in rows)
            (folder / peer / f"{name}.txt").write_text(text)
    print("| sequences | tracker | MOTA | IDF1 | id switches |\n|---|---|---|---|---|")
    for kind in dict.fromkeys(name.rsplit("-", 1)[0] for name in names):
        for tracker in ("mnssd", "mnssd-one-class", "mnssd-shown", *PEERS):
            of_kind = [name for name in names if name.rsplit("-", 1)[0] == kind]
            clear, identity = evaluate(folder, tracker, of_kind)
            figures = " | ".join(f"{value:.3f}"[1:] for value in (clear["MOTA"], identity["IDF1"]))
            print(f"| {kind} | {tracker} | {figures} | {clear['IDSW']} |")


def track(detections: List[List[Dict[str, Any]]], options: Dict[str, float]) -> List[List[float]]:
    """Rows of the MOT Challenge."""
    tracker, rows = ByteTrackTracker(**options), []
    for t, found in enumerate(detections):
        result = tracker.update(
            sv.Detections(
                xyxy=np.array([item["box"] for item in found], float).reshape(-1, 4),
                confidence=np.array([item["score"] for item in found], float),
                class_id=np.zeros(len(found), int),
            )
        )
        for number, box, score in zip(result.tracker_id, result.xyxy, result.confidence):
            if number >= 0:
                left, top, right, bottom = box.tolist()
                sides = (right - left + 1, bottom - top + 1)
                rows.append([t + 1, int(number) + 1, left + 1, top + 1, *sides, float(score), -1, -1, -1])
    return rows


def evaluate(folder: Path, tracker: str, names: List[str]) -> List[Dict[str, Any]]:
    """CLEAR and Identity metrics over several sequences."""
    results = [
        evaluate_mot_sequence(
            folder / "truth" / f"{name}.txt", folder / tracker / f"{name}.txt", list(AGGREGATES)
        )
        for name in names
    ]
    return [
        aggregate([getattr(result, family).to_dict() for result in results])
        for family, aggregate in AGGREGATES.items()
    ]


if __name__ == "__main__":
    main()
