"""Mistakes as images: the part of the image around them, with the answer and the truth drawn in."""

from __future__ import annotations

import base64
import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from ..data.image import read_image
from ..errors import ImageError
from ..metrics.error_analysis import ErrorType, Verdict

SHOWN = 12
"""Images of each kind of mistake."""

SIDE = 320
"""Pixels of an image's longer side."""

AROUND = 0.6
"""What is shown around a box, as a share of its longer side; at least `_LEAST` pixels."""

_LEAST = 24
_ANSWER, _TRUTH = (235, 60, 40), (30, 190, 90)  # RGB; told apart by their lines, too: solid and dashed

TITLES: Dict[str, Tuple[str, str]] = {
    "nothing": (
        "Something where nothing is",
        "Labels may be missing there: look before you blame the detector.",
    ),
    "class": (
        "Taken for another class",
        "The box is right, the class is not. Some of these objects are found rightly, too.",
    ),
    "box": ("Boxes that fit badly", "The right class, an overlap below 0.5 with the object."),
    "both": ("Another class, and a box that fits badly", "An overlap below 0.5 with something else."),
    "twice": ("DetectionResult twice", "A second detection of one object, or one box for several."),
    "missed": ("Missed", "Objects without any detection from the scores above on; the largest first."),
}


class Picture(NamedTuple):
    """One mistake: its image as a JPEG data URL with its size, and what there is to say."""

    url: str
    width: int
    height: int
    text: str


class Group(NamedTuple):
    """The mistakes of one kind: how many, and the first of them."""

    kind: str
    title: str
    hint: str
    total: int
    pictures: List[Picture]


def draw_mistakes(verdict: Verdict, classes: Sequence[str]) -> List[Group]:
    """The worst of each kind."""
    groups = []
    for kind, (title, hint) in TITLES.items():
        some = verdict.mistakes[kind]
        pictures = []
        for mistake in some[:SHOWN]:
            try:
                pictures.append(draw_mistake(mistake, classes))
            except ImageError:  # it was read a moment ago
                continue
        groups.append(Group(kind, title, hint, len(some), pictures))
    return groups


def draw_mistake(mistake: ErrorType, classes: Sequence[str]) -> Picture:
    """Draw one."""
    sample = mistake.sample
    image = read_image(sample.image_path)
    boxes = [] if mistake.kind == "missed" else [(mistake.box, False)]
    if mistake.truth >= 0:
        boxes.append((sample.boxes[mistake.truth], True))
    corners = np.array([box for box, _ in boxes])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0) + 1
    margin = max(_LEAST, AROUND * float((high - low).max()))
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = np.minimum(high + margin, [image.shape[1], image.shape[0]]).astype(int)
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = SIDE / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for box, is_truth in boxes:
        placed = (np.asarray(box) - [left, top, left, top] + [0, 0, 1, 1]) * scale
        _rectangle(part, placed, _TRUTH if is_truth else _ANSWER, dashed=is_truth)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    url = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
    return Picture(url, size[0], size[1], in_words(mistake, classes))


def in_words(mistake: ErrorType, classes: Sequence[str]) -> str:
    """One line: what was answered, with its score; what there is; in which image."""
    answer, image = classes[mistake.label], mistake.sample.image_id
    if mistake.kind == "missed":
        return f"{answer} not found, {image}"
    said = f"{answer} {mistake.score:.2f}"
    if mistake.kind in ("class", "both"):
        return f"{said}, but it is {classes[int(mistake.sample.labels[mistake.truth])]}, {image}"
    overlap = "" if math.isnan(mistake.overlap) or not mistake.overlap else f", overlap {mistake.overlap:.2f}"
    return f"{said}{overlap}, {image}"


def _rectangle(image: np.ndarray, box: np.ndarray, color: Tuple[int, int, int], dashed: bool) -> None:
    left, top, right, bottom = (round(float(value)) for value in box)
    right, bottom = min(right, image.shape[1]) - 1, min(bottom, image.shape[0]) - 1
    left, top = max(left, 0), max(top, 0)
    for ink, width in (((255, 255, 255), 4), (color, 2)):
        if not dashed:
            cv2.rectangle(image, (left, top), (right, bottom), ink, width)
            continue
        for start in range(left, right, 16):
            for y in (top, bottom):
                cv2.line(image, (start, y), (min(start + 8, right), y), ink, width)
        for start in range(top, bottom, 16):
            for x in (left, right):
                cv2.line(image, (x, start), (x, min(start + 8, bottom)), ink, width)
