"""Backbones by name: one file each, registered here; a plugin registers more.

Importing this package, and listing the names, imports neither MXNet nor NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union

from ...imagenet import IMAGENET_MEAN, IMAGENET_STD
from ...registry import Registry
from ..choices import DEFAULTS

INPUT_VARIANTS: Mapping[str, Any] = {
    "rotated": False, "pixel_mean": IMAGENET_MEAN, "pixel_std": IMAGENET_STD,
}  # fmt: skip
"""Arguments of `input_layer.input_layer` among the variants of a backbone (`Backbone.variants`)."""


@dataclass(frozen=True)
class Tap:
    """A feature map that a detector reads, with `stride` input pixels per position.

    `path` is ``'features.I'`` for the output of layer `I`, or ``'features.I.CHAIN.J'`` for the output of
    layer `J` of the sequential block `CHAIN` inside it.
    """

    path: str
    stride: int


@dataclass(frozen=True)
class Conversion:
    """How to convert a checkpoint of another library to the parameter names of a backbone.

    Attributes
    ----------
    source : str
        Library and network, as in ``'timm MobileNetV1'``.
    matches : callable
        Whether the arrays of a file, by name, are such a checkpoint.
    layer_name : callable
        Name of a layer here for a layer there, such as ``'features.0'`` for ``'conv_stem'``; None if unknown.
        ``weight`` and ``bias`` of a BatchNorm become ``gamma`` and ``beta``.
    adapt : callable, optional
        Changes the renamed arrays where the networks differ in structure; returns them.
    pixel_mean, pixel_std : float or three floats, optional
        Pixels in 0..1 were normalized by these in training; ImageNet's mean and standard deviation if None.
        `features.0` must then be the first convolution and `features.1` its BatchNorm.
    note : str
        For the user, as in ``'use --activation relu6'``.
    options : mapping of str to str
        Options of the backbone that the weights need, such as ``{"activation": "relu6"}``.
    gluon_prefix : callable, optional
        Prefix of the network among the arrays of a file with the names of Gluon's `collect_params`, in which
        an underscore precedes the parameter: ``PREFIXconv0_weight``. `layer_name` gets names without it;
        names that do not begin with it are unknown.
    """

    source: str
    matches: Callable[[Mapping[str, Any]], bool]
    layer_name: Callable[[str], Optional[str]]
    adapt: Optional[Callable[[Dict[str, Any]], Dict[str, Any]]] = None
    pixel_mean: Union[float, Sequence[float], None] = None
    pixel_std: Union[float, Sequence[float], None] = None
    note: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    gluon_prefix: Optional[Callable[[Mapping[str, Any]], Optional[str]]] = None


@dataclass(frozen=True)
class Structure:
    """Width of a network, and the arguments of `Backbone.build` by which it differs from the usual one.

    `variant` has arguments of `Backbone.variants`, `options` those of `Backbone.options` that are known; the
    text leaves out the defaults of the latter.
    """

    width: float
    variant: Dict[str, Any] = field(default_factory=dict)
    options: Dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        unusual = {name: value for name, value in self.options.items() if value != DEFAULTS[name]}
        parts = [
            name.replace("_", " ") + ("" if value is True else f" {_shown(value)}")
            for name, value in {**unusual, **self.variant}.items()
        ]
        return f"x{self.width:g}" + (f" ({', '.join(parts)})" if parts else "")


def _shown(value: Any) -> str:
    """A number, text or several numbers for the user."""
    values = value if isinstance(value, (tuple, list)) else [value]
    return " ".join(f"{part:.3g}" if isinstance(part, float) else str(part) for part in values)


Recognize = Callable[[Mapping[str, Tuple[int, ...]], Optional[float], Optional[int]], Optional[Structure]]


@dataclass(frozen=True)
class Backbone:
    """A classification network that detectors can be built on.

    Attributes
    ----------
    build : callable
        ``build(width, classes, **options, **variant)`` returns an uninitialized Gluon `HybridBlock` that maps
        ``(N, 3, H, W)`` images to ``(N, classes)`` logits. Its child `features` is a `HybridSequential`, and
        its child `output` holds the one layer whose weights depend on the classes. It raises ValueError if
        the network cannot be built.
    taps : tuple of Tap
        Feature maps that detectors read, finest first; each head reads those of its strides, most of them 16
        and 32. If they depend on the variant, the block has an attribute `taps` of its own.
    options : mapping of str to tuple of str, or range
        Options that `build` takes, of `choices.ClassifierOptions`, and their values.
    widths : tuple of float
        Usual width multipliers; the first is the default.
    published : mapping of (float, int) to float
        Published ImageNet top-1 accuracy in percent by width and input size.
    weights : str
        Name of the default pretrained weights; empty if there are none.
    conversions : tuple of Conversion
        Checkpoints of other libraries that can be loaded.
    variants : mapping of str to value
        Further arguments of `build` and their defaults, for imported networks that differ from the usual one
        (``'divisor'``, ``'output_bias'``). Values are numbers, tuples of numbers, or True or False.
    recognize : callable, optional
        ``recognize(shapes, width, classes)`` returns the `Structure` of the network whose converted arrays
        have these shapes, or None if it is not such a network. `width` is tried first if it is not None.
        `classes` is that of the network to load them into; None for a detector, which ends at its taps.
    """

    name: str
    build: Callable[..., Any]
    taps: Tuple[Tap, ...]
    options: Mapping[str, Union[Tuple[str, ...], range]] = field(default_factory=dict)
    widths: Tuple[float, ...] = (1.0,)
    published: Mapping[Tuple[float, int], float] = field(default_factory=dict)
    weights: str = ""
    conversions: Tuple[Conversion, ...] = ()
    variants: Mapping[str, Any] = field(default_factory=dict)
    recognize: Optional[Recognize] = None


backbones: Registry[Backbone] = Registry("network", "mnssd.nn.backbones")
