r"""What is made of a detector's answers: suppression, the mirror image, the floor, each changed by itself.

    python benchmarks/postprocess.py RUN VOCDEVKIT [--split 2012_train] [--hold-out 0.1]

RUN is a detector that was trained with ``--hold-out`` on the same list; what it was not trained on is
measured, VOC12 metric. The network runs once an image (and once on its mirror image); everything else is
NumPy, by the definitions of the papers. Prints the table for ABLATIONS.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Iterable, List, Optional, Tuple

import numpy as np

import mnssd  # noqa: F401  (before MXNet: it chooses the threads)
from mnssd import zoo
from mnssd.boxes import STDS
from mnssd.data.image import to_network_input
from mnssd.data.open import open_dataset
from mnssd.data.preprocess import read_for_network, to_detections
from mnssd.data.sample import Sample
from mnssd.metrics.voc import VOCMetric


@dataclass(frozen=True)
class Rules:
    """How boxes are chosen; the defaults are those of `nn.SSD`."""

    iou: float = 0.45
    topk: int = 400
    kept: int = 200
    floor: float = 0.01
    soft: Optional[str] = None
    across: bool = False
    flip: bool = False


VARIANTS = {
    "as it is (NMS at .45, of 400 boxes, 200 kept, scores from .01)": Rules(),
    "NMS at .35": Rules(iou=0.35),
    "NMS at .40": Rules(iou=0.40),
    "NMS at .50": Rules(iou=0.50),
    "NMS at .55": Rules(iou=0.55),
    "NMS at .60": Rules(iou=0.60),
    "soft-NMS, Gaussian, sigma .5 (Bodla et al. 2017)": Rules(soft="gaussian"),
    "soft-NMS, linear from .45": Rules(soft="linear"),
    "NMS across classes": Rules(across=True),
    "of 100 boxes": Rules(topk=100),
    "of 1000 boxes, 400 kept": Rules(topk=1000, kept=400),
    "scores from .05": Rules(floor=0.05),
    "scores from .001": Rules(floor=0.001, topk=1000),
    "with the mirror image": Rules(flip=True),
    "with the mirror image, NMS at .50": Rules(flip=True, iou=0.50),
}

Answer = Tuple[np.ndarray, np.ndarray]
"""``(A, C)`` probabilities without the background, ``(A, 4)`` corners in pixels of the input."""


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of ``(4,)`` with ``(N, 4)``."""
    sides = np.maximum(0, np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]))
    shared = sides[:, 0] * sides[:, 1]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / np.maximum(areas + np.prod(box[2:] - box[:2]) - shared, 1e-9)


def choose(answer: Answer, rules: Rules) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(K,)`` labels and scores, ``(K, 4)`` boxes."""
    probabilities, corners = answer
    anchor, label = np.nonzero(probabilities > rules.floor)
    score = probabilities[anchor, label].astype(np.float64)
    order = np.argsort(-score, kind="stable")[: rules.topk]
    label, score, boxes = label[order], score[order].copy(), corners[anchor[order]]
    chosen: List[int] = []
    scores: List[float] = []
    alive = np.ones(len(order), bool)
    while alive.any() and len(chosen) < rules.kept:
        best = int(np.where(alive, score, -1).argmax())
        chosen.append(best)
        scores.append(float(score[best]))
        alive[best] = False
        rivals = np.flatnonzero(alive & (rules.across | (label == label[best])))
        iou = overlaps(boxes[best], boxes[rivals])
        if rules.soft == "gaussian":
            score[rivals] *= np.exp(-(iou**2) / 0.5)
        elif rules.soft == "linear":
            score[rivals] *= np.where(iou > rules.iou, 1 - iou, 1)
        else:
            alive[rivals[iou > rules.iou]] = False
        alive &= score > rules.floor
    return label[chosen], np.array(scores), boxes[chosen]


def read_answers(net: Any, samples: Iterable[Sample]) -> List[Tuple[Answer, Answer, Tuple[int, int]]]:
    """For each image: the network's answer, the mean with its mirror image's, and ``(width, height)``."""
    import mxnet as mx

    net.set_test_flip(True)
    net.heads.hybridize(static_alloc=True)
    found = []
    for sample in samples:
        pixels, size = read_for_network(sample.image_path, net.size)
        x = mx.nd.array(to_network_input([pixels]))
        plain, both = net.heads(x), net._flip_averaged(mx.nd, x)
        answers = [
            (mx.nd.softmax(c).asnumpy()[0, :, 1:], corners(net, o.asnumpy()[0])) for c, o in (plain, both)
        ]
        found.append((*answers, size))
    return found


def corners(net: Any, offsets: np.ndarray) -> np.ndarray:
    """``(A, 4)`` offsets to corners; SSD paper, section 2.2."""
    moved = offsets * np.array(STDS)
    sizes = np.exp(moved[:, 2:]) * net.anchors[:, 2:]
    centers = moved[:, :2] * net.anchors[:, 2:] + net.anchors[:, :2]
    return np.hstack([centers - sizes / 2, centers + sizes / 2])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("root")
    parser.add_argument("--split", default="2012_train")
    parser.add_argument("--hold-out", type=float, default=0.1)
    args = parser.parse_args()
    net = zoo.load_detector(args.run)
    dataset = open_dataset("voc", args.root, args.split, net.classes, "val")
    dataset = dataset.hold_out(args.hold_out)[1] if args.hold_out else dataset
    answers = read_answers(net, dataset)
    print(f"{len(dataset)} images\n\n| what | mAP |\n|---|---|")
    for name, rules in VARIANTS.items():
        metric = VOCMetric(dataset.classes, "voc12")
        for sample, (plain, both, size) in zip(dataset, answers):
            labels, scores, boxes = choose(both if rules.flip else plain, rules)
            columns = (labels[:, None], scores[:, None], boxes)
            metric.add(to_detections(*columns, net.size, size), sample)
        print(f"| {name} | {metric.result().mean_ap:.4f} |", flush=True)


if __name__ == "__main__":
    main()
