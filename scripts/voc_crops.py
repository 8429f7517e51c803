"""Cut single objects out of Pascal VOC images: a folder a class, for `train_cls.py --dataset folder`.

    python scripts/voc_crops.py VOCDEVKIT OUTPUT [--train 2012_train] [--val 2012_val] [--classes cat,dog,...]
        [--train-shared 1] [--val-shared 0.25]

Left out are objects marked difficult, with a side under 32 pixels, or of whose box another object's box
(of any class) covers more than the share given: a horse and its rider make no crop of a single object, by
which to measure, though something to learn from. A crop shows a tenth of the object's sides around it.
Nothing is enlarged.
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


def covered(boxes: np.ndarray, number: int) -> float:
    """The largest share of a box that another one covers."""
    low = np.maximum(boxes[:, :2], boxes[number, :2])
    high = np.minimum(boxes[:, 2:], boxes[number, 2:])
    areas = np.prod(np.maximum(0, high - low + 1), axis=1) / np.prod(
        boxes[number, 2:] - boxes[number, :2] + 1
    )
    return float(np.delete(areas, number).max(initial=0))


def cut(root: str, split: str, wanted: Sequence[str], folder: Path, shared: float) -> int:
    """Write the crops of a split; returns how many."""
    dataset, written = read_voc(root, split), 0
    for name in wanted:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for sample in dataset:
        if not any(dataset.classes[label] in wanted for label in sample.labels):
            continue
        try:
            image = read_image(sample.image_path)
        except ImageError as error:
            print(f"skipped: {error}")
            continue
        end = np.array([image.shape[1], image.shape[0]])
        for number, (box, label, hard) in enumerate(zip(sample.boxes, sample.labels, sample.difficult)):
            sides = box[2:] - box[:2] + 1
            if dataset.classes[label] not in wanted or hard or sides.min() < SMALLEST:
                continue
            if covered(sample.boxes, number) > shared:
                continue
            low = np.maximum(box[:2] - MARGIN * sides, 0).astype(int)
            high = np.minimum(box[2:] + MARGIN * sides + 1, end).astype(int)
            crop = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2BGR)
            path = folder / dataset.classes[label] / f"{sample.image_id}-{number}.jpg"
            cv2.imwrite(str(path), crop, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            written += 1
    return written


def main() -> None:
    """Cut both splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("voc")
    parser.add_argument("output", type=Path)
    parser.add_argument("--train", default="2012_train")
    parser.add_argument("--val", default="2012_val")
    parser.add_argument("--classes", default=CLASSES)
    parser.add_argument("--train-shared", type=float, default=1.0)
    parser.add_argument("--val-shared", type=float, default=0.25)
    args = parser.parse_args()
    for name, split, shared in (
        ("train", args.train, args.train_shared), ("val", args.val, args.val_shared),
    ):  # fmt: skip
        count = cut(args.voc, split, args.classes.split(","), args.output / name, shared)
        print(f"{name}: {count} crops of {split}")


if __name__ == "__main__":
    main()
