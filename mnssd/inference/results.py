"""Results of a `Detector`: detections with class names, and their conversion to other formats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..boxes import iou as box_iou
from ..data.annotations.voc_xml import annotation_text
from ..data.sample import Detections
from ..errors import ImageError
from ..options import Size

if TYPE_CHECKING:
    from .images import ImageLike


class Detection(NamedTuple):
    """Class name, score from 0 to 1, and xmin, ymin, xmax, ymax as in `DetectionResult.boxes`."""

    name: str
    score: float
    box: Tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class DetectionResult(Detections):
    """Detections in one image, best score first. Iterating yields each `Detection`.

    Attributes
    ----------
    boxes, labels, scores : numpy.ndarray
        See `Detections`: boxes ``(N, 4)`` xmin, ymin, xmax, ymax in pixels of the image, counted from 0.
    classes : tuple of str
        All classes of the detector; a label is an index into them.
    size : (int, int)
        ``(width, height)`` of the image.

    Examples
    --------
    >>> result = detector("photo.jpg")             # doctest: +SKIP
    >>> result                                     # doctest: +SKIP
    2 detections: star 0.98, ring 0.71
    >>> result.draw(image)                         # doctest: +SKIP
    """

    classes: Tuple[str, ...]
    size: Size

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Detection]:
        for name, score, box in zip(self.names, self.scores.tolist(), self.boxes.tolist()):
            left, top, right, bottom = box
            yield Detection(name, score, (left, top, right, bottom))

    def __repr__(self) -> str:
        listed = ", ".join(f"{name} {score:.2f}" for name, score, _ in self)
        count = f"{len(self)} detection{'' if len(self) == 1 else 's'}"
        return f"{count}: {listed}" if listed else count

    @property
    def names(self) -> List[str]:
        """Class name of each detection."""
        return [self.classes[label] for label in self.labels]

    def to_dict(self) -> Dict[str, Any]:
        """``{"width", "height", "detections": [{"class", "score", "box": [xmin, ymin, xmax, ymax]}]}``."""
        detections = [
            {"class": name, "score": round(score, 6), "box": [round(edge, 3) for edge in box]}
            for name, score, box in self
        ]
        return {"width": self.size[0], "height": self.size[1], "detections": detections}

    def to_coco(self, image_id: Any, categories: Optional[Mapping[str, int]] = None) -> List[Dict[str, Any]]:
        """Entries of a COCO results file.

        Parameters
        ----------
        image_id : int or str
            Id of the image in the COCO file.
        categories : mapping of str to int, optional
            Ids of the classes in the COCO file. Defaults to 1 for the first class, and so on.

        Returns
        -------
        list of dict
            ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``; see `coco_box`.
        """
        ids = categories or {name: index for index, name in enumerate(self.classes, 1)}
        return [
            {
                "image_id": image_id, "category_id": ids[name],
                "bbox": coco_box(box), "score": round(score, 6),
            }
            for name, score, box in self
        ]  # fmt: skip

    def to_voc(self, file_name: str) -> str:
        """Pascal VOC annotation (XML) as a start for manual labeling: whole pixels, counted from 1."""
        return annotation_text(file_name, self.size, self.names, _whole_pixels(self.boxes, self.size))

    def draw(self, image: ImageLike) -> np.ndarray:
        """A copy of the image as ``(height, width, 3)`` RGB uint8, with labeled boxes.

        Takes the image in the same forms as the detector. Raises ImageError if it has another size.
        """
        from .images import image_pixels

        pixels = image_pixels(image)
        size = (pixels.shape[1], pixels.shape[0])
        if size != tuple(self.size):
            raise ImageError(
                f"cannot draw on an image of {size[0]}x{size[1]} pixels: the detections are of one of"
                f" {self.size[0]}x{self.size[1]}"
            )
        return self._draw(pixels)

    def _draw(self, pixels: np.ndarray) -> np.ndarray:
        from .draw import draw

        return draw(pixels, self, self.classes)


def _whole_pixels(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Rounded boxes, at least two pixels wide and high: VOC's readers drop others as without area."""
    rounded = np.rint(boxes)
    for axis in range(2):
        start, end = rounded[:, axis], rounded[:, axis + 2]  # views
        end[:] = np.where(end > start, end, np.minimum(start + 1, size[axis] - 1))
        start[:] = np.where(end > start, start, np.maximum(end - 1, 0))
    return rounded


def coco_box(box: Sequence[float]) -> List[float]:
    """x, y, width, height of a box xmin, ymin, xmax, ymax; a box of columns 3 to 7 is 5 pixels wide."""
    left, top, right, bottom = (round(edge, 3) for edge in box)
    return [left, top, round(right - left + 1, 3), round(bottom - top + 1, 3)]


ACROSS_IOU = 0.45
"""IoU threshold of suppression across classes: that within a class of the SSD paper."""


def select(
    result: DetectionResult,
    classes: Optional[Sequence[str]],
    iou: Optional[float],
    max_detections: int,
    across_classes: bool = False,
) -> DetectionResult:
    """The result with some detections dropped; arguments as of `Detector.__call__`."""
    rows = np.arange(len(result))
    if classes is not None:
        rows = rows[[name in classes for name in result.names]]
    if iou is not None or across_classes:
        limit = ACROSS_IOU if iou is None else iou
        kept: List[int] = []
        for row in rows:
            rivals = [k for k in kept if across_classes or result.labels[k] == result.labels[row]]
            if (box_iou(result.boxes[row], result.boxes[rivals]) <= limit).all():
                kept.append(int(row))
        rows = np.array(kept, int)
    rows = rows[:max_detections] if max_detections >= 0 else rows
    boxes, labels, scores = result.boxes[rows], result.labels[rows], result.scores[rows]
    return replace(result, boxes=boxes, labels=labels, scores=scores)
