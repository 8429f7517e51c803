"""Structures of detection heads, as data: extra layers, predictors and anchors. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Dict, Tuple

_NARROW = (1.0, 2.0, 0.5)
_WIDE = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)

_GENERATORS = ("map", "gluoncv", "gluoncv_lite", "explicit")

CONVOLUTIONS = ("plain", "separable", "factorized")
"""Kinds of 3x3 convolutions: plain, depthwise separable, or factorized into 3x1 and 1x3."""

SCORES = ("softmax", "sigmoid")
"""Functions from a detector's logits to class scores, see `boxes.class_scores`."""

_MOST_MAPS, _MOST_ANCHORS, _MOST_CHANNELS = 16, 64, 8192
"""More feature maps, anchors per position and channels come from a damaged file."""


@dataclass(frozen=True)
class AnchorLayout:
    """Anchors of the feature maps, in the terms of ``gluoncv.model_zoo.SSD``.

    Attributes
    ----------
    sizes : tuple of float
        For M maps M + 1 sides: of the squares of each map, and what follows the last. In pixels with `steps`,
        else as fractions of the input's side.
    ratios : tuple of tuple of float
        Aspect ratios of each map, width over height; the first is 1.
    steps : tuple of float
        Distance of neighboring anchors on each map in pixels; empty: the input's side divided by the map's.
    generator : str
        Which boxes these are and in which order: see `anchors.GENERATORS`.
    shapes : tuple of tuple of (float, float)
        For the generator ``'explicit'``, which does not use `sizes` and `ratios`: width and height of the
        anchors of each map. In pixels with `steps`, else as fractions of the input's side.
    clip : bool
        Whether center, width and height of explicit anchors are limited to 0 and the input's side, as in
        qfgaohao's and lufficc's networks.
    """

    sizes: Tuple[float, ...]
    ratios: Tuple[Tuple[float, ...], ...]
    steps: Tuple[float, ...] = ()
    generator: str = _GENERATORS[0]
    shapes: Tuple[Tuple[Tuple[float, float], ...], ...] = ()
    clip: bool = False

    def __post_init__(self) -> None:
        _require(self.generator in _GENERATORS, f"generator: unknown name {self.generator!r}")
        _require(self.generator != "explicit" or 0 < self.maps <= _MOST_MAPS, "shapes: no feature maps")
        _require(len(self.steps) in (0, self.maps), "steps: expected one for each feature map")
        _require(all(len(places) <= _MOST_ANCHORS for places in self.shapes), "shapes: too many anchors")
        sides = [side for places in self.shapes for shape in places for side in shape]
        _require(all(isfinite(side) and side > 0 for side in (*sides, *self.steps)), "anchors: not above 0")

    @property
    def maps(self) -> int:
        """Number of feature maps."""
        return len(self.shapes or self.ratios)


@dataclass(frozen=True)
class HeadLayout:
    """Extra layers and predictors of a detector, and its anchors.

    Attributes
    ----------
    extras : tuple of (int, int)
        Channels of each extra layer, after its 1x1 and after its 3x3 convolution with stride 2.
    anchors : AnchorLayout
    convolution : str
        Kind of the 3x3 convolutions: ``'plain'``, ``'separable'`` (depthwise) or ``'factorized'`` (3x1, 1x3).
    activation : str
        Of the extra layers, see `layers.activation`.
    epsilon : float
        Of the extra layers' BatchNorm, if they are plain.
    kernel : int
        Side of the predictors' convolutions, if they are plain.
    predictors : tuple of str
        Kind of the predictors of each feature map; empty: `convolution` for all.
    predictor_activation : str
        Inside separable predictors.
    scores : str
        One of `SCORES`: what makes class scores of the logits.
    nms_iou : float
        IoU threshold of non-maximum suppression.
    taps : tuple of (str, int)
        Path and stride of the backbone's feature maps, see `backbones.Tap`; empty: the backbone's own.
    linear_extras : bool
        Whether separable extra layers end without an activation, as the bottlenecks of MobileNetV2.
    strides : tuple of int
        Of the backbone's feature maps, if there are no `taps`.
    neck : int
        Channels of the `necks.PyramidNeck` over the backbone's feature maps; 0 without a neck.
    """

    extras: Tuple[Tuple[int, int], ...]
    anchors: AnchorLayout
    convolution: str = "plain"
    activation: str = "relu6"
    epsilon: float = 1e-5
    kernel: int = 3
    predictors: Tuple[str, ...] = ()
    predictor_activation: str = "relu6"
    scores: str = SCORES[0]
    nms_iou: float = 0.45
    taps: Tuple[Tuple[str, int], ...] = ()
    linear_extras: bool = False
    strides: Tuple[int, ...] = (16, 32)
    neck: int = 0

    def __post_init__(self) -> None:
        kinds = (self.convolution, *self.predictors)
        _require(all(kind in CONVOLUTIONS for kind in kinds), f"convolution: unknown kind in {kinds!r}")
        _require(self.scores in SCORES, f"scores: expected one of {SCORES}, got {self.scores!r}")
        _require(self.kernel in (1, 3), f"kernel: expected 1 or 3, got {self.kernel!r}")
        _require(0 < self.nms_iou <= 1, f"nms_iou: expected above 0 and at most 1, got {self.nms_iou!r}")
        _require(self.epsilon > 0, f"epsilon: expected above 0, got {self.epsilon!r}")
        counts = [count for pair in self.extras for count in pair] + [self.neck] * (self.neck != 0)
        _require(all(0 < count <= _MOST_CHANNELS for count in counts), f"channels: {counts!r}")
        maps = len(self.extras) + self.backbone_maps
        _require(self.anchors.maps == maps, f"anchors of {self.anchors.maps} feature maps, expected {maps}")
        _require(len(self.predictors) in (0, maps), "predictors: expected one for each feature map")

    @property
    def backbone_maps(self) -> int:
        """Number of the backbone's feature maps."""
        return len(self.taps or self.strides)

    def predictor(self, index: int) -> str:
        """Kind of the predictors of feature map `index`."""
        return self.predictors[index] if self.predictors else self.convolution

    def as_dict(self) -> Dict[str, Any]:
        """Plain lists, numbers and strings, for YAML and JSON."""
        return _as_lists(asdict(self))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Dict[str, Any]) -> HeadLayout:
        """The inverse of `as_dict`; raises ValueError, KeyError or TypeError if it is damaged."""
        _require(isinstance(values, dict) and isinstance(values["anchors"], dict), "layout: not a mapping")
        anchors = AnchorLayout(**{key: _as_tuples(value) for key, value in values["anchors"].items()})
        rest = {key: _as_tuples(value) for key, value in values.items() if key != "anchors"}
        return cls(anchors=anchors, **rest)


