"""How many objects overlap an anchor by at least half: this package's anchors and TensorFlow's.

    python benchmarks/anchor_coverage.py [--size 160] [FOLDER SPLIT]

FOLDER is in VOC layout, by default the built-in dataset. TensorFlow's scheme has on the finest map only the
half square and the ratios 2 and 1/2 (``reduce_boxes_in_lowest_layer``). The third row has as many
shapes as this package at each place, found by k-means over the dataset's own boxes (Redmon and Farhadi 2017,
section 2: distances are 1 - IoU), those of each map among the boxes whose size is nearest to its scale.
Then, for this package's anchors, how many of them learn to find one object, by the overlap that is asked for
(`--match-iou`).
"""

from __future__ import annotations

import argparse
from typing import List, Tuple

import numpy as np

import mnssd  # noqa: F401  (before MXNet: it chooses the threads)
from mnssd import zoo
from mnssd.data.formats.voc import read_voc_folder
from mnssd.data.open import open_dataset
from mnssd.data.targets import TargetAssigner
from mnssd.nn.anchor_shapes import cluster_shapes, shapes_of
from mnssd.nn.anchors import anchors_per_position
from mnssd.nn.head_layouts import PAPER_ANCHORS

THRESHOLDS = (0.5, 0.45, 0.4, 0.35, 0.3)
TENSORFLOW = (1, 2, 4)  # of the first position: ratios 2 and 1/2, the half square


def cluster(anchors: np.ndarray, maps: List[Tuple[int, int]], sizes: np.ndarray) -> np.ndarray:
    """`anchors` at the same places with shapes of `sizes`, ``(N, 2)`` in pixels."""
    shapes = cluster_shapes(shapes_of(anchors, maps, PAPER_ANCHORS), sizes)
    places = [columns * rows for columns, rows in maps]
    tiled = np.concatenate([np.tile(part, (count, 1)) for part, count in zip(shapes, places)])
    return np.concatenate([anchors[:, :2], tiled], axis=1).astype(np.float32)


def main() -> None:
    """Print the share of covered objects and the mean number of anchors that match one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?")
    parser.add_argument("split", nargs="?", default="train")
    parser.add_argument("--size", type=int, default=160)
    args = parser.parse_args()
    dataset = read_voc_folder(args.folder, args.split) if args.folder else open_dataset("shapes")
    net = zoo.get_model(f"ssd_{args.size}_mobilenet_v2", classes=dataset.classes)
    columns, rows = net.map_sizes()[0]
    finest = columns * rows * anchors_per_position(0)
    kept = np.isin(np.arange(finest) % anchors_per_position(0), TENSORFLOW)
    tensorflow = np.concatenate([net.anchors[:finest][kept], net.anchors[finest:]])
    print(f"{dataset.name}, {len(dataset)} images at {args.size} pixels")
    scaled = [
        (s.boxes[:, 2:] - s.boxes[:, :2] + 1) * (args.size / s.size[0], args.size / s.size[1])
        for s in dataset
    ]
    clustered = cluster(net.anchors, net.map_sizes(), np.concatenate(scaled))
    tried = (("this package", net.anchors), ("TensorFlow", tensorflow), ("k-means", clustered))
    for name, anchors in tried:
        assigner, matches = TargetAssigner(anchors), []
        for sample in dataset:
            scale = np.array([args.size / sample.size[0], args.size / sample.size[1]] * 2, np.float32)
            matches += (assigner.iou(sample.boxes * scale) >= 0.5).sum(axis=1).tolist()
        found = np.array(matches)
        covered, mean = (found > 0).mean(), found.mean()
        print(f"{name}: {len(anchors)} anchors, {covered:.3f} covered, {mean:.2f} matches each")
    for threshold in THRESHOLDS:
        assigner, counts = TargetAssigner(net.anchors, threshold), []
        for sample in dataset:
            scale = np.array([args.size / sample.size[0], args.size / sample.size[1]] * 2, np.float32)
            boxes = sample.boxes * scale
            # The classes are the boxes' own numbers: the targets then tell which box each anchor has.
            labels, _ = assigner(boxes, np.arange(len(boxes)))
            counts += np.bincount(labels, minlength=len(boxes) + 1)[1:].tolist()
        found = np.array(counts)
        print(
            f"--match-iou {threshold}: {found.mean():.1f} positive anchors an object, "
            f"{(found <= 1).mean():.2f} of the objects with one or none"
        )


if __name__ == "__main__":
    main()
