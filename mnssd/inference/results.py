"""What a `Detector` gives back: detections that know their image, their names, and their formats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..boxes import iou as box_iou
from ..data.annotations.voc_xml import annotation_text
from ..data.sample import Detections

Size = Tuple[int, int]


class Detection(NamedTuple):
    """One detection: class name, score 0 to 1, and xmin, ymin, xmax, ymax as in `DetectionResult.boxes`."""

    name: str
    score: float
    box: Tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class DetectionResult(Detections):
    """What a detector found in one image, best score first; going over it gives each `Detection`.

    Attributes
    ----------
    boxes, labels, scores : numpy.ndarray
        As in `Detections`: boxes ``(N, 4)`` xmin, ymin, xmax, ymax in pixels of the image, from 0.
    classes : tuple of str
        All that the detector knows; a label is an index into them.
    size : (int, int)
        ``(width, height)`` of the image.
    """

    classes: Tuple[str, ...]
    size: Size

    def __len__(self) -> int:
        return len(self.labels)

    def __bool__(self) -> bool:
        return len(self.labels) > 0

    def __iter__(self) -> Iterator[Detection]:
        for name, score, box in zip(self.names, self.scores, self.boxes):
            yield Detection(name, float(score), (float(box[0]), float(box[1]), float(box[2]), float(box[3])))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {score:.2f}" for name, score, _ in self)
        return f"{len(self)} found" + (f": {shown}" if shown else "")

    @property
    def names(self) -> List[str]:
        """The class of each."""
        return [self.classes[label] for label in self.labels]

    def to_dict(self) -> Dict[str, Any]:
        """``{"width", "height", "detections": [{"class", "score", "box": [xmin, ymin, xmax, ymax]}]}``."""
        detections = [
            {"class": name, "score": round(score, 6), "box": [round(edge, 3) for edge in box]}
            for name, score, box in self
        ]
        return {"width": self.size[0], "height": self.size[1], "detections": detections}

    def to_coco(self, image_id: Any, categories: Optional[Mapping[str, int]] = None) -> List[Dict[str, Any]]:
        """Rows of a COCO results file.

        Parameters
        ----------
        image_id : int or str
            The image's in the COCO file.
        categories : mapping of str to int, optional
            Ids of the classes there; by default 1 for the first class, and so on.

        Returns
        -------
        list of dict
            ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``. A box of the columns 3
            to 7 is 5 pixels wide.
        """
        ids = categories or {name: index + 1 for index, name in enumerate(self.classes)}
        return [
            {
                "image_id": image_id,
                "category_id": ids[name],
                "bbox": coco_box(box),
                "score": round(score, 6),
            }
            for name, score, box in self
        ]

    def to_voc(self, file_name: str) -> str:
        """An annotation in Pascal VOC's XML, to be corrected by hand: whole pixels, counted from 1."""
        return annotation_text(file_name, self.size, self.names, np.rint(self.boxes))

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A copy of the image's pixels, ``(height, width, 3)`` RGB uint8, with the labelled boxes."""
        from .draw import draw

        return draw(image, self, self.classes)


def coco_box(box: Sequence[float]) -> List[float]:
    """xmin, ymin, xmax, ymax as x, y, width, height: the columns 3 to 7 are 5 pixels wide."""
    left, top, right, bottom = (round(edge, 3) for edge in box)
    return [left, top, round(right - left + 1, 3), round(bottom - top + 1, 3)]


def select(
    found: DetectionResult, wanted: Optional[Sequence[str]], iou: Optional[float], most: int
) -> DetectionResult:
    """Those of the `wanted` classes, with fewer overlaps, and at most so many; see `Detector.__call__`."""
    rows = np.arange(len(found))
    if wanted is not None:
        rows = rows[[name in wanted for name in found.names]]
    if iou is not None:
        kept: List[int] = []
        for row in rows:
            rivals = found.boxes[[k for k in kept if found.labels[k] == found.labels[row]]]
            if (box_iou(found.boxes[row], rivals) <= iou).all():
                kept.append(int(row))
        rows = np.array(kept, int)
    rows = rows[:most] if most >= 0 else rows
    return replace(found, boxes=found.boxes[rows], labels=found.labels[rows], scores=found.scores[rows])
