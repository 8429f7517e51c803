"""VOC XML files and images in any folders, and what is read from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Sequence

import cv2
import numpy as np

from mnssd.data.dataset import Dataset
from mnssd.data.formats import Format, formats
from mnssd.errors import DataError

from .voc import CAT, annotation_xml, box_xml

VOC = formats["voc"]
HAT = box_xml("hat", 3, 4, 20, 25)
CAT_BOX = [1, 2, 19, 24]


def write(root: Path, *files: str, text: Any = None, size: Sequence[int] = (40, 30)) -> None:
    """Write images, and for names with .xml the annotation `text` (by default a cat)."""
    text = annotation_xml(CAT) if text is None else text
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".xml":
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        else:
            _, data = cv2.imencode(".png", np.zeros((size[1], size[0], 3), np.uint8))
            path.write_bytes(data.tobytes())


def images(dataset: Dataset, root: Path) -> List[str]:
    return sorted(os.path.relpath(sample.image_path, root) for sample in dataset)


def boxes_of(dataset: Dataset) -> Dict[str, List[List[float]]]:
    return {sample.image_id: sample.boxes.tolist() for sample in dataset}


def read_or_refuse(dataset_format: Format, root: Path) -> str:
    """Whether all lists are read; an error must name the folder."""
    try:
        for split in dataset_format.lists(root):
            dataset = dataset_format.read(root, split)
            assert all(np.isfinite(sample.boxes).all() for sample in dataset)
    except DataError as error:
        return "refused" if str(root) in str(error) else str(error)[:200]
    return "read"
