"""How many objects overlap an anchor by at least half: this package's anchors and TensorFlow's.

    python benchmarks/anchor_coverage.py [--size 160] [FOLDER SPLIT]

FOLDER is in VOC layout, by default the built-in data set. TensorFlow's scheme has on the finest map only the
half square and the ratios 2 and 1/2 (``reduce_boxes_in_lowest_layer``).
"""

from __future__ import annotations

import argparse

import numpy as np

import mnssd  # noqa: F401  (before MXNet: it chooses the threads)
from mnssd import zoo
from mnssd.data.registry import open_dataset
from mnssd.data.targets import TargetAssigner
from mnssd.data.voc import read_voc_folder
from mnssd.nn.anchors import anchors_per_position

TENSORFLOW = (1, 2, 4)  # of `anchor_shapes(0)`: ratios 2 and 1/2, the half square


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
    for name, anchors in (("this package", net.anchors), ("TensorFlow", tensorflow)):
        assigner, matches = TargetAssigner(anchors), []
        for sample in dataset:
            scale = np.array([args.size / sample.size[0], args.size / sample.size[1]] * 2, np.float32)
            matches += (assigner.overlaps(sample.boxes * scale) >= 0.5).sum(axis=1).tolist()
        found = np.array(matches)
        covered, mean = (found > 0).mean(), found.mean()
        print(f"{name}: {len(anchors)} anchors, {covered:.3f} covered, {mean:.2f} matches each")


if __name__ == "__main__":
    main()
