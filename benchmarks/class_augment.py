"""What augmenting a classifier's image costs: milliseconds per image on one core.

    python benchmarks/class_augment.py FOLDER [--size 224] [--rounds 5]

FOLDER is one of image folders, as for `train_cls.py --dataset folder`. The numbers of operations are
measured in turn, on the same 200 images.
"""

from __future__ import annotations

import argparse
import time
from typing import Dict, List

import cv2
import numpy as np

from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.classification.transforms import ClassificationTransform, val_transform
from mnssd.data.image import to_network_input
from mnssd.data.transform_options import ClassAugmentOptions
from mnssd.runtime import processor
from mnssd.tasks.classification import mix, soften

IMAGES = 200


def main() -> None:
    """Print a table, medians over the rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    dataset, size = open_classification_dataset("folder", args.folder, "train"), (args.size, args.size)
    chosen = [dataset[i * len(dataset) // IMAGES] for i in range(IMAGES)]
    times: Dict[str, List[float]] = {}

    def clock(name: str, start: float, count: int) -> None:
        times.setdefault(name, []).append((time.perf_counter() - start) / count * 1000)

    for _ in range(args.rounds):
        start = time.perf_counter()
        images = [dataset.read(image, size) for image in chosen]
        clock("reading and decoding", start, IMAGES)
        start = time.perf_counter()
        for image in images:
            val_transform(image, size, 1.0)
        clock("resizing alone, as for measuring", start, IMAGES)
        for operations in (0, 1, 2, 3):
            transform = ClassificationTransform(size, ClassAugmentOptions(operations=operations))
            rng = np.random.default_rng(0)
            start = time.perf_counter()
            for image in images:
                transform(image, rng)
            clock(f"crop, mirror, {operations} operations", start, IMAGES)
        pixels = [val_transform(image, size, 1.0) for image in images[:32]]
        start = time.perf_counter()
        batch = to_network_input(pixels)
        clock("normalizing", start, len(pixels))
        targets = soften(np.zeros(len(batch), np.int64), 10, 0.1)
        start = time.perf_counter()
        mix(batch, targets, 0.2, np.random.default_rng(0))
        clock("mixup", start, len(pixels))
    sides = [image.shape[:2] for image in images]
    height, width = np.median(sides, axis=0)
    print(f"{processor.model()}, one core; {IMAGES} images, median {width:.0f}x{height:.0f} decoded,")
    print(f"to {args.size}x{args.size}\n")
    print("| what | ms per image, median of the rounds |\n|---|---|")
    for name, values in times.items():
        print(f"| {name} | {np.median(values):.2f} |")


if __name__ == "__main__":
    main()
