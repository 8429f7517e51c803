"""Small datasets with chosen sizes, boxes and EXIF orientations; checking and fixing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple

import numpy as np
from PIL import Image

from mnssd.data.annotations.voc_xml import write_annotation
from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.findings import ERROR
from mnssd.data.open import read_lists, recognize
from mnssd.validation.check import CheckResult, check_dataset
from mnssd.validation.fix import fix_dataset

ANCHORS = np.array([[50, 50, 30, 30]], np.float32)
WIDTH, HEIGHT = 120, 80

Box = Tuple[float, float, float, float]


def make_image(path: Path, size: Tuple[int, int] = (WIDTH, HEIGHT), exif: int = 1, seed: int = 0) -> Path:
    """Write an image of random colors with the stored `size` and an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    tags = Image.Exif()
    tags[0x0112] = exif
    Image.fromarray(pixels).save(path, exif=tags)
    return path


def make_voc(root: Path, *images: Tuple[Tuple[int, int], List[Box], int]) -> Path:
    """VOC folder; each image has an annotated size, boxes counted from 0, and an EXIF orientation."""
    ids = []
    for number, (size, boxes, exif) in enumerate(images):
        ids.append(f"{number:02}")
        make_image(root / "JPEGImages" / f"{ids[-1]}.jpg", exif=exif, seed=number)
        (root / "Annotations").mkdir(exist_ok=True)
        path = root / "Annotations" / f"{ids[-1]}.xml"
        write_annotation(path, f"{ids[-1]}.jpg", size, ["dog"] * len(boxes), boxes)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(ids))
    return root


def make_coco(root: Path, images: Sequence[List[List[float]]], name: str = "train", **more: Any) -> Path:
    """COCO file of a list whose images have the given ``bbox`` values."""
    entries, annotations = [], []
    for number, boxes in enumerate(images):
        make_image(root / "images" / name / f"{name}{number}.jpg", seed=number + sum(map(ord, name)))
        entries.append({"id": number, "file_name": f"{name}{number}.jpg", "width": WIDTH, "height": HEIGHT})
        for box in boxes:
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box})
    content = {
        "images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}], **more
    }  # fmt: skip
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return root


def check(root: Path) -> Tuple[Dict[str, Dataset], CheckResult]:
    dataset_format = recognize(root)[0]
    parts = read_lists(dataset_format, root)
    return parts, check_dataset(dataset_format, root, parts, next(iter(parts)), (96, 96), ANCHORS, workers=1)


def errors(result: CheckResult) -> Set[str]:
    return {finding.code for finding in result.findings if finding.level == ERROR}


def fix(root: Path) -> Tuple[Path, Dict[str, Dataset], CheckResult]:
    """The fixed copy, its lists and what is still wrong with it."""
    dataset_format = recognize(root)[0]
    parts, result = check(root)
    fixed, _ = fix_dataset(dataset_format, parts, result, next(iter(parts)))
    copy = root.with_name(f"{root.name}-fixed")
    convert(fixed, copy, dataset_format, False)
    return (copy, *check(copy))


def boxes_of(parts: Dict[str, Dataset], split: str = "train") -> List[List[List[float]]]:
    return [np.round(sample.boxes, 2).tolist() for sample in parts[split]]
