"""Names -> networks, and a trained detector from its run folder.

Names read ``HEAD_SIZE_NETWORK[_WIDTH]`` for detectors (``ssd_300_mobilenet_v2``,
``ssdlite_480x320_mobilenet_v1_0.5``) and ``NETWORK[_WIDTH]`` for classifiers (``mobilenet_v2_0.75``).
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type, TypeVar, Union

from .errors import OptionError, WeightsError
from .nn.backbones import backbones
from .options import unknown_name

_log = logging.getLogger(__name__)

S = TypeVar("S", bound="_Spec")

HEADS = ("ssd", "ssdlite")  # as nn.ssd.HEADS, which would load MXNet; a test compares them
SIZES = ("300", "320", "512")

CONFIG_FILE = "config.yaml"
BEST_FILE = "best.params"


class _Spec:
    """To plain values and back; what both kinds of network have in common."""

    def as_dict(self) -> Dict[str, Any]:
        """Plain lists, numbers and texts, for YAML and JSON."""
        values = vars(self).items()  # a dataclass without slots
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values}

    @classmethod
    def from_dict(cls: Type[S], values: Mapping[str, Any]) -> S:
        """The inverse of `as_dict`."""
        values = dict(values)
        values["classes"], values["size"] = tuple(values["classes"]), tuple(values["size"])
        return cls(**values)


WIDEST = 16.0
"""Width multipliers above it are taken for a damaged file: such a network has a thousand million weights."""


@dataclass(frozen=True)
class DetectorSpec(_Spec):
    """Everything that decides a detector's structure; it is stored with every run and export."""

    classes: Tuple[str, ...]
    network: str = "mobilenet_v2"
    width: float = 1.0
    size: Tuple[int, int] = (300, 300)
    head: str = "ssd"
    shortcut: str = "identity"
    activation: str = "relu"
    channels: Mapping[str, int] = field(default_factory=dict)  # of pruned layers, see `nn.resize`


@dataclass(frozen=True)
class ClassifierSpec(_Spec):
    """Everything that decides a classifier's structure and input; it is stored with every run."""

    classes: Tuple[str, ...]
    network: str = "mobilenet_v2"
    width: float = 1.0
    size: Tuple[int, int] = (224, 224)
    shortcut: str = "identity"
    activation: str = "relu"
    val_crop: float = 1.0
    channels: Mapping[str, int] = field(default_factory=dict)


def build_classifier(spec: ClassifierSpec) -> Any:
    """The classifier that `spec` describes, not initialized."""
    net = build_backbone(spec.network, spec.width, len(spec.classes), spec.shortcut, spec.activation)
    _set_channels(net, spec.channels)
    return net


def _set_channels(block: Any, channels: Mapping[str, int]) -> None:
    from .nn.resize import set_channels

    try:
        set_channels(block, channels)
    except ValueError as error:
        raise OptionError(str(error)) from error


def build_backbone(
    network: str,
    width: float = 1.0,
    classes: int = 1000,
    shortcut: str = "identity",
    activation: str = "relu",
) -> Any:
    """A classifier, not initialized: `nn.MobileNetV1` or `nn.MobileNetV2`.

    Raises
    ------
    OptionError
        For an unknown network, or an option that the network does not have.
    """
    backbone = backbones[network]
    if not 0 < width <= WIDEST:
        raise OptionError(
            f"width {width}: a width multiplier is above 0, such as 0.5 or 1.0, and at most {WIDEST:g}"
        )
    if classes < 1:
        raise OptionError(f"classes {classes}: a classifier has at least 1")
    options = {}
    for name, value, default in (("shortcut", shortcut, "identity"), ("activation", activation, "relu")):
        choices = backbone.options.get(name, (default,))
        if value not in choices:
            raise OptionError(f"{name} {value!r}: {network} takes {' or '.join(choices)}")
        if name in backbone.options:
            options[name] = value
    try:
        return backbone.build(width, classes, **options)
    except ValueError as error:
        raise OptionError(f"{network}: {error}") from error


def build_detector(spec: DetectorSpec) -> Any:
    """The detector that `spec` describes, not initialized: `nn.SSD`.

    Raises
    ------
    OptionError
        When there is no such detector.
    """
    from . import nn

    backbone = build_backbone(spec.network, spec.width, 1, spec.shortcut, spec.activation)
    try:
        net = nn.SSD(backbone, spec.classes, spec.size, spec.head, backbones[spec.network].taps)
    except ValueError as error:
        raise OptionError(str(error)) from error
    _set_channels(net.heads, spec.channels)
    return net


