"""Detections as files that CVAT and Label Studio import, to be corrected by hand.

Videos, cameras and streams are left out: their frames are not files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from ..files import NAME_ERRORS, atomic_write, write_text
from .output import image_root, name_below, read_lines
from .results import coco_box

FROM_NAME, TO_NAME = "label", "image"
"""Names of the tags in Label Studio's labeling configuration, those of its template for object detection."""


def write_cvat(path: str, lines: str, classes: Sequence[str]) -> None:
    """Write "CVAT for images 1.1" (XML) from a file by `output.JsonLines`.

    CVAT finds the images of a task by their names, which are relative to the folder of `path` if all images
    are below it; see `output.image_root`. Coordinates are continuous, so columns 3 to 7 end at 8.
    """
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:

        def put(line: str) -> None:
            file.write((line + "\n").encode("utf-8", NAME_ERRORS))

        put('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>')
        labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in classes)
        put(f"  <meta><task><labels>{labels}</labels></task></meta>")
        for number, (name, entry) in enumerate(_images(path, lines)):
            size = f'width="{entry["width"]}" height="{entry["height"]}"'
            put(f'  <image id="{number}" name={quoteattr(name)} {size}>')
            for detection in entry["detections"]:
                left, top, width, height = coco_box(detection["box"])
                corners = f'xtl="{left}" ytl="{top}" xbr="{left + width:.10g}" ybr="{top + height:.10g}"'
                label = f"label={quoteattr(detection['class'])}"
                put(f'    <box {label} source="auto" occluded="0" {corners} z_order="0"></box>')
            put("  </image>")
        put("</annotations>")


def write_label_studio(path: str, lines: str, classes: Sequence[str]) -> None:
    """Write tasks with predictions for Label Studio (JSON) from a file by `output.JsonLines`.

    The labeling configuration is written beside it, with the ending ``.xml``. The images are addressed as
    files of Label Studio's local storage, relative to the folder of `output.image_root`, which its variable
    ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`` has to name. Coordinates are percentages.
    """
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write("[")
        for number, (name, entry) in enumerate(_images(path, lines)):
            file.write(("," if number else "") + "\n" + json.dumps(_task(name, entry), allow_nan=False))
        file.write("\n]\n")
    configuration = [
        "<View>",
        f'  <Image name="{TO_NAME}" value="$image"/>',
        f'  <RectangleLabels name="{FROM_NAME}" toName="{TO_NAME}">',
        *(f"    <Label value={quoteattr(name)}/>" for name in classes),
        "  </RectangleLabels>",
        "</View>",
    ]
    write_text(configuration_path(path), "".join(line + "\n" for line in configuration))


def configuration_path(path: str) -> str:
    """The labeling configuration beside the tasks in `path`."""
    return os.path.splitext(path)[0] + ".xml"


def _images(path: str, lines: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Name and entry of each image file."""
    root = image_root(path, lines)
    for entry in read_lines(lines):
        if "frame" not in entry and os.path.lexists(entry["image"]):
            yield name_below(root, entry["image"]), entry


def _task(name: str, entry: Dict[str, Any]) -> Dict[str, Any]:
    """A task of Label Studio with one prediction."""
    address = "/data/local-files/?d=" + quote(name.encode("utf-8", NAME_ERRORS))
    regions = [_region(number, detection, entry) for number, detection in enumerate(entry["detections"])]
    scores: List[float] = [detection["score"] for detection in entry["detections"]]
    prediction = {
        "model_version": "mnssd",
        **({"score": round(sum(scores) / len(scores), 6)} if scores else {}),
        "result": regions,
    }
    return {"data": {TO_NAME: address}, "predictions": [prediction]}


def _region(number: int, detection: Dict[str, Any], entry: Dict[str, Any]) -> Dict[str, Any]:
    left, top, width, height = coco_box(detection["box"])
    value = {
        "x": 100 * left / entry["width"], "y": 100 * top / entry["height"],
        "width": 100 * width / entry["width"], "height": 100 * height / entry["height"], "rotation": 0,
        "rectanglelabels": [detection["class"]],
    }  # fmt: skip
    return {
        "id": str(number), "type": "rectanglelabels", "from_name": FROM_NAME, "to_name": TO_NAME,
        "original_width": entry["width"], "original_height": entry["height"], "image_rotation": 0,
        "value": value, "score": detection["score"],
    }  # fmt: skip
