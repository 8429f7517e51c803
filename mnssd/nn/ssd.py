"""The single-shot detector: backbone taps, extra layers, multibox heads; anchors from the real map shapes.

SSD: Liu et al. 2016. SSDLite: MobileNetV2 paper, section 6.2; it is the same detector with other
convolutions in the extra layers and heads.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from ..runtime.environment import check_opencv
from ..boxes import STDS
from ..runtime.settings import wait_all
from .anchors import anchors_per_position, make_anchors
from .backbones import Tap
from .layers import add_conv, add_separable
from .tapped_features import TappedFeatures

# Before GluonCV is imported, which reports a missing MXNet if OpenCV cannot be loaded.
check_opencv()

from gluoncv.nn.coder import NormalizedBoxCenterDecoder  # noqa: E402

EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""Channels of each extra layer: after its 1x1, after its 3x3 of stride 2 (TensorFlow's released
MobileNet SSDs; the same in chuanqi305's and GluonCV's)."""

HEADS = ("ssd", "ssdlite")

PREDICTOR_SIGMA = 0.01
"""Deviation of the predictors' initial weights (Fast R-CNN, section 4.1, as of a fresh classifier):
with the backbone's rule the first logits, and so the first losses, are ten times too large."""

SCORE_FLOOR = 0.01
"""Detections below this score are not formed (SSD paper, section 3.1)."""

Reuse = Union[None, Sequence[str], Mapping[Any, Any]]


LARGEST_SIDE = 4096
"""Of an input, in pixels: what is larger is an error in a file, or would not fit into memory."""


def check_size(size: Tuple[int, int]) -> None:
    """Raise ValueError unless both sides are 300 or a multiple of 32, from 96 to 4096 pixels."""
    for side in size:
        if side != 300 and (side % 32 or not 96 <= side <= LARGEST_SIDE):
            raise ValueError(
                f"input size {size[0]}x{size[1]}: each side is 300 or a multiple of 32 from 96 to "
                f"{LARGEST_SIDE}, not {side}"
            )


