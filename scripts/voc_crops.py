"""Cut single objects out of Pascal VOC photographs: a folder a class, for `train_cls.py --dataset folder`.

    python scripts/voc_crops.py VOCDEVKIT OUTPUT [--train 2012_train] [--val 2012_val] [--classes cat,dog,...]

Objects marked difficult or truncated beyond recognition by their size (a side under 32 pixels) are left
out. A crop shows a tenth of the object's sides around it. Nothing is enlarged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from mnssd.data.image import read_image
from mnssd.data.voc import read_voc
from mnssd.errors import ImageError

CLASSES = "cat,cow,dog,horse,person,sheep"
MARGIN, SMALLEST, QUALITY = 0.1, 32, 95


def cut(root: str, split: str, classes: str, folder: Path) -> int:
    """Write the crops of a split; returns how many."""
    dataset, written = read_voc(root, split, classes.split(",")), 0
    for name in dataset.classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for sample in dataset:
        try:
            image = read_image(sample.image_path)
        except ImageError as error:
            print(f"skipped: {error}")
            continue
        end = np.array([image.shape[1], image.shape[0]])
        for number, (box, label, hard) in enumerate(zip(sample.boxes, sample.labels, sample.difficult)):
            sides = box[2:] - box[:2] + 1
            if hard or sides.min() < SMALLEST:
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
    args = parser.parse_args()
    for name, split in (("train", args.train), ("val", args.val)):
        print(f"{name}: {cut(args.voc, split, args.classes, args.output / name)} crops of {split}")


if __name__ == "__main__":
    main()
