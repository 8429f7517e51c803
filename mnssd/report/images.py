"""Crops of the images around detection errors, with the predicted and the ground-truth box drawn in."""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from ..data.image import read_image
from ..errors import ImageError
from ..metrics.error_analysis import DetectionError, ErrorAnalysis, ErrorType
from .plots import data_url

_EXAMPLES = 12  # shown of each type of error
_SIDE = 320  # pixels of the longer side of an example image
_MARGIN = 0.6  # around the boxes, as a fraction of their longer side
_MIN_MARGIN = 24  # pixels
_PREDICTED, _TRUTH = (235, 60, 40), (30, 190, 90)  # RGB; drawn solid and dashed, so color is not needed

TITLES: Dict[ErrorType, Tuple[str, str]] = {
    ErrorType.BACKGROUND: (
        "False positives on background",
        "No labeled object overlaps the detection. Check the labels first: the object may be unlabeled.",
    ),
    ErrorType.CLASS: (
        "Wrong class",
        "The box fits an object of another class. The object may also have a correct detection.",
    ),
    ErrorType.LOCATION: ("Poor localization", "Correct class, but the IoU with the object is below 0.5."),
    ErrorType.CLASS_AND_LOCATION: (
        "Wrong class and poor localization",
        "The IoU with an object of another class is below 0.5.",
    ),
    ErrorType.DUPLICATE: (
        "Duplicate detections",
        "A second detection of the same object, or one box around several objects.",
    ),
    ErrorType.MISSED: ("Missed objects", "Objects without a detection above the score threshold."),
}
"""Type of error, in the order shown, to its heading and explanation."""


class ExampleImage(NamedTuple):
    """One error: its image as a JPEG data URL, the size in pixels, and a caption."""

    url: str
    width: int
    height: int
    text: str


class ErrorGroup(NamedTuple):
    """All errors of one type: their number and example images of the worst ones."""

    type: ErrorType
    title: str
    hint: str
    total: int
    examples: List[ExampleImage]


def draw_errors(errors: ErrorAnalysis, classes: Sequence[str]) -> List[ErrorGroup]:
    """Draw the worst errors of each type."""
    groups = []
    for error_type, (title, hint) in TITLES.items():
        of_type = errors.errors[error_type]
        examples = []
        for error in of_type[:_EXAMPLES]:
            try:
                examples.append(draw_error(error, classes))
            except ImageError:  # deleted since the evaluation
                continue
        groups.append(ErrorGroup(error_type, title, hint, len(of_type), examples))
    return groups


def draw_error(error: DetectionError, classes: Sequence[str]) -> ExampleImage:
    """Draw the crop of one error."""
    sample = error.sample
    boxes = [] if error.type is ErrorType.MISSED else [(error.box, False)]
    if error.truth >= 0:
        boxes.append((sample.boxes[error.truth], True))
    crop = draw_crop(sample.image_path, boxes)
    size = (crop.shape[1], crop.shape[0])
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return ExampleImage(data_url("image/jpeg", jpeg.tobytes()), *size, _caption(error, classes))


def draw_crop(image_path: str, boxes: Sequence[Tuple[np.ndarray, bool]]) -> np.ndarray:
    """The part of an image around boxes, as ``(h, w, 3)`` RGB uint8, with the boxes drawn in.

    `boxes` are ``(4,)``, as in `Sample`, and whether they are a label, which is dashed and green; those of a
    detector are solid and red. Raises ImageError if the image cannot be read.
    """
    image = read_image(image_path)
    corners = np.array([box for box, _ in boxes])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0) + 1
    margin = max(_MIN_MARGIN, _MARGIN * float((high - low).max()))
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = np.minimum(high + margin, [image.shape[1], image.shape[0]]).astype(int)
    crop = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = _SIDE / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for box, is_label in boxes:
        scaled = (np.asarray(box) - [left, top, left, top] + [0, 0, 1, 1]) * scale
        _draw_rectangle(crop, scaled, _TRUTH if is_label else _PREDICTED, dashed=is_label)
    return crop


def _caption(error: DetectionError, classes: Sequence[str]) -> str:
    """Predicted class and score, true class or IoU, image."""
    predicted, image = classes[error.label], error.sample.image_id
    if error.type is ErrorType.MISSED:
        return f"missed {predicted}, {image}"
    text = f"{predicted} {error.score:.2f}"
    if error.type in (ErrorType.CLASS, ErrorType.CLASS_AND_LOCATION):
        return f"{text}, labeled {classes[int(error.sample.labels[error.truth])]}, {image}"
    iou = "" if math.isnan(error.iou) or not error.iou else f", IoU {error.iou:.2f}"
    return f"{text}{iou}, {image}"


def _draw_rectangle(image: np.ndarray, box: np.ndarray, color: Tuple[int, int, int], dashed: bool) -> None:
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