def list_models(pattern: str = "*") -> List[str]:
    """Names of networks; `get_model` takes other sizes and widths too.

    Parameters
    ----------
    pattern : str
        Shell pattern, such as ``'ssdlite_*'``.

    Examples
    --------
    >>> list_models("ssdlite_320_*_0.75")
    ['ssdlite_320_mobilenet_v1_0.75', 'ssdlite_320_mobilenet_v2_0.75']
    """
    classifiers = [b.name + ("" if w == 1 else f"_{w}") for b in backbones for w in b.widths]
    names = classifiers + [f"{h}_{s}_{c}" for h in HEADS for s in SIZES for c in classifiers]
    return fnmatch.filter(names, pattern)


def get_model(
    name: str,
    classes: Union[int, Sequence[str], None] = None,
    pretrained_backbone: Optional[str] = None,
    **kwargs: Any,
) -> Any:
    """Make a network by name.

    Parameters
    ----------
    name : str
        See the module; for example ``'ssd_300_mobilenet_v2'`` or ``'mobilenet_v2_0.5'``.
    classes : sequence of str, or int
        Class names of a detector (default: Pascal VOC's 20), their number for a classifier (default 1000).
    pretrained_backbone : str, optional
        A ``.params`` file to load the backbone from, see `weights.load_backbone`; the network is then
        initialized. What became of the arrays is logged, as a warning unless the whole backbone was filled.
    **kwargs
        ``shortcut`` (mobilenet_v2) or ``activation`` (mobilenet_v1).

    Returns
    -------
    mnssd.nn.SSD, mnssd.nn.MobileNetV1 or mnssd.nn.MobileNetV2

    Raises
    ------
    OptionError
        For an unknown name (near ones are listed) or option.
    WeightsError
        When `pretrained_backbone` cannot be used.
    """
    head, size, network, width = parse_name(name)
    allowed = list(backbones[network].options)
    for option in kwargs:
        if option not in allowed:
            raise OptionError(f"{name}: {unknown_name('option', option, allowed)}")
    if head:
        names = _voc_classes() if classes is None else classes
        if isinstance(names, (int, str)):
            raise OptionError(f"{name}: classes is the list of class names of a detector, not {names!r}")
        spec = DetectorSpec(tuple(names), network, width, size, head, **kwargs)
        net = build_detector(spec)
    else:
        count = 1000 if classes is None else classes if isinstance(classes, int) else len(classes)
        net = build_backbone(network, width, count, **kwargs)
    if pretrained_backbone:
        initialize(net)
        _load_backbone(net.heads if head else net, pretrained_backbone)
    return net


def canonical_name(name: str, width: Optional[float] = None, size: Optional[Tuple[int, int]] = None) -> str:
    """The name of the same network at another width, and, for a detector, another ``(width, height)``.

    Raises
    ------
    OptionError
        For an unknown name.
    """
    parts = parse_name(name)
    multiplier = parts.width if width is None else width
    network = parts.network + (f"_{multiplier:g}" if multiplier != 1 else "")
    if not parts.head:
        return network
    sides = size or parts.size
    shown = str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"
    return f"{parts.head}_{shown}_{network}"


class ModelName(NamedTuple):
    """A network's name in parts; `head` is empty for a classifier, whose `size` is ``(0, 0)``."""

    head: str
    size: Tuple[int, int]
    network: str
    width: float


def parse_name(name: str) -> ModelName:
    """Parts of a network's name.

    Raises
    ------
    OptionError
        If there is no such network.

    Examples
    --------
    >>> parse_name("ssdlite_480x320_mobilenet_v1_0.5")
    ModelName(head='ssdlite', size=(480, 320), network='mobilenet_v1', width=0.5)
    """
    networks = "|".join(sorted(map(re.escape, backbones.names()), key=len, reverse=True))
    heads = "|".join(sorted(HEADS, key=len, reverse=True))
    match = re.fullmatch(rf"(?:({heads})_(\d+)(?:x(\d+))?_)?({networks})(?:_(\d*\.?\d+))?", name)
    if match is None:
        raise OptionError(unknown_name("network", name, list_models()))
    head, width, height, network, multiplier = match.groups()
    size = (int(width or 0), int(height or width or 0))
    return ModelName(head or "", size, network, float(multiplier or 1.0))


