"""`TargetAssigner` with the interface of GluonCV's `SSDTargetGenerator`."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from .targets import TargetAssigner


class TargetGenerator:
    """Training targets of a batch, called as ``gluoncv.model_zoo.ssd.target.SSDTargetGenerator``.

    The results are those of ``SSDTargetGenerator(negative_mining_ratio=-1)``, as in
    `SSDDefaultTrainTransform`: `CompositeMatcher` of `BipartiteMatcher` and `MaximumMatcher`, `NaiveSampler`,
    `MultiClassEncoder` and `NormalizedBoxCenterEncoder`. They differ for an image without boxes: GluonCV's
    `box_targets` are then -inf and its `box_masks` 1, which makes the loss NaN. To see it, pass labels that
    are all -1.

    Parameters
    ----------
    iou_thresh : float
        IoU threshold for a positive anchor.
    """

    def __init__(self, iou_thresh: float = 0.5) -> None:
        self._iou_thresh = iou_thresh
        self._assigner: Optional[TargetAssigner] = None

    def __call__(self, anchors: Any, cls_preds: Any, gt_boxes: Any, gt_ids: Any) -> Tuple[Any, Any, Any]:
        """Targets of a batch.

        Parameters
        ----------
        anchors : mxnet.nd.NDArray
            ``(1, A, 4)`` or ``(A, 4)`` center x, center y, width, height in pixels.
        cls_preds : None or mxnet.nd.NDArray
            Not used, as without negative mining in GluonCV.
        gt_boxes, gt_ids : mxnet.nd.NDArray
            ``(B, M, 4)`` corners in pixels and ``(B, M, 1)`` labels from 0; rows with label -1 are padding.

        Returns
        -------
        cls_targets : mxnet.nd.NDArray
            ``(B, A)`` float32: 0 for background, label + 1 for positive anchors.
        box_targets, box_masks : mxnet.nd.NDArray
            ``(B, A, 4)`` float32: encoded offsets; 1 for positive anchors, else 0.
        """
        import mxnet as mx

        assign = self._assigner_for(anchors.asnumpy().reshape(-1, 4))
        targets = []
        for boxes, labels in zip(gt_boxes.asnumpy(), gt_ids.asnumpy().reshape(gt_ids.shape[0], -1)):
            kept = labels >= 0
            targets.append(assign(boxes[kept], labels[kept].astype(np.int64)))
        classes, offsets = (np.stack(part).astype(np.float32) for part in zip(*targets))
        masks = np.repeat((classes > 0)[..., None], 4, axis=-1).astype(np.float32)
        arrays = (mx.nd.array(part, ctx=gt_boxes.context) for part in (classes, offsets, masks))
        return tuple(arrays)  # type: ignore[return-value]

    def _assigner_for(self, anchors: np.ndarray) -> TargetAssigner:
        """An assigner of these anchors; that of the last call if they are the same."""
        if self._assigner is None or not np.array_equal(self._assigner.anchors, anchors):
            self._assigner = TargetAssigner(anchors, self._iou_thresh)
        return self._assigner
