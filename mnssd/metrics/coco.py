"""COCO metrics of a detector, computed by pycocotools.

How samples and detections are converted:

- Boxes become ``x, y, width, height`` with ``width = xmax - xmin + 1``: columns 3 to 7 become x 3, width 5.
- ``Sample.difficult`` becomes ``iscrowd``: such an object is not a positive, and detections that match it are
  ignored. The IoU with it is relative to the detection's area.
- The area that makes an object small, medium or large is that of its box. COCO's annotations have the area of
  the mask, which a `Sample` lacks: the six metrics by area may differ from published ones.
"""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np

from ..data.sample import Detections, Sample
from ..errors import DataError
from .voc import checked_columns, distinct_names, none_if_nan

COCO_METRICS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""Metrics of ``COCOeval.summarize``, in its order."""


@dataclass(frozen=True)
class COCOResult:
    """COCO metrics of a detector.

    Attributes
    ----------
    classes : tuple of str
        In the order of the labels.
    metrics : dict of str to float
        Each of `COCO_METRICS`, 0 to 1, NaN without objects; and ``recall_any_class``, which is AR_100 if
        detections may match objects of any class.
    ap_per_class : dict of str to float
        AP, 0 to 1, averaged over IoU .50 to .95; NaN for a class without objects.
    images : int
        Number of evaluated images.
    """

    classes: Tuple[str, ...]
    metrics: Dict[str, float]
    ap_per_class: Dict[str, float]
    images: int

    def as_dict(self) -> Dict[str, Any]:
        """Plain values for JSON, with NaN as None."""
        return {
            "metric": "coco",
            **{name: none_if_nan(value) for name, value in self.metrics.items()},
            "ap_per_class": {name: none_if_nan(ap) for name, ap in self.ap_per_class.items()},
            "images": self.images,
            "classes": list(self.classes),
        }


class COCOMetric:
    """Accumulates detections and ground truth image by image, then evaluates them with pycocotools.

    Parameters
    ----------
    classes : sequence of str
        Labels of detections and samples are indices into it.

    Raises
    ------
    OptionError
        If there are no class names, or duplicate ones.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = distinct_names(classes)
        self._image_ids: Dict[str, int] = {}
        self._objects: List[Dict[str, Any]] = []
        self._detections: List[Dict[str, Any]] = []

    def add(self, detections: Detections, sample: Sample) -> None:
        """Add one image: its detections and its ground truth.

        Raises
        ------
        DataError
            If the image was added before, arrays differ in length, a label is out of range, or a score or
            box is not finite. The message has the image id.
        """
        if sample.image_id in self._image_ids:
            raise DataError(f"image {sample.image_id!r} was added twice; add each image once")
        image = len(self._image_ids) + 1
        objects = self._rows(image, sample, "ground truth", sample, "iscrowd", sample.difficult)
        detected = self._rows(image, sample, "detections", detections, "score", detections.scores)
        self._image_ids[sample.image_id] = image
        self._objects += objects
        self._detections += detected

    def result(self) -> COCOResult:
        """Metrics of the images added so far."""
        evaluation = self._evaluate(by_class=True)
        metrics = {name: _nan_if_absent(value) for name, value in zip(COCO_METRICS, evaluation.stats)}
        any_class = self._evaluate(by_class=False).stats[COCO_METRICS.index("AR_100")]
        metrics["recall_any_class"] = _nan_if_absent(any_class)
        # Axes: IoU, recall, class, area, detections per image; here all areas and 100 detections.
        precision = evaluation.eval["precision"][:, :, :, 0, 2]
        aps = {}
        for label, name in enumerate(self.classes):
            points = precision[:, :, label]
            points = points[points > -1]
            aps[name] = float(points.mean()) if points.size else math.nan
        return COCOResult(self.classes, metrics, aps, len(self._image_ids))

    def _rows(
        self,
        image: int,
        sample: Sample,
        source: str,
        boxed: Union[Sample, Detections],
        column: str,
        values: np.ndarray,
    ) -> List[Dict[str, Any]]:
        """COCO annotations of one image, without ids; `column` is 'score' or 'iscrowd'."""
        image_ids = [sample.image_id] * max(len(boxed.labels), len(boxed.boxes))
        columns = checked_columns(self.classes, source, image_ids, boxed.labels, values, boxed.boxes)
        rows = []
        for label, value, (xmin, ymin, xmax, ymax) in zip(*(column.tolist() for column in columns)):
            width, height = xmax - xmin + 1, ymax - ymin + 1
            row = {"image_id": image, "category_id": label + 1, "bbox": [xmin, ymin, width, height]}
            rows.append({**row, "area": width * height, "iscrowd": 0, column: value})
        return rows

    def _evaluate(self, by_class: bool) -> Any:
        from pycocotools.cocoeval import COCOeval

        # pycocotools prints its progress.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco(self._objects), self._coco(self._detections), "bbox")
            evaluation.params.useCats = int(by_class)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _coco(self, rows: List[Dict[str, Any]]) -> Any:
        """A COCO object of these rows; its own ``loadRes`` cannot read an empty list."""
        from pycocotools.coco import COCO

        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in self._image_ids.values()],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(self.classes)],
            # Ids start at 1: 0 means "no match" to COCOeval. Rows are copied: COCOeval modifies them.
            "annotations": [{**row, "id": number} for number, row in enumerate(rows, 1)],
        }
        coco.createIndex()
        return coco


def _nan_if_absent(value: float) -> float:
    return math.nan if value < 0 else float(value)
