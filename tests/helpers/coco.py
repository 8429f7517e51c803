"""Small datasets in COCO's format: one image of 100x80 pixels or a few, and what is read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from helpers.detectors import write_image
from mnssd.data.dataset import Dataset
from mnssd.data.formats.coco import CocoFormat

COCO = CocoFormat()
WIDTH, HEIGHT = 100, 80
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
BOX = [10, 20, 30, 40]  # read as 10 20 39 59
Content = Dict[str, Any]


def image(number: Any, name: str = "", **more: Any) -> Content:
    return {"id": number, "file_name": name or f"{number}.png", "width": WIDTH, "height": HEIGHT, **more}


def annotation(number: Any, image_id: Any = 1, category: Any = 1, bbox: Any = BOX, **more: Any) -> Content:
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": bbox, "iscrowd": 0, **more}


def content_of(
    images: Sequence[Content], annotations: Sequence[Content], categories: Sequence[Content] = CATEGORIES
) -> Content:
    return {"images": list(images), "annotations": list(annotations), "categories": list(categories)}


def write_images(folder: Path, *names: str) -> None:
    for name in names or ("1.png",):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def read(folder: Path, content: Content, name: str = "all.json") -> Dataset:
    (folder / name).write_text(json.dumps(content))
    return COCO.read(folder, Path(name).stem, allow_absent=True)


def boxes(dataset: Dataset) -> List[List[float]]:
    return [[round(v, 3) for v in box] for sample in dataset for box in sample.boxes.tolist()]


def read_box(folder: Path, **changes: Any) -> Dataset:
    """The only box of an image, whose annotation has these changes; None removes a key."""
    write_images(folder)
    entry = {key: v for key, v in {**annotation(1), **changes}.items() if v is not None}
    return read(folder, content_of([image(1)], [entry]))
