"""A small VOCdevkit of images whose objects are plain patches."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np

from mnssd.data.annotations.voc_xml import write_annotation

CLASSES = ("cat", "dog")

# Image id, (width, height), and boxes with their class: bright for a cat, gray for a dog.
# The second is large enough to be decoded at half its size; sizes are odd to catch rounding.
IMAGES = [
    ("one", (101, 75), [((20, 10, 49, 39), "cat")]),
    ("large", (403, 301), [((40, 30, 199, 149), "cat"), ((240, 160, 379, 289), "dog")]),
    ("tall", (60, 140), [((5, 60, 40, 119), "dog")]),
    ("empty", (80, 60), []),
    ("edge", (97, 65), [((60, 30, 96, 64), "cat")]),
]


def draw(path: Path, size: Tuple[int, int], objects: List) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for (xmin, ymin, xmax, ymax), name in objects:
        image[ymin : ymax + 1, xmin : xmax + 1] = 250 if name == "cat" else 128
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100])


def make_devkit(parent: Path) -> Path:
    """A VOCdevkit with the images as the list `val` of 2012, and `train` of its first image."""
    folder = parent / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, size, objects in IMAGES:
        draw(folder / "JPEGImages" / f"{name}.jpg", size, objects)
        boxes, names = [box for box, _ in objects], [class_name for _, class_name in objects]
        write_annotation(folder / "Annotations" / f"{name}.xml", f"{name}.jpg", size, names, boxes)
    lists = folder / "ImageSets" / "Main"
    (lists / "val.txt").write_text("".join(f"{name}\n" for name, _, _ in IMAGES))
    (lists / "train.txt").write_text(f"{IMAGES[0][0]}\n")
    return folder.parent
