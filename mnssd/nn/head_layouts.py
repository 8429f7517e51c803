"""Structures of detection heads, as data: extra layers, predictors and anchors. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

_NARROW = (1.0, 2.0, 0.5)
_WIDE = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)

_GENERATORS = ("map", "gluoncv", "gluoncv_lite")


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
    """

    sizes: Tuple[float, ...]
    ratios: Tuple[Tuple[float, ...], ...]
    steps: Tuple[float, ...] = ()
    generator: str = _GENERATORS[0]


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
        Side of the predictors' convolutions.
    """

    extras: Tuple[Tuple[int, int], ...]
    anchors: AnchorLayout
    convolution: str = "plain"
    activation: str = "relu6"
    epsilon: float = 1e-5
    kernel: int = 3


EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""As in TensorFlow's released MobileNet SSDs, chuanqi305's, and GluonCV's ``lite``."""

PAPER_ANCHORS = AnchorLayout((0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0), (_NARROW, *[_WIDE] * 5))
"""SSD paper (Liu et al. 2016), section 2.2, with s_min 0.2 and s_max 0.95 as in TensorFlow's released
MobileNet SSDs."""

_GLUONCV_RATIOS = (_NARROW, *[_WIDE] * 3, *[_NARROW] * 2)

LAYOUTS: Dict[str, HeadLayout] = {
    "ssd": HeadLayout(EXTRAS, PAPER_ANCHORS),
    "ssdlite": HeadLayout(EXTRAS, PAPER_ANCHORS, convolution="separable"),
    "ssdfactorized": HeadLayout(EXTRAS, PAPER_ANCHORS, convolution="factorized"),
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
