"""Small YOLO datasets, file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from PIL import Image

BOX = "0 0.5 0.5 0.4 0.2"
CORNERS = [30, 40, 69, 59]
"""`BOX` in an image of 100x100."""


def image(path: Path, size: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (len(path.name), 99, 9)).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def dataset(root: Path, rows: Dict[str, str], yaml: str = "", names: str = "[cat, dog]") -> Path:
    """A dataset of a list ``train`` with the given rows for each image."""
    for name, row in rows.items():
        image(root / f"images/train/{name}.png", 1000)
        text(root / f"labels/train/{name}.txt", f"{row}\n")
    text(root / "data.yaml", f"train: images/train\nnames: {names}\n{yaml}")
    return root