def _require(holds: bool, problem: str) -> None:
    """Raise ValueError unless a layout holds together."""
    if not holds:
        raise ValueError(problem)


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(entry) for key, entry in value.items()}
    return [_as_lists(entry) for entry in value] if isinstance(value, tuple) else value


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value


EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""As in TensorFlow's released MobileNet SSDs, chuanqi305's, and GluonCV's ``lite``."""

PAPER_ANCHORS = AnchorLayout((0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0), (_NARROW, *[_WIDE] * 5))
"""SSD paper (Liu et al. 2016), section 2.2, with s_min 0.2 and s_max 0.95 as in TensorFlow's released
MobileNet SSDs."""

PYRAMID_ANCHORS = AnchorLayout((0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0), (_NARROW, *[_WIDE] * 5))
"""Those of the paper with a finer feature map of stride 8, whose anchors have half the size of the next."""

_GLUONCV_RATIOS = (_NARROW, *[_WIDE] * 3, *[_NARROW] * 2)

LAYOUTS: Dict[str, HeadLayout] = {
    "ssd": HeadLayout(EXTRAS, PAPER_ANCHORS),
    "ssdlite": HeadLayout(EXTRAS, PAPER_ANCHORS, convolution="separable"),
    "ssdfactorized": HeadLayout(EXTRAS, PAPER_ANCHORS, convolution="factorized"),
    "ssdfpn": HeadLayout(
        ((64, 128), (64, 128), (64, 128)), PYRAMID_ANCHORS, "separable", strides=(8, 16, 32), neck=128
    ),
    # gluoncv/model_zoo/ssd/presets.py: ssd_512_mobilenet1_0_voc, ssd_300_mobilenet0_25_voc and
    # ssd_300_mobilenet1_0_lite_coco; the 1x1 convolutions from gluoncv/nn/feature.py, FeatureExpander.
    "gluoncv_512": HeadLayout(
        ((512, 512), (512, 512), (256, 256), (256, 256)),
        AnchorLayout(
            (51.2, 102.4, 189.4, 276.4, 363.52, 450.6, 492),
            _GLUONCV_RATIOS,
            (16, 32, 64, 128, 256, 512),
            "gluoncv",
        ),
        activation="relu",
        epsilon=1e-3,
    ),
    "gluoncv_300": HeadLayout(
        ((256, 256), (256, 256), (128, 128), (128, 128)),
        AnchorLayout((21, 45, 99, 153, 207, 261, 315), _GLUONCV_RATIOS, (8, 16, 32, 64, 100, 300), "gluoncv"),
        activation="relu",
        epsilon=1e-3,
    ),
    "gluoncv_lite_300": HeadLayout(
        EXTRAS,
        AnchorLayout(
            (60, 105, 150, 195, 240, 285, 300),
            (_NARROW, *[_WIDE] * 5),
            (16, 30, 60, 100, 150, 300),
            "gluoncv_lite",
        ),
        activation="relu",
        epsilon=1e-3,
        kernel=1,
    ),
}
"""Layouts by the name of the head."""
