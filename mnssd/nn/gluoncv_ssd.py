"""A detector with the interface of ``gluoncv.model_zoo.SSD``, for GluonCV's scripts."""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon.block import HybridBlock

from .anchors import make_anchors
from .gluoncv_names import convert_detector
from .gluoncv_parts import MultiPerClassDecoder
from .initialization import finish_initialization, initialize

SCORE_FLOOR = 0.01
"""Detections with a lower score are dropped (``gluoncv/model_zoo/ssd/ssd.py``, ``valid_thresh``)."""


class GluonCVSSD(HybridBlock):
    """An `nn.SSD` that answers as GluonCV's SSD does; the parameters are those of `net`.

    In training mode (``autograd.record()``, ``autograd.train_mode()``) calling it returns ``cls_preds``
    ``(N, A, C + 1)``, ``box_preds`` ``(N, A, 4)`` and ``anchors`` ``(1, A, 4)``; otherwise ``ids`` and
    ``scores`` ``(N, K, 1)`` and ``bboxes`` ``(N, K, 4)``, corners in pixels of the input. Unlike GluonCV's,
    it may be hybridized in one mode and called in the other. A network without weights is initialized.

    The input is ``(N, 3, H, W)`` float32, normalized as by `SSDDefaultValTransform`. At another size than
    that of `net` the anchors have the same size in pixels, as in GluonCV; a Symbol input has the size of
    `net`.

    Parameters
    ----------
    net : mnssd.nn.SSD
    """

    def __init__(self, net: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = net
        self.set_nms()
        if all(p._data is None and not p._deferred_init for p in net.collect_params().values()):
            initialize(net)
        finish_initialization(net)
        self._anchors: Dict[Tuple[int, int], np.ndarray] = {net.size: net.anchors}

    @property
    def classes(self) -> List[str]:
        """Names of the classes."""
        return list(self.net.classes)

    @property
    def num_classes(self) -> int:
        """Number of classes, without the background."""
        return len(self.net.classes)

    def set_nms(self, nms_thresh: float = 0.45, nms_topk: int = 400, post_nms: int = 100) -> None:
        """Set the parameters of non-maximum suppression, with GluonCV's meanings.

        An IoU `nms_thresh` outside of 0 to 1 disables it: every anchor is then returned once for each class.
        `nms_topk` is the number of boxes that enter it, -1 for all; at most `post_nms` detections are
        returned per image, or all if it is not above 0.
        """
        self.nms_thresh, self.nms_topk, self.post_nms = nms_thresh, nms_topk, post_nms
        if 0 < nms_thresh < 1:
            self.net.set_nms(nms_thresh, nms_topk, post_nms if post_nms > 0 else -1)

    def reset_class(
        self, classes: Sequence[str], reuse_weights: Union[Sequence[str], Mapping[Any, Any], None] = None
    ) -> None:
        """Replace the classes; see `nn.SSD.reset_class`.

        As in GluonCV, a name in a list `reuse_weights` that is not in both the old and the new classes is
        left out with a warning.
        """
        if reuse_weights is not None and not isinstance(reuse_weights, Mapping):
            known = [name for name in reuse_weights if name in classes and name in self.net.classes]
            unknown = [name for name in reuse_weights if name not in known]
            if unknown:
                warnings.warn(f"not in both the old and the new classes: {unknown}", stacklevel=2)
            reuse_weights = known
        self.net.reset_class(classes, reuse_weights)
        finish_initialization(self.net)
        self.set_nms(self.nms_thresh, self.nms_topk, self.post_nms)

    def hybridize(self, active: bool = True, **kwargs: Any) -> None:
        """Hybridize the heads and the detector, each with a graph of its own."""
        self.net.hybridize(active, **kwargs)

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """Write the weights; `mnssd.zoo.get_model(weights=...)` and ``--weights`` read them, too."""
        self.net.heads.save_parameters(filename, deduplicate)

    save_params = save_parameters

    def load_parameters(self, filename: str, ctx: Any = None, **kwargs: Any) -> None:
        """Load weights that `save_parameters` or GluonCV's own SSD with this structure wrote.

        `kwargs` are those of ``mxnet.gluon.Block.load_parameters``.
        """
        loaded = mx.nd.load(filename)
        arrays = loaded if isinstance(loaded, dict) else {}
        converted = convert_detector({name: array.asnumpy() for name, array in arrays.items()})
        if converted is None:
            self.net.heads.load_parameters(filename, ctx, **kwargs)
            return
        if not converted.has_anchors_of(self.net.heads.layout):
            raise ValueError(f"{filename}: trained with other anchors than those of this network")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "heads.params")
            mx.nd.save(path, {name: mx.nd.array(array) for name, array in converted.arrays.items()})
            self.net.heads.load_parameters(path, ctx, **kwargs)

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> None:
        """Write ``PATH-symbol.json`` and ``PATH-EPOCH.params``, for the input size of `net`."""
        width, height = self.net.size
        self.net.hybridize()
        self.net(mx.nd.zeros((1, 3, height, width), ctx=self.net.anchor_boxes.list_ctx()[0]))
        self.net.export(path, epoch, remove_amp_cast)

    def hybrid_forward(self, F: Any, x: Any) -> Tuple[Any, Any, Any]:
        is_symbol = isinstance(x, mx.sym.Symbol)
        size = self.net.size if is_symbol else (x.shape[3], x.shape[2])
        if mx.autograd.is_training():
            return (*self.net.heads(x), self._anchors_for(F, x, size))
        if not 0 < self.nms_thresh < 1:
            return self._all_boxes(F, self.net.heads(x), self._anchors_for(F, x, size))
        if size == self.net.size:
            return self.net(x)  # type: ignore[no-any-return]
        anchors = self._anchors_for(F, x, size)
        outputs: Tuple[Any, Any, Any] = self.net.detections(F, *self.net.heads(x), anchors, anchors.shape[1])
        return outputs

    def _anchors_for(self, F: Any, x: Any, size: Tuple[int, int]) -> Any:
        """Anchors ``(1, A, 4)`` for an input of `size` where `x` is."""
        if isinstance(x, mx.sym.Symbol):
            return self.net.anchor_boxes.var()
        if size not in self._anchors:
            layout = self.net.heads.layout.anchors
            rotated = self.net.heads.backbone.rotated
            self._anchors[size] = make_anchors(self.net.map_sizes(size), size, layout, self.net.size, rotated)
        return mx.nd.array(self._anchors[size][None], ctx=x.context)

    def _all_boxes(self, F: Any, heads: Tuple[Any, Any], anchors: Any) -> Tuple[Any, Any, Any]:
        """Every anchor once for each class, by class and anchor; -1 and 0 if the score is too low."""
        cls_preds, box_preds = heads
        corners = self.net.bbox_decoder(box_preds, anchors)
        decode = MultiPerClassDecoder(self.num_classes + 1, thresh=SCORE_FLOOR)
        ids, scores = decode(self.net.class_scores(F, cls_preds))
        # (N, A, C) -> (N, C * A, 1)
        ids, scores = (F.reshape(F.transpose(part, (0, 2, 1)), (0, -1, 1)) for part in (ids, scores))
        return ids, scores, F.tile(corners, (1, self.num_classes, 1))