def initialize(net: Any, ctx: Any = None) -> None:
    """Initial values for a network that starts from nothing.

    Gaussian with variance 2 / fan-in (He et al. 2015). Fan-in, because MXNet counts the fan-out of a
    depthwise convolution as if every output saw every channel. The last gamma of a bottleneck with a
    shortcut is 0, so that the network begins shallow (Goyal et al. 2017, section 5.1); what that gave stands
    in benchmarks/SHAPES.md.
    """
    import mxnet as mx

    def zero_residual_gamma(block: Any) -> None:
        gamma = getattr(block, "residual_gamma", None)
        if gamma is not None:
            gamma.init = mx.init.Zero()

    net.apply(zero_residual_gamma)
    net.initialize(mx.init.Xavier("gaussian", "in", 2), ctx=ctx)


def load_detector(path: str, ctx: Any = None) -> Any:
    """A trained detector, from its run folder or from a parameter file inside one.

    Parameters
    ----------
    path : str
        ``runs/NAME`` (its best weights) or ``runs/NAME/best.params``.

    Returns
    -------
    mnssd.nn.SSD
        With its classes, size and weights.

    Raises
    ------
    WeightsError
        When something is missing or does not fit; it names the file.
    """
    from .weights import load_exactly

    folder, weights = _run_files(path)
    config = os.path.join(folder, CONFIG_FILE)
    spec = read_spec(config)
    try:
        net = build_detector(spec)
    except (OptionError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(f"{config}: not the configuration of a detector's run ({error})") from error
    net.anchor_boxes.initialize(ctx=ctx)
    load_exactly(net.heads, weights, ctx)
    return net


def load_classifier(path: str, ctx: Any = None) -> Tuple[Any, ClassifierSpec]:
    """A trained classifier, from its run folder or from a parameter file inside one.

    Raises
    ------
    WeightsError
        When something is missing or does not fit; it names the file.
    """
    from .weights import load_exactly

    folder, weights = _run_files(path)
    config = os.path.join(folder, CONFIG_FILE)
    spec = read_classifier_spec(config)
    try:
        net = build_classifier(spec)
    except (OptionError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(f"{config}: not the configuration of a classifier's run ({error})") from error
    load_exactly(net, weights, ctx)
    return net, spec


def _run_files(path: str) -> Tuple[str, str]:
    """The run folder, and the parameter file in it."""
    is_folder = os.path.isdir(path)
    folder, weights = (path, os.path.join(path, BEST_FILE)) if is_folder else (os.path.dirname(path), path)
    if not os.path.exists(weights):
        if not os.path.exists(path):
            raise WeightsError(f"{path}: no such run folder or parameter file")
        raise WeightsError(f"{weights}: missing; a run folder holds it after its first validation")
    return folder, weights


def read_spec(path: str) -> DetectorSpec:
    """The detector's structure from a run's ``config.yaml``.

    Raises
    ------
    WeightsError
        When the file is missing or is not a run's.
    """
    spec: DetectorSpec = _read_spec(path, "detector", DetectorSpec)
    return spec


def read_classifier_spec(path: str) -> ClassifierSpec:
    """The same of a classifier's run."""
    spec: ClassifierSpec = _read_spec(path, "classifier", ClassifierSpec)
    return spec


def read_channels(run: Optional[str], what: str) -> Dict[str, int]:
    """Channel counts of a run's network that differ from its name's; none without a run.

    Raises
    ------
    WeightsError
        When it is no run of `what`: a detector, or a classifier.
    """
    if not run:
        return {}
    kind = DetectorSpec if what == "detector" else ClassifierSpec
    return dict(_read_spec(os.path.join(run, CONFIG_FILE), what, kind).channels)


def _read_spec(path: str, what: str, kind: Any) -> Any:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return kind.from_dict(yaml.safe_load(file)[what])
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror}; weights are read together with the {CONFIG_FILE} of their run folder"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not the configuration of a {what}'s run ({error!r})") from error


def _load_backbone(network: Any, path: str) -> None:
    from .weights import load_backbone

    report = load_backbone(network, path)
    partly = any("features." in name for name in report.missing + report.mismatched)
    for line in report.lines():
        _log.log(logging.WARNING if partly else logging.INFO, line)


def _voc_classes() -> Tuple[str, ...]:
    from .data.formats.voc import VOC_CLASSES

    return tuple(VOC_CLASSES)
