"""The single-shot detector: SSD (Liu et al. 2016) and SSDLite (MobileNetV2 paper, section 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon.block import HybridBlock

from ..boxes import STDS
from ..options import listed
from ..runtime.settings import wait_all
from .anchors import anchor_sizes, anchor_steps, anchors_per_position, make_anchors
from .backbones import Tap
from .gluoncv_parts import NormalizedBoxCenterDecoder
from .head_layouts import HeadLayout
from .heads import SSDHeads, last_convolution
from .spec import SCORE_FLOOR

if TYPE_CHECKING:
    from .gluoncv_ssd import GluonCVSSD

CANDIDATES, KEPT = 1000, 200
"""Boxes of an image that enter NMS, and most detections that leave it.

The SSD paper (section 3.1) keeps 200; its authors' code takes the best 400 boxes of each class. GluonCV takes
400 of all classes, which are too few where objects are dense: 1,000 have all but .001 of the mAP of all boxes
(ABLATIONS.md, "Boxes that enter NMS").
"""

LARGEST_SIDE = 4096
"""Largest side of an input in pixels: a larger one is an error in a file, or does not fit into memory."""

Reuse = Union[None, Sequence[str], Mapping[Any, Any]]


def check_size(size: Tuple[int, int]) -> None:
    """Raise ValueError unless both sides are 300 or a multiple of 32, from 96 to 4096 pixels."""
    for side in size:
        if side != 300 and (side % 32 or not 96 <= side <= LARGEST_SIDE):
            raise ValueError(
                f"input size {size[0]}x{size[1]}: expected 300 or a multiple of 32 from 96 to {LARGEST_SIDE} "
                f"for each side, got {side}"
            )


class SSD(HybridBlock):
    """Single-shot detector for `classes` at one input size.

    Calling it returns detections, also while autograd records; training calls `heads`. `anchors` are
    ``(A, 4)`` float32: center x, center y, width, height in input pixels.

    Parameters
    ----------
    backbone : mxnet.gluon.HybridBlock
        A classifier from `nn.backbones`; its `features` become part of the detector.
    classes : sequence of str
        Class names; the label of a class is its index here.
    size : (int, int)
        ``(width, height)`` of the input in pixels; each side 300 or a multiple of 32.
    head : str or HeadLayout
        Extra layers, predictors, anchors and scores: a name in `head_layouts.LAYOUTS`, or a layout.
    taps : sequence of Tap, optional
        Feature maps of the backbone to read; defaults to those of the layout, or those of ``backbone.taps``
        that have the layout's strides.

    Inputs are ``(N, 3, H, W)`` float32, RGB in 0..1 minus the ImageNet mean, divided by its standard
    deviation. Outputs are ``ids`` and ``scores`` ``(N, K, 1)`` and ``bboxes`` ``(N, K, 4)``: xmin, ymin,
    xmax, ymax in input pixels, best score first; rows without a detection are -1. K is `post_nms`, or the
    number of anchors times the number of classes if that is less.
    """

    def __init__(
        self,
        backbone: HybridBlock,
        classes: Sequence[str],
        size: Tuple[int, int] = (300, 300),
        head: Union[str, HeadLayout] = "ssd",
        taps: Optional[Sequence[Tap]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_size(size)
        self.size = size
        self._set_classes(classes)
        self._flipped_maps: List[Tuple[int, int]] = []  # map sizes if flipped images are averaged in
        with self.name_scope():
            if isinstance(head, HeadLayout) and head.taps:
                taps = [Tap(path, stride) for path, stride in head.taps]
            self.heads = SSDHeads(backbone, taps or backbone.taps, len(self.classes), head)
            self.anchors = make_anchors(
                self.map_sizes(), size, self.heads.layout.anchors, rotated=self.heads.backbone.rotated
            )
            self.anchor_boxes = self.params.get_constant("anchor_boxes", self.anchors[None])
        self.nms_thresh, self.nms_topk, self.post_nms = self.heads.layout.nms_iou, CANDIDATES, KEPT
        self._scores = self.heads.layout.scores

    def _set_classes(self, classes: Sequence[str]) -> None:
        names = not isinstance(classes, str) and all(isinstance(name, str) and name for name in classes)
        if not names or not classes or len(set(classes)) < len(classes):
            raise ValueError(f"classes: expected a list of distinct names, got {classes!r}")
        self.classes = tuple(classes)
        self.bbox_decoder = NormalizedBoxCenterDecoder(STDS)

    def map_sizes(self, size: Optional[Tuple[int, int]] = None) -> List[Tuple[int, int]]:
        """``(width, height)`` of each feature map, finest first, for an input of `size` (the network's)."""
        width, height = size or self.size
        maps = mx.sym.Group(self.heads.feature_maps(mx.sym.var("data")))
        _, shapes, _ = maps.infer_shape(data=(1, 3, height, width))
        return [(shape[3], shape[2]) for shape in shapes]

    @property
    def sizes(self) -> List[float]:
        """Sides of the anchors in pixels, one more than feature maps, as in ``gluoncv.model_zoo.SSD``."""
        return anchor_sizes(self.heads.layout.anchors, self.size)

    @property
    def ratios(self) -> List[List[float]]:
        """Aspect ratios of the anchors of each feature map, as in ``gluoncv.model_zoo.SSD``."""
        return [list(ratios) for ratios in self.heads.layout.anchors.ratios]

    @property
    def steps(self) -> List[Any]:
        """Distance in pixels of the anchors of each feature map, as in ``gluoncv.model_zoo.SSD``.

        A pair, in x and in y, where the two differ.
        """
        pairs = anchor_steps(self.heads.layout.anchors, self.map_sizes(), self.size)
        return [x if x == y else (x, y) for x, y in pairs]

    def as_gluoncv(self) -> GluonCVSSD:
        """This network, with the interface of ``gluoncv.model_zoo.SSD`` for GluonCV's scripts."""
        from .gluoncv_ssd import GluonCVSSD

        return GluonCVSSD(self)

    def set_nms(self, nms_thresh: float = 0.45, nms_topk: int = CANDIDATES, post_nms: int = KEPT) -> None:
        """Set the parameters of non-maximum suppression, as in GluonCV.

        Of two boxes of one class with an IoU above `nms_thresh` the lower-scoring is dropped. `nms_topk` is
        the number of boxes per image that enter NMS, best first; -1 for all. At most `post_nms` detections
        are returned per image; -1 for all. Raises ValueError if a value is out of range.
        """
        if post_nms == -1:
            post_nms = len(self.classes) * len(self.anchors)
        if not 0 < nms_thresh <= 1 or post_nms < 1:
            raise ValueError(
                "expected nms_thresh in (0, 1], and post_nms of at least 1 or -1, got"
                f" {nms_thresh} and {post_nms}"
            )
        self._clear_cached_op()
        self.nms_thresh, self.nms_topk, self.post_nms = nms_thresh, nms_topk, post_nms

    def set_test_flip(self, on: bool) -> None:
        """Average logits and offsets over each image and its horizontal flip, at twice the time."""
        self._clear_cached_op()
        self._flipped_maps = self.map_sizes() if on else []

    def reset_class(self, classes: Sequence[str], reuse_weights: Reuse = None) -> None:
        """Replace the classes, as in GluonCV.

        `reuse_weights` has the class names whose weights are kept, or ``{new: old}`` with names or indices;
        ValueError if one is not among the new or old classes. The background's weights are always kept;
        those of the other classes are initialized.
        """
        old_count = len(self.classes) + 1
        pairs = _reuse_pairs(list(classes), list(self.classes), reuse_weights)
        self._clear_cached_op()
        self._set_classes(classes)
        wait_all()
        old_predictors = self.heads.reset_predictors(len(self.classes))
        columns = {0: 0, **{new + 1: old + 1 for new, old in pairs.items()}}
        for old, new in zip(old_predictors, self.heads.class_predictors):
            _copy_weights(old, new, columns, old_count, len(self.classes) + 1)

    def hybrid_forward(self, F: Any, x: Any, anchor_boxes: Any) -> Tuple[Any, Any, Any]:
        cls_preds, box_preds = self._flip_averaged(F, x) if self._flipped_maps else self.heads(x)
        return self.detections(F, cls_preds, box_preds, anchor_boxes, len(self.anchors))

    def class_scores(self, F: Any, cls_preds: Any) -> Any:
        """Scores of the background and the classes from their logits, by the function of the layout."""
        if self._scores == "sigmoid":
            return F.sigmoid(cls_preds)
        return F.softmax(cls_preds, axis=-1)

    def detections(
        self, F: Any, cls_preds: Any, box_preds: Any, anchor_boxes: Any, anchors: int
    ) -> Tuple[Any, Any, Any]:
        """Outputs of the network from those of `heads`; `anchor_boxes` are ``(1, anchors, 4)``."""
        corners = self.bbox_decoder(box_preds, anchor_boxes)  # (N, A, 4) in pixels
        count = len(self.classes)
        kept = min(self.post_nms, count * anchors)
        candidates = count * anchors if self.nms_topk < 0 else min(max(self.nms_topk, kept), count * anchors)
        # box_nms considers only the best rows, but copies and sorts all: give it no more than these.
        scores = F.slice_axis(self.class_scores(F, cls_preds), axis=-1, begin=1, end=None)  # (N, A, C)
        # (N, A, C) -> (N, C, A) -> (N, C * A); topk keeps the order of equal scores
        scores = F.flatten(F.transpose(scores, (0, 2, 1)))
        scores, flat = F.topk(scores, k=candidates, ret_typ="both", axis=1, dtype="int32")  # (N, k)
        ids, anchor = _unravel(F, flat, anchors)
        image = F.broadcast_like(F.expand_dims(F.contrib.arange_like(ids, axis=0), 1), ids)
        boxes = F.gather_nd(corners, F.stack(image, anchor, axis=0))  # (N, k, 4)
        rows = F.contrib.box_nms(
            F.concat(F.expand_dims(ids, 2), F.expand_dims(scores, 2), boxes, dim=2),
            overlap_thresh=self.nms_thresh,
            topk=self.nms_topk,
            valid_thresh=SCORE_FLOOR,
            id_index=0,
            score_index=1,
            coord_start=2,
            force_suppress=False,
        )
        rows = F.slice_axis(rows, 1, 0, kept)
        return F.slice_axis(rows, 2, 0, 1), F.slice_axis(rows, 2, 1, 2), F.slice_axis(rows, 2, 2, 6)

    def _flip_averaged(self, F: Any, x: Any) -> Tuple[Any, Any]:
        """Outputs of `heads` averaged over the images and their horizontal flips."""
        both = self.heads(F.concat(x, F.reverse(x, axis=3), dim=0))
        (cls_preds, cls_flipped), (box_preds, box_flipped) = (F.split(p, 2, axis=0) for p in both)
        # A flip negates the offset of the center's x.
        x_offset, rest = F.slice_axis(box_flipped, 2, 0, 1), F.slice_axis(box_flipped, 2, 1, 4)
        box_flipped = F.concat(-x_offset, rest, dim=2)
        cls_flipped, box_flipped = (self._flip_columns(F, p) for p in (cls_flipped, box_flipped))
        return (cls_preds + cls_flipped) / 2, (box_preds + box_flipped) / 2

    def _flip_columns(self, F: Any, preds: Any) -> Any:
        """``(N, A, V)`` with the columns of every feature map in reverse order."""
        parts, begin = [], 0
        for index, (columns, rows) in enumerate(self._flipped_maps):
            per_position = anchors_per_position(index, self.heads.layout.anchors)
            end = begin + columns * rows * per_position
            # (N, H * W * K, V) -> (N, H, W, K * V) -> (N, H * W * K, V)
            grid = F.reshape(F.slice_axis(preds, 1, begin, end), (0, rows, columns, -1))
            parts.append(F.reshape(F.reverse(grid, axis=2), (0, columns * rows * per_position, -1)))
            begin = end
        return F.concat(*parts, dim=1)


def _unravel(F: Any, flat: Any, length: int) -> Tuple[Any, Any]:
    """Row and column of flat int32 indices into rows of `length`, as float32 (exact up to 2^24).

    MXNet 1.9.1: `unravel_index` writes past its memory; the process may end in malloc() later.
    """
    index = F.cast(flat, "float32")
    column = index % length
    return (index - column) / length, column


def _reuse_pairs(new: List[str], old: List[str], reuse: Reuse) -> Dict[int, int]:
    """``{new index: old index}`` from the forms that `SSD.reset_class` takes."""
    if reuse is None:
        return {}
    items = list(reuse.items()) if isinstance(reuse, Mapping) else [(name, name) for name in reuse]
    return {_class_index(a, new, "new"): _class_index(b, old, "old") for a, b in items}


def _class_index(key: Union[str, int], names: List[str], which: str) -> int:
    if isinstance(key, str) and key in names:
        return names.index(key)
    if isinstance(key, int) and 0 <= key < len(names):
        return key
    raise ValueError(f"{key!r} is not among the {which} classes: {listed(names)}")


def _copy_weights(
    old: HybridBlock, new: HybridBlock, columns: Dict[int, int], old_count: int, new_count: int
) -> None:
    """Copy weights from one class predictor to its replacement.

    The output channels of the last convolution are (anchor, class), of which only `columns` are copied.
    """
    class_dependent = set(last_convolution(old).collect_params())
    for (name, source), target in zip(old.collect_params().items(), new.collect_params().values()):
        if source._data is None:
            if source._deferred_init:  # initialized before its shape is known
                _, ctx, default, _ = source._deferred_init
                target.initialize(default_init=default, ctx=ctx)
            continue
        target.shape = (target.shape[0], *source.shape[1:])
        target.initialize(default_init=mx.init.Xavier(), ctx=source.list_ctx())
        if name not in class_dependent:
            target.set_data(source.data())
            continue
        values = source.data().asnumpy().reshape((-1, old_count) + source.shape[1:])
        merged = target.data().asnumpy().reshape((-1, new_count) + source.shape[1:])
        for new_column, old_column in columns.items():
            merged[:, new_column] = values[:, old_column]
        target.set_data(mx.nd.array(merged.reshape(target.shape)))
