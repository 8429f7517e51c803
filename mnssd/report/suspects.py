"""Drawings of labels that look wrong, one image each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from ..files import fit_name, write_bytes
from ..metrics.label_suspects import LabelFault
from .images import draw_crop

if TYPE_CHECKING:
    from ..tasks.check_labels import LabelCheck


def draw_suspects(check: LabelCheck, folder: Path) -> int:
    """Draw the suspects of a check into a folder, which is made; returns their number.

    Files are named ``NUMBER-FAULT-IMAGE.jpg``, in the order of the suspects. The label is green and dashed,
    the box of the detector is red.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(check.suspects)))
    for number, suspect in enumerate(check.suspects, 1):
        boxes = [(suspect.sample.boxes[suspect.row], True)] if suspect.row >= 0 else []
        if suspect.fault is not LabelFault.SPURIOUS:
            boxes.append((suspect.box, False))
        crop = cv2.cvtColor(draw_crop(suspect.sample.image_path, boxes), cv2.COLOR_RGB2BGR)
        name = Path(suspect.sample.image_path).stem
        stem = f"{number:0{digits}d}-{suspect.fault.value}-{name}"
        _, jpeg = cv2.imencode(".jpg", crop)
        write_bytes(folder / fit_name(stem, ".jpg"), jpeg.tobytes())
    return len(check.suspects)
