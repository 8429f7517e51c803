"""Names of files that are hard to write down, and datasets of images with such names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Dict, Sequence, Set

import cv2
import numpy as np

from mnssd.data.annotations.voc_xml import write_annotation
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.data.sample import Sample

NAMES = [
    b"caf\xe9", b"\xff\xfe", b"\xed\xb3\xa9", "é".encode(), "e\u0301x".encode(), b"a\nb", b"a\rb", b"a\tb",
    b'q"q', b"q'q", b"-dash", b" lead", b"trail ", b"two  spaces", b"100%", b"%41", b"caf%E9", b"x#y", b"#z",
    b"a&b", b"<b>", "\U0001f600".encode(), "r\u202etl".encode(), b"b" * 251, b"\\", b"a\\b", b"\xc2\x85n",
    "\u2028u".encode(), b"\x1b[31m", b"\x7f", b"a;b", b"a,b", b"[a]", b"*", b"a 1", b"train", b"a.jpg",
]  # fmt: skip
"""Names without ending. With ``.jpg`` the longest has 255 bytes."""

SIZE = (16, 12)


def write_image(path: Path, number: int) -> Path:
    """A small PNG that is gray of the level `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((*SIZE[::-1], 3), number, np.uint8))[1].tobytes())
    return path


def make_dataset(folder: Path, stems: Sequence[str]) -> Dataset:
    """Images with these names; the box of each image differs, so that a mix-up is noticed."""
    samples = []
    for number, stem in enumerate(stems):
        path = write_image(folder / f"{stem}.png", number)
        box = np.array([[1 + number % 8, 1 + number // 8, 14, 10]], np.float64)
        samples.append(Sample(stem, str(path), box, np.array([0]), np.array([False]), SIZE))
    return Dataset("names", ("cat",), samples)


def image_names(dataset: Dataset) -> Set[str]:
    """Names of the image files of a dataset."""
    return {os.path.basename(sample.image_path) for sample in dataset}


def make_voc(root: Path, shapes: str, stems: Dict[str, Sequence[str]], damaged: str) -> Path:
    """A VOC folder of images of the built-in dataset under other names, by list, with one damaged image."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, names in stems.items():
        source = open_dataset("voc", shapes, split)
        for stem, sample in zip(names, source):
            shutil.copyfile(sample.image_path, root / "JPEGImages" / f"{stem}.jpg")
            classes = [source.classes[label] for label in sample.labels]
            path = root / "Annotations" / f"{stem}.xml"
            write_annotation(path, f"{stem}.jpg", sample.size, classes, sample.boxes)
        lines = b"".join(os.fsencode(stem) + b"\n" for stem in names)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_bytes(lines)
    (root / "JPEGImages" / f"{damaged}.jpg").write_bytes(b"\xff\xd8\xff no image")
    return root
