"""Backbones by name: one file each, registered here; a plugin registers more.

Importing this package, and listing the names, imports neither MXNet nor NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Tuple

from ...registry import Registry

SHORTCUTS = ("identity", "projection")
"""Values of the option ``shortcut``, see `nn.layers.LinearBottleneck`; the first is the default."""

ACTIVATIONS = ("relu", "relu6")
"""Values of the option ``activation``, see `nn.layers.activation`; the first is the default."""


@dataclass(frozen=True)
class Tap:
    """A feature map that a detector reads.

    Attributes
    ----------
    path : str
        ``'features.I'`` for the output of layer `I`, or ``'features.I.CHAIN.J'`` for the output of layer `J`
        of the sequential block `CHAIN` inside it.
    stride : int
        Input pixels per position of the map.
    """

    path: str
    stride: int


@dataclass(frozen=True)
class Backbone:
    """A classification network that detectors can be built on.

    Attributes
    ----------
    name : str
        As registered.
    build : callable
        ``build(width, classes, **options)`` returns an uninitialized Gluon `HybridBlock` that maps
        ``(N, 3, H, W)`` images to ``(N, classes)`` logits. Its child `features` is a `HybridSequential`, and
        its child `output` holds the one layer whose weights depend on the classes. It raises ValueError if
        the network cannot be built.
    taps : tuple of Tap
        The two feature maps that SSD reads, larger one first.
    options : mapping of str to tuple of str
        Options that `build` takes and their values; names are ``'shortcut'`` and ``'activation'``.
    widths : tuple of float
        Usual width multipliers; the first is the default.
    published : mapping of (float, int) to float
        Published ImageNet top-1 accuracy in percent by width and input size.
    weights : str
        Name of the default pretrained weights; empty if there are none.
    """

    name: str
    build: Callable[..., Any]
    taps: Tuple[Tap, ...]
    options: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    widths: Tuple[float, ...] = (1.0,)
    published: Mapping[Tuple[float, int], float] = field(default_factory=dict)
    weights: str = ""


backbones: Registry[Backbone] = Registry("network", "mnssd.nn.backbones")