def tap_channels(backbone: TappedFeatures, taps: Sequence[Tap]) -> List[int]:
    """Channels of the feature map at each tap, from the smallest allowed input.

    Raises
    ------
    ValueError
        If there are not two taps, or a map does not have the stride of its tap.
    """
    if len(taps) != 2:
        raise ValueError(f"SSD reads two feature maps of a backbone, got {len(taps)} taps")
    _, shapes, _ = mx.sym.Group(list(backbone(mx.sym.var("data")))).infer_shape(data=(1, 3, 96, 96))
    for tap, shape in zip(taps, shapes):
        if shape[2:] != (-(-96 // tap.stride),) * 2:
            raise ValueError(f"tap {tap.path!r}: stride {tap.stride} declared, but {96 / shape[3]:g} found")
    return [shape[1] for shape in shapes]


class SSDHeads(HybridBlock):
    """The part of the detector that learns: from the image to class scores and box offsets.

    Inputs are ``(B, 3, H, W)`` float32, normalised. Outputs are ``cls_preds`` ``(B, A, C + 1)``, logits
    with the background in column 0, and ``box_preds`` ``(B, A, 4)``, offsets of centre and log size in
    units of `STDS`, in the order of `nn.anchors.make_anchors`.
    """

    def __init__(
        self, backbone: HybridBlock, taps: Sequence[Tap], num_classes: int, head: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if head not in HEADS:
            raise ValueError(f"head is one of {', '.join(HEADS)}, not {head!r}")
        self.num_classes = num_classes
        self._lite = head == "ssdlite"
        with self.name_scope():
            self.backbone = TappedFeatures(backbone, taps)
            self.extras = nn.HybridSequential()
            for squeeze, channels in EXTRAS:
                self.extras.add(self._extra_layer(squeeze, channels))
            self._map_channels = tap_channels(self.backbone, taps) + [channels for _, channels in EXTRAS]
            self.class_predictors = self._predictors(num_classes + 1)
            self.box_predictors = self._predictors(4)

    def _extra_layer(self, squeeze: int, channels: int) -> HybridBlock:
        layer = nn.HybridSequential()
        add_conv(layer, squeeze)
        if self._lite:
            add_separable(layer, squeeze, channels, stride=2)
        else:
            add_conv(layer, channels, kernel=3, stride=2, pad=1)
        return layer

    def _predictors(self, values: int) -> nn.HybridSequential:
        """One convolution for each map, with `values` outputs for each of its anchors."""
        predictors = nn.HybridSequential()
        for index, in_channels in enumerate(self._map_channels):
            channels = anchors_per_position(index) * values
            if self._lite:
                predictors.add(LitePredictor(in_channels, channels))
            else:
                small = mx.init.Normal(PREDICTOR_SIGMA)
                predictors.add(nn.Conv2D(channels, 3, padding=1, weight_initializer=small))
        return predictors

    def reset_predictors(self, num_classes: int) -> nn.HybridSequential:
        """Replace the class predictors by fresh, uninitialized ones; returns the old ones."""
        old = self.class_predictors
        self._clear_cached_op()
        self.num_classes = num_classes
        with self.name_scope():
            self.class_predictors = self._predictors(num_classes + 1)
        return old

    def last_convolutions(self) -> List[nn.Conv2D]:
        """The convolutions whose outputs are what the detector says, of classes and of boxes."""
        return [last_convolution(p) for p in (*self.class_predictors, *self.box_predictors)]

    def class_convolutions(self) -> List[nn.Conv2D]:
        """Those of classes among them: their biases are ``(anchors of a place * (classes + 1),)``."""
        return [last_convolution(predictor) for predictor in self.class_predictors]

    def hybrid_forward(self, F: Any, x: Any) -> Tuple[Any, Any]:
        maps = list(self.backbone(x))
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        # each (B, K * V, H, W) -> (B, H, W, K * V) -> (B, H * W * K * V)
        classes = [F.flatten(F.transpose(p(m), (0, 2, 3, 1))) for p, m in zip(self.class_predictors, maps)]
        boxes = [F.flatten(F.transpose(p(m), (0, 2, 3, 1))) for p, m in zip(self.box_predictors, maps)]
        cls_preds = F.reshape(F.concat(*classes, dim=1), (0, -1, self.num_classes + 1))
        box_preds = F.reshape(F.concat(*boxes, dim=1), (0, -1, 4))
        return cls_preds, box_preds


class LitePredictor(HybridBlock):
    """SSDLite's predictor: depthwise 3x3, BatchNorm, ReLU6, then a plain 1x1 (`project`)."""

    def __init__(self, in_channels: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.depthwise = nn.HybridSequential()
            add_conv(self.depthwise, in_channels, kernel=3, pad=1, groups=in_channels)
            self.project = nn.Conv2D(channels, 1, weight_initializer=mx.init.Normal(PREDICTOR_SIGMA))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.project(self.depthwise(x))


def last_convolution(predictor: HybridBlock) -> nn.Conv2D:
    """The part of a predictor whose output channels are (anchor, value)."""
    return predictor.project if isinstance(predictor, LitePredictor) else predictor


class SSD(HybridBlock):
    """A detector for `classes` at one input size.

    Calling it detects; `heads` is what training runs. The two never change type with the autograd mode.

    Parameters
    ----------
    backbone : MobileNetV1 or MobileNetV2
        Its `features` become part of the detector.
    classes : sequence of str
        Names; the label of a class is its index here.
    size : (int, int)
        ``(width, height)`` of the input in pixels; each side 300 or a multiple of 32.
    head : str
        ``'ssd'`` or ``'ssdlite'``.
    taps : sequence of Tap, optional
        The feature maps to read; default ``backbone.taps``.

    Attributes
    ----------
    heads : SSDHeads
    anchors : numpy.ndarray
        ``(A, 4)`` float32: centre x, centre y, width, height in pixels of the input.

    Inputs are ``(B, 3, H, W)`` float32, RGB in 0..1 less the ImageNet mean over its deviation. Outputs are
    ``ids`` and ``scores`` ``(B, K, 1)`` and ``bboxes`` ``(B, K, 4)``: xmin, ymin, xmax, ymax in pixels of
    the input, best score first; rows that hold no detection are -1. K is `post_nms`, or the number of anchors
    times the number of classes where that is less.
    """

    def __init__(
        self,
        backbone: HybridBlock,
        classes: Sequence[str],
        size: Tuple[int, int] = (300, 300),
        head: str = "ssd",
        taps: Optional[Sequence[Tap]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_size(size)
        self.size = size
        self._set_classes(classes)
        # SSD paper, section 3.1: NMS at 0.45 over the best 400 boxes, 200 kept.
        self.nms_thresh, self.nms_topk, self.post_nms = 0.45, 400, 200
        self._mirrored: List[Tuple[int, int]] = []  # the map sizes, when mirror images take part
        with self.name_scope():
            self.heads = SSDHeads(backbone, taps or backbone.taps, len(self.classes), head)
            self.anchors = make_anchors(self.map_sizes(), size)
            self.anchor_boxes = self.params.get_constant("anchor_boxes", self.anchors[None])

    def _set_classes(self, classes: Sequence[str]) -> None:
        names = not isinstance(classes, str) and all(isinstance(name, str) and name for name in classes)
        if not names or not classes or len(set(classes)) < len(classes):
            raise ValueError(f"classes must be a list of different names, not {classes!r}")
        self.classes = tuple(classes)
        self.bbox_decoder = NormalizedBoxCenterDecoder(STDS)

    def map_sizes(self) -> List[Tuple[int, int]]:
        """``(width, height)`` of each feature map at this input size, finest first."""
        x = mx.sym.var("data")
        maps = list(self.heads.backbone(x))
        for layer in self.heads.extras:
            maps.append(layer(maps[-1]))
        _, shapes, _ = mx.sym.Group(maps).infer_shape(data=(1, 3, self.size[1], self.size[0]))
        return [(shape[3], shape[2]) for shape in shapes]

    def set_nms(self, nms_thresh: float = 0.45, nms_topk: int = 400, post_nms: int = 200) -> None:
        """Set how overlapping detections are dropped; as in GluonCV.

        Parameters
        ----------
        nms_thresh : float
            Of two boxes of one class that overlap by more than this IoU, the better stays.
        nms_topk : int
            How many of the best boxes of an image take part; -1 for all.
        post_nms : int
            How many are returned at most, K.

        Raises
        ------
        ValueError
            For a threshold or a count outside these.
        """
        if not 0 < nms_thresh <= 1 or post_nms < 1:
            raise ValueError(f"nms_thresh is in (0, 1] and post_nms at least 1, not {nms_thresh}, {post_nms}")
        self._clear_cached_op()
        self.nms_thresh, self.nms_topk, self.post_nms = nms_thresh, nms_topk, post_nms

    def set_test_flip(self, on: bool) -> None:
        """Whether answers are the mean over an image and its mirror image, which takes twice as long.

        At every anchor: of the scores before the softmax, and of the offsets of its box.
        """
        self._clear_cached_op()
        self._mirrored = self.map_sizes() if on else []

    def reset_class(self, classes: Sequence[str], reuse_weights: Reuse = None) -> None:
        """Detect other classes; as in GluonCV.

        Parameters
        ----------
        classes : sequence of str
            The new names.
        reuse_weights : sequence or mapping, optional
            Names whose weights carry over, or ``{new: old}`` with names or indices. The background's
            always do. Without it all others start fresh.

        Raises
        ------
        ValueError
            For a name or index that is not among the new or old classes.
        """
        old_classes, old_count = self.classes, len(self.classes) + 1
        pairs = _reuse_pairs(list(classes), list(old_classes), reuse_weights)
        self._clear_cached_op()
        self._set_classes(classes)
        wait_all()
        old = self.heads.reset_predictors(len(self.classes))
        columns = {0: 0, **{new + 1: was + 1 for new, was in pairs.items()}}
        for before, after in zip(old, self.heads.class_predictors):
            _carry_over(before, after, columns, old_count, len(self.classes) + 1)

    def hybrid_forward(self, F: Any, x: Any, anchor_boxes: Any) -> Tuple[Any, Any, Any]:
        cls_preds, box_preds = self._mean_of_both(F, x) if self._mirrored else self.heads(x)
        corners = self.bbox_decoder(box_preds, anchor_boxes)  # (B, A, 4) in pixels
        count, anchors = len(self.classes), len(self.anchors)
        kept = min(self.post_nms, count * anchors)
        candidates = count * anchors if self.nms_topk < 0 else min(max(self.nms_topk, kept), count * anchors)
        # Only the best rows are formed: box_nms takes as many anyway, but copies and sorts all it is given.
        scores = F.slice_axis(F.softmax(cls_preds, axis=-1), axis=-1, begin=1, end=None)  # (B, A, C)
        scores = F.flatten(F.transpose(scores, (0, 2, 1)))  # (B, C * A), in which ties keep their order
        scores, places = F.topk(scores, k=candidates, ret_typ="both", axis=1, dtype="int32")
        # Not by unravel_index: in MXNet 1.9.1 it writes past its memory, and the process ends in malloc().
        places = F.cast(places, "float32")  # (B, k); exact up to 2^24
        anchor = places % anchors
        ids = (places - anchor) / anchors
        image = F.broadcast_like(F.expand_dims(F.contrib.arange_like(ids, axis=0), 1), ids)
        boxes = F.gather_nd(corners, F.stack(image, anchor, axis=0))  # (B, k, 4)
        found = F.contrib.box_nms(
            F.concat(F.expand_dims(ids, 2), F.expand_dims(scores, 2), boxes, dim=2),
            overlap_thresh=self.nms_thresh,
            topk=self.nms_topk,
            valid_thresh=SCORE_FLOOR,
            id_index=0,
            score_index=1,
            coord_start=2,
            force_suppress=False,
        )
        found = F.slice_axis(found, 1, 0, kept)
        return F.slice_axis(found, 2, 0, 1), F.slice_axis(found, 2, 1, 2), F.slice_axis(found, 2, 2, 6)

    def _mean_of_both(self, F: Any, x: Any) -> Tuple[Any, Any]:
        """What `heads` says of images, and of their mirror images where it is about the same places."""
        both = self.heads(F.concat(x, F.reverse(x, axis=3), dim=0))
        (cls_preds, cls_mirror), (box_preds, box_mirror) = (F.split(p, 2, axis=0) for p in both)
        # Offsets of the centre's x, in the direction of the image's x, point the other way in the mirror.
        x_offset, others = F.slice_axis(box_mirror, 2, 0, 1), F.slice_axis(box_mirror, 2, 1, 4)
        box_mirror = F.concat(-x_offset, others, dim=2)
        cls_mirror, box_mirror = (self._columns_reversed(F, p) for p in (cls_mirror, box_mirror))
        return (cls_preds + cls_mirror) / 2, (box_preds + box_mirror) / 2

    def _columns_reversed(self, F: Any, preds: Any) -> Any:
        """``(B, A, V)`` with the positions of every row of every map in the opposite order."""
        parts, begin = [], 0
        for index, (columns, rows) in enumerate(self._mirrored):
            each = anchors_per_position(index)
            end = begin + columns * rows * each
            grid = F.reshape(F.slice_axis(preds, 1, begin, end), (0, rows, columns, -1))  # (B, H, W, K * V)
            parts.append(F.reshape(F.reverse(grid, axis=2), (0, columns * rows * each, -1)))
            begin = end
        return F.concat(*parts, dim=1)


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
    raise ValueError(f"{key!r} is not among the {which} classes: {', '.join(names)}")


def _carry_over(
    before: HybridBlock, after: HybridBlock, columns: Dict[int, int], old_count: int, new_count: int
) -> None:
    """Copy what stays valid from one class predictor to its successor, if there are arrays yet.

    Only the last convolution depends on the classes: its output channels are (anchor, class).
    """
    by_class = set(last_convolution(before).collect_params())
    for (name, old), new in zip(before.collect_params().items(), after.collect_params().values()):
        if old._data is None:  # no array yet: none for the successor either, but initialized if this one was
            if old._deferred_init:
                _, ctx, default, _ = old._deferred_init
                new.initialize(default_init=default, ctx=ctx)
            continue
        new.shape = (new.shape[0], *old.shape[1:])
        new.initialize(default_init=mx.init.Xavier(), ctx=old.list_ctx())
        if name not in by_class:
            new.set_data(old.data())
            continue
        values = old.data().asnumpy().reshape((-1, old_count) + old.shape[1:])
        fresh = new.data().asnumpy().reshape((-1, new_count) + old.shape[1:])
        for now, was in columns.items():
            fresh[:, now] = values[:, was]
        new.set_data(mx.nd.array(fresh.reshape(new.shape)))
