r"""Precision of `mnssd check-labels` on labels with planted faults.

    python benchmarks/label_faults.py RUN [--data-root DIR] [--splits LISTS] [--share 0.05] [--seeds 0,1]

A share of the labels gets a fault, a quarter of each kind: removed, added at a random place, given another
class, or with edges moved by 20 to 40 % of the side. Prints the precision of the first K suspects, where K is
the number of planted faults, of the first K / 2, and the share of the faults of each kind among the first K
and 2 K. Faults that the dataset had before count as false alarms.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from mnssd import zoo
from mnssd.boxes import iou
from mnssd.data.sample import Detections, Sample
from mnssd.inference.predict import predict
from mnssd.metrics.label_suspects import LabelFault, Suspect, find_suspects
from mnssd.tasks.check_labels import open_labels


class Planted(NamedTuple):
    """A fault: kind, image, and the box where a suspect has to be."""

    fault: LabelFault
    image_id: str
    box: np.ndarray


def plant(
    samples: Sequence[Sample], share: float, classes: int, rng: np.random.Generator
) -> Tuple[List[Sample], List[Planted]]:
    """Copies of the samples with faults, and the faults."""
    places = [(i, row) for i, s in enumerate(samples) for row in np.flatnonzero(~s.difficult)]
    chosen = rng.permutation(len(places))[: round(share * len(places))]
    kinds = list(LabelFault) if classes > 1 else [kind for kind in LabelFault if kind is not LabelFault.CLASS]
    by_image: Dict[int, List[Tuple[int, LabelFault]]] = {}
    for number, place in enumerate(chosen):
        by_image.setdefault(places[place][0], []).append((places[place][1], kinds[number % len(kinds)]))
    result, planted = list(samples), []
    for index, faults in by_image.items():
        result[index], new = _plant_in(samples[index], faults, classes, rng)
        planted += new
    return result, planted


def _plant_in(
    sample: Sample, faults: List[Tuple[int, LabelFault]], classes: int, rng: np.random.Generator
) -> Tuple[Sample, List[Planted]]:
    boxes, labels = sample.boxes.copy(), sample.labels.copy()
    added: List[Tuple[np.ndarray, int]] = []
    planted, removed = [], []
    for row, fault in faults:
        box, place = boxes[row], boxes[row].copy()
        width, height = box[2:] - box[:2] + 1
        if fault is LabelFault.MISSING:
            removed.append(row)
        elif fault is LabelFault.CLASS:
            labels[row] = (labels[row] + rng.integers(1, classes)) % classes
        elif fault is LabelFault.LOOSE:
            shift = rng.uniform(0.2, 0.4, 4) * rng.choice([-1, 1], 4) * [width, height, width, height]
            limit = np.tile(np.array(sample.size) - 1, 2)
            boxes[row] = place = np.clip(box + shift, 0, limit).astype(np.float32)
        else:
            for _ in range(50):
                left = rng.uniform(0, max(1, sample.size[0] - width))
                top = rng.uniform(0, max(1, sample.size[1] - height))
                place = np.array([left, top, left + width - 1, top + height - 1], np.float32)
                if (iou(place, boxes, offset=1) < 0.1).all():
                    break
            else:
                continue
            added.append((place, int(labels[row])))
        planted.append(Planted(fault, sample.image_id, place))
    keep = np.setdiff1d(np.arange(len(boxes)), removed)
    extra = np.array([box for box, _ in added], np.float32).reshape(-1, 4)
    changed = replace(
        sample,
        boxes=np.concatenate([boxes[keep], extra]),
        labels=np.concatenate([labels[keep], [label for _, label in added]]).astype(np.int32),
        difficult=np.concatenate([sample.difficult[keep], np.zeros(len(added), bool)]),
    )
    return changed, planted


def found(suspects: Sequence[Suspect], planted: Sequence[Planted]) -> Tuple[List[bool], Counter[LabelFault]]:
    """Whether each suspect is at a planted fault, each counted once, and the faults found by kind."""
    left, hits, kinds = list(planted), [], Counter()
    for suspect in suspects:
        box = suspect.sample.boxes[suspect.row] if suspect.row >= 0 else suspect.box
        match = next(
            (
                one for one in left
                if one.image_id == suspect.sample.image_id
                and (one.fault is LabelFault.MISSING) == (suspect.row < 0)
                and iou(box, one.box, offset=1) >= (0.5 if suspect.row < 0 else 0.99)
            ),
            None,
        )  # fmt: skip
        hits.append(match is not None)
        if match is not None:
            left = [one for one in left if one is not match]
            kinds[match.fault] += 1
    return hits, kinds


def measure(pairs: List[Tuple[Sample, Detections]], classes: Sequence[str], share: float, seed: int) -> Any:
    """Precisions, and shares of the faults found by kind."""
    samples, planted = plant([s for s, _ in pairs], share, len(classes), np.random.default_rng(seed))
    suspects = find_suspects([(s, d) for s, (_, d) in zip(samples, pairs)], classes)
    count, totals = len(planted), Counter(one.fault for one in planted)
    half, once = (sum(found(suspects[:n], planted)[0]) / n for n in (count // 2, count))
    shares = [found(suspects[: factor * count], planted)[1] for factor in (1, 2)]
    return count, half, once, [{kind: s[kind] / totals[kind] for kind in totals} for s in shares]


def main() -> None:
    """Print a line per seed, and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("--splits", default=None)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", default="0,1")
    args = parser.parse_args()
    net = zoo.load_detector(args.run)
    dataset = open_labels(args.run, net.classes, args.data_root, args.splits)
    net.hybridize()
    pairs = list(predict(net, dataset, on_bad_image="skip", workers=0))
    results = [measure(pairs, net.classes, args.share, int(seed)) for seed in args.seeds.split(",")]
    for count, half, once, (first, second) in results:
        kinds = ", ".join(f"{k.value} {first[k]:.2f} ({second[k]:.2f})" for k in first)
        print(f"{count} faults: precision {half:.2f} of the first half, {once:.2f} of all; found {kinds}")
    print(f"mean {statistics.mean(one for _, _, one, _ in results):.3f}")


if __name__ == "__main__":
    main()
