"""Crop single objects from Pascal VOC images into one folder per class, for `train_cls.py --dataset folder`.

    python scripts/voc_crops.py VOCDEVKIT OUTPUT [--train 2012_train] [--val 2012_val] [--classes cat,dog,...]
        [--train-shared 1] [--val-shared 0.25]

Skipped are objects marked difficult, objects with a side under 32 pixels, and objects whose box is covered by
another box by more than --train-shared or --val-shared: a horse with its rider is useful for training but not
for evaluation. Crops have a margin of a tenth of the object's sides and are not resized.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from mnssd.data.formats.voc import read_voc
from mnssd.data.image import read_image
from mnssd.errors import ImageError

CLASSES = "cat,cow,dog,horse,person,sheep"
MARGIN, SMALLEST, QUALITY = 0.1, 32, 95


def covered(boxes: np.ndarray, index: int) -> float:
    """Largest fraction of box `index` covered by another box."""
    low = np.maximum(boxes[:, :2], boxes[index, :2])
    high = np.minimum(boxes[:, 2:], boxes[index, 2:])
    areas = np.prod(np.maximum(0, high - low + 1), axis=1) / np.prod(boxes[index, 2:] - boxes[index, :2] + 1)
    return float(np.delete(areas, index).max(initial=0))


def crop_split(root: str, split: str, classes: Sequence[str], folder: Path, max_covered: float) -> int:
    """Write the crops of a split; returns their number."""
    dataset, written = read_voc(root, split), 0
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for sample in dataset:
        if not any(dataset.classes[label] in classes for label in sample.labels):
            continue
        try:
            image = read_image(sample.image_path)
        except ImageError as error:
            print(f"skipped: {error}")
            continue
        end = np.array([image.shape[1], image.shape[0]])
        for index, (box, label, difficult) in enumerate(zip(sample.boxes, sample.labels, sample.difficult)):
            sides = box[2:] - box[:2] + 1
            if dataset.classes[label] not in classes or difficult or sides.min() < SMALLEST:
                continue
            if covered(sample.boxes, index) > max_covered:
                continue
            low = np.maximum(box[:2] - MARGIN * sides, 0).astype(int)
            high = np.minimum(box[2:] + MARGIN * sides + 1, end).astype(int)
            crop = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2BGR)
            path = folder / dataset.classes[label] / f"{sample.image_id}-{index}.jpg"
            cv2.imwrite(str(path), crop, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            written += 1
    return written


def main() -> None:
    """Crop both splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voc", metavar="VOCDEVKIT")
    parser.add_argument("output", metavar="OUTPUT", type=Path)
    parser.add_argument("--train", default="2012_train")
    parser.add_argument("--val", default="2012_val")
    parser.add_argument("--classes", default=CLASSES)
    parser.add_argument("--train-shared", type=float, default=1.0)
    parser.add_argument("--val-shared", type=float, default=0.25)
    args = parser.parse_args()
    for name, split, max_covered in (
        ("train", args.train, args.train_shared), ("val", args.val, args.val_shared),
    ):  # fmt: skip
        count = crop_split(args.voc, split, args.classes.split(","), args.output / name, max_covered)
        print(f"{name}: {count} crops of {split}")


if __name__ == "__main__":
    main()
