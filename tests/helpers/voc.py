"""Small folders in VOC layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import cv2
import numpy as np

from mnssd.data.formats.voc import read_voc_folder
from mnssd.data.sample import Sample

SIX = ("cat", "cow", "dog", "horse", "sheep", "person")
SIZE = (40, 30)


def box_xml(name: Optional[str], *corners: Any, extra: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners)
    named = "" if name is None else f"<name>{name}</name>"
    return f"<object>{named}{extra}<bndbox>{''.join(f'<{t}>{c}</{t}>' for t, c in tags)}</bndbox></object>"


def annotation_xml(*objects: str, size: str = "<size><width>40</width><height>30</height></size>") -> str:
    return f"<annotation><filename>../../etc/passwd</filename>{size}{''.join(objects)}</annotation>"


CAT = box_xml("cat", 2, 3, 20, 25)


def make_folder(
    folder: Path, annotations: Dict[str, Optional[str]], split: str = "train", ending: str = ".jpg"
) -> Path:
    """A folder in VOC layout with images of 40 x 30 pixels; an annotation that is None is not written."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _, pixels = cv2.imencode(ending, np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    for image_id, text in annotations.items():
        (folder / "JPEGImages" / f"{image_id}{ending}").write_bytes(pixels.tobytes())
        if text is not None:
            (folder / "Annotations" / f"{image_id}.xml").write_text(text, encoding="utf-8")
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(
        "\n".join(annotations) + "\n", encoding="utf-8"
    )
    return folder


def read_one(tmp_path: Path, *objects: str, **options: Any) -> Tuple[Sample, List[str]]:
    folder = make_folder(tmp_path / "set", {"a": annotation_xml(*objects, **options)})
    dataset = read_voc_folder(folder, "train", ["cat", "dog"], allow_absent=True)
    return dataset[0], [note for note in dataset.notes if "Classes without" not in note]
