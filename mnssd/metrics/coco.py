"""Average precision and recall as COCO measures them, computed by pycocotools.

What has to be decided on the way there:

- A box of this package covers its last pixel: the columns 3 to 7 have xmin 3 and xmax 7. COCO's boxes
  are ``x, y, width, height``, so width is ``xmax - xmin + 1``. That box becomes x 3, width 5.
- ``Sample.difficult`` becomes ``iscrowd``: such an object is no positive, and detections lying on it
  count neither way. A detection's overlap with it is measured against the detection's own area.
- The area by which an object is small, medium or large is that of its box. COCO's own files state the area
  of the outline, which a `Sample` does not hold: those six figures may differ from published ones.
"""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from ..data.sample import Detections, Sample
from ..errors import DataError, OptionError

# The figures of COCOeval.summarize, in its order.
FIGURES = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_1",
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


@dataclass(frozen=True)
class COCOResult:
    """What the metric found.

    Attributes
    ----------
    classes : tuple of str
        Class names, in the order of the labels.
    figures : dict
        Each of `FIGURES` in 0..1, NaN where no object counts for it; and ``recall_any_class``, AR_100 when
        detections may match objects of every class.
    ap_per_class : dict
        Name to AP in 0..1, over IoU .50 to .95; NaN for a class without objects that count.
    images : int
        Images seen.
    """

    classes: Tuple[str, ...]
    figures: Dict[str, float]
    ap_per_class: Dict[str, float]
    images: int

    def as_dict(self) -> Dict[str, Any]:
        """The figures as plain values for JSON, NaN as None."""
        return {
            "metric": "coco",
            **{name: _none_for_nan(value) for name, value in self.figures.items()},
            "ap_per_class": {name: _none_for_nan(ap) for name, ap in self.ap_per_class.items()},
            "images": self.images,
            "classes": list(self.classes),
        }


class COCOMetric:
    """Collects detections and ground truth image by image, then has pycocotools measure them.

    Parameters
    ----------
    classes : sequence of str
        Class names; labels of detections and samples are indices into it.

    Raises
    ------
    OptionError
        For no or repeated class names.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes or len(set(classes)) < len(classes):
            raise OptionError(f"the metric needs class names, each one once, not {list(classes)}")
        self.classes = tuple(classes)
        self._image_ids: Dict[str, int] = {}
        self._objects: List[Dict[str, Any]] = []
        self._found: List[Dict[str, Any]] = []

    def add(self, detections: Detections, sample: Sample) -> None:
        """Add one image: what was found in it, and what is there. Once for each image.

        Raises
        ------
        DataError
            Naming the image: seen before, arrays that do not fit each other, a label out of range, or a
            score or box that is not finite.
        """
        if sample.image_id in self._image_ids:
            raise DataError(f"image {sample.image_id!r} was measured twice; each image counts once")
        image = len(self._image_ids) + 1
        objects = self._rows(image, sample.image_id, sample.boxes, sample.labels, "iscrowd", sample.difficult)
        found = self._rows(
            image, sample.image_id, detections.boxes, detections.labels, "score", detections.scores
        )
        self._image_ids[sample.image_id] = image
        self._objects += objects
        self._found += found

    def result(self) -> COCOResult:
        """The figures of everything added so far. More may be added afterwards."""
        measured = self._measure(by_class=True)
        figures = {name: _nan_for_absent(value) for name, value in zip(FIGURES, measured.stats)}
        any_class = self._measure(by_class=False).stats[FIGURES.index("AR_100")]
        figures["recall_any_class"] = _nan_for_absent(any_class)
        # (overlap, recall, class, area, detections an image): all areas, 100 detections.
        precision = measured.eval["precision"][:, :, :, 0, 2]
        aps = {}
        for label, name in enumerate(self.classes):
            points = precision[:, :, label]
            points = points[points > -1]
            aps[name] = float(points.mean()) if points.size else math.nan
        return COCOResult(self.classes, figures, aps, len(self._image_ids))

    def _rows(
        self,
        image: int,
        image_id: str,
        boxes: np.ndarray,
        labels: np.ndarray,
        column: str,
        values: np.ndarray,
    ) -> List[Dict[str, Any]]:
        """COCO's annotations of one image, without ids; `column` is 'score' or 'iscrowd'."""
        whose = f"the {'detections' if column == 'score' else 'ground truth'} of image {image_id!r}"
        boxes = np.asarray(boxes, np.float64)
        boxes = boxes if boxes.size else boxes.reshape(0, 4)
        values = np.asarray(values, np.float64)
        if boxes.shape != (len(labels), 4) or values.shape != (len(labels),):
            raise DataError(f"{whose}: {len(labels)} labels, boxes {boxes.shape}, {column} {values.shape}")
        if not (np.isfinite(boxes).all() and np.isfinite(values).all()):
            raise DataError(f"{whose} hold a number that is not finite")
        rows = []
        for (xmin, ymin, xmax, ymax), label, value in zip(boxes.tolist(), labels, values.tolist()):
            if not 0 <= label < len(self.classes):
                raise DataError(f"{whose} hold the label {label}, but there are {len(self.classes)} classes")
            width, height = xmax - xmin + 1, ymax - ymin + 1
            row = {"image_id": image, "category_id": int(label) + 1, "bbox": [xmin, ymin, width, height]}
            row.update({"area": width * height, "iscrowd": 0})
            row[column] = value if column == "score" else int(value != 0)
            rows.append(row)
        return rows

    def _measure(self, by_class: bool) -> Any:
        from pycocotools.cocoeval import COCOeval

        # pycocotools reports progress with print.
        with contextlib.redirect_stdout(io.StringIO()):
            measuring = COCOeval(self._coco(self._objects), self._coco(self._found), "bbox")
            measuring.params.useCats = int(by_class)
            measuring.evaluate()
            measuring.accumulate()
            measuring.summarize()
        return measuring

    def _coco(self, rows: List[Dict[str, Any]]) -> Any:
        """A COCO object of these rows. Its own loadRes cannot read an empty list."""
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in self._image_ids.values()],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(self.classes)],
            # Ids begin at 1: COCOeval takes the id 0 for "no match". It writes into the rows it is given.
            "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
        }
        coco.createIndex()
        return coco


def _nan_for_absent(value: float) -> float:
    return math.nan if value < 0 else float(value)


def _none_for_nan(value: float) -> Any:
    return None if math.isnan(value) else value
