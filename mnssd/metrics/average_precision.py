"""Average precision of the Pascal VOC devkit (``VOCap.m``) from a precision-recall curve."""

from __future__ import annotations

import numpy as np

RECALL_POINTS = np.arange(11) * 0.1
"""The devkit's ``0:0.1:1`` in floating point. Points 3, 6 and 7 are one bit above 0.3, 0.6 and 0.7, so a
recall of 6 / 10 does not reach them. Common ports of the metric use the same values (``numpy.arange(0, 1.1,
0.1)``), and so do published results: case 1 of tests/metrics/test_voc_metric_parity.py has a recall of
exactly 9 / 15. MATLAB has 0.6 and 0.7 exactly; for such recalls its AP can be higher by up to 1 / 11 for each
of the two points."""


def average_precision(recall: np.ndarray, precision: np.ndarray, metric: str) -> np.ndarray:
    """Average precision of curves whose points are along the last axis, highest score first.

    Parameters
    ----------
    recall, precision : numpy.ndarray
        ``(..., N)`` float64; recall does not decrease.
    metric : str
        ``'voc07'`` or ``'voc12'``, see `VOCMetric`.

    Returns
    -------
    numpy.ndarray
        ``(...)`` float64; 0 for curves without points.
    """
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    if metric == "voc12":
        return np.asarray(np.sum(np.diff(recall, prepend=0.0) * envelope, axis=-1))
    # The maximum precision at a recall or higher; 0 for recalls that are not reached.
    highest = np.concatenate([envelope, np.zeros((*envelope.shape[:-1], 1))], axis=-1)
    beyond = np.empty((*recall.shape[:-1], len(RECALL_POINTS)), np.int64)
    for curve in np.ndindex(recall.shape[:-1]):
        beyond[curve] = np.searchsorted(recall[curve], RECALL_POINTS, side="left")
    return np.asarray(np.mean(np.take_along_axis(highest, beyond, axis=-1), axis=-1))
