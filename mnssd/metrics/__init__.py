"""Metrics of detectors and classifiers. Imports nothing, so that ``--help`` can list their names."""

VOC_METRICS = ("voc07", "voc12")
"""Average precision of the Pascal VOC devkit: mean over 11 recalls, and area under the curve."""

METRICS = (*VOC_METRICS, "coco")
"""Metrics of detectors."""
