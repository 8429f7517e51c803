"""Options of networks: those of the backbones as dataclass fields, and the values of others.

An option is added here, in the backbones that take it (`Backbone.options`), and nowhere else: commands, run
folders and exports read the fields. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict

from ..options import option
from .head_layouts import LAYOUTS

HEADS = tuple(LAYOUTS)
"""Detection heads and extra layers: plain convolutions (Liu et al. 2016), depthwise separable ones
(MobileNetV2 paper, section 6.2), 3x3 convolutions factorized into 3x1 and 1x3 (`layers.add_factorized`), a
feature pyramid (`necks.PyramidNeck`), and those of GluonCV's pretrained networks."""

SHORTCUTS = ("identity", "projection", "projection-all")
"""Shortcuts of `layers.LinearBottleneck`; the first is the paper's."""

ACTIVATIONS = ("relu", "relu6")
"""Activations that `layers.activation` makes."""

CLASSIFIERS = ("dense", "conv")
"""Last layers of MobileNetV1; the first is the paper's."""

EXPANSIONS = range(1, 33)
"""Expansion factors of MobileNetV2: a larger one comes from a damaged file."""


@dataclass(frozen=True)
class BackboneOptions:
    """Options of the backbones of detectors; `Backbone.options` says which backbone takes which."""

    shortcut: str = option(
        "identity", "shortcuts of mobilenet_v2; projection adds some where channels differ, projection-all "
        "also at stride 2", choices=SHORTCUTS,
    )  # fmt: skip
    activation: str = option("relu", "activation of mobilenet_v1", choices=ACTIVATIONS)
    expansion: int = option(6, "expansion factor t of the bottlenecks of mobilenet_v2", metavar="T")


@dataclass(frozen=True)
class ClassifierOptions(BackboneOptions):
    """Options of the backbones of classifiers."""

    classifier: str = option(
        "dense", "last layers of mobilenet_v1: pooling and dense; or 1x1 convolution to the classes, pooling "
        "and dense", choices=CLASSIFIERS,
    )  # fmt: skip


DEFAULTS: Dict[str, Any] = vars(ClassifierOptions())
"""All options of backbones with their defaults."""

RESHAPING = ("expansion",)
"""Options that change the shapes of most weights: published weights have the defaults."""


def backbone_options(holder: Any) -> Dict[str, Any]:
    """Values by name of the backbone options among the attributes of `holder`, a spec or training options."""
    return {f.name: getattr(holder, f.name) for f in fields(ClassifierOptions) if hasattr(holder, f.name)}
