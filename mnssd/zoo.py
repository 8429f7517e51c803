"""Networks by name, and trained networks from their run folders.

Names are ``HEAD_SIZE_NETWORK[_WIDTH]`` for detectors (``ssd_300_mobilenet_v2``,
``ssdlite_480x320_mobilenet_v1_0.5``) and ``NETWORK[_WIDTH]`` for classifiers (``mobilenet_v2_0.75``).
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type, Union

from .errors import OptionError, WeightsError
from .nn.backbones import backbones
from .nn.choices import ACTIVATIONS, HEADS, SHORTCUTS
from .nn.spec import ClassifierSpec, DetectorSpec, NetworkSpec, S
from .options import format_size, parse_yaml, unknown_name

_log = logging.getLogger(__name__)

SIZES = ("300", "320", "512")
"""Input sizes of detectors that `list_models` lists."""

CONFIG_FILE = "config.yaml"
BEST_FILE = "best.params"

WIDEST = 16.0
"""Largest width multiplier: a larger one comes from a damaged file, as it means more than 10^9 weights."""


def build_backbone(
    network: str,
    width: float = 1.0,
    classes: int = 1000,
    shortcut: str = SHORTCUTS[0],
    activation: str = ACTIVATIONS[0],
    variant: Optional[Mapping[str, Any]] = None,
) -> Any:
    """Uninitialized classifier of a registered backbone.

    Raises
    ------
    OptionError
        For an unknown network, or an option or `variant` that the network does not take.
    """
    backbone = backbones[network]
    if not 0 < width <= WIDEST:
        raise OptionError(f"width: expected a multiplier above 0, at most {WIDEST:g}, got {width}")
    if classes < 1:
        raise OptionError(f"classes: expected at least 1, got {classes}")
    options = {"shortcut": shortcut, "activation": activation}
    defaults = {"shortcut": SHORTCUTS[0], "activation": ACTIVATIONS[0]}
    for name, value in options.items():
        choices = backbone.options.get(name, (defaults[name],))
        if value not in choices:
            raise OptionError(f"{name}: {network} takes {' or '.join(choices)}, got {value!r}")
    _check_variant(network, variant or {})
    chosen = {name: options[name] for name in backbone.options}
    try:
        return backbone.build(width, classes, **chosen, **(variant or {}))
    except ValueError as error:
        raise OptionError(f"{network}: {error}") from error


def _check_variant(network: str, variant: Mapping[str, Any]) -> None:
    """Raise OptionError for an unknown name or a value of another type than the default."""
    known = backbones[network].variants
    if not isinstance(variant, Mapping):
        raise OptionError(f"{network}: variant: expected names and values, got {variant!r}")
    for name, value in variant.items():
        if name not in known:
            raise OptionError(f"{network}: {unknown_name('variant', str(name), known)}")
        kind = type(known[name])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise OptionError(f"{network}: {name}: expected a value like {known[name]!r}, got {value!r}")


def build_classifier(spec: NetworkSpec) -> Any:
    """Uninitialized classifier from its structure; raises OptionError if there is no such classifier."""
    from .nn.resize import set_channels

    net = build_backbone(
        spec.network, spec.width, len(spec.classes), spec.shortcut, spec.activation, spec.variant
    )
    try:
        set_channels(net, spec.channels)
    except ValueError as error:
        raise OptionError(str(error)) from error
    return net


def build_detector(spec: DetectorSpec) -> Any:
    """Uninitialized `nn.SSD` from its structure; raises OptionError if there is no such detector."""
    from . import nn
    from .nn.resize import set_channels

    backbone = build_backbone(spec.network, spec.width, 1, spec.shortcut, spec.activation, spec.variant)
    taps = getattr(backbone, "taps", backbones[spec.network].taps)
    try:
        net = nn.SSD(backbone, spec.classes, spec.size, spec.head, taps)
        set_channels(net.heads, spec.channels)
    except ValueError as error:
        raise OptionError(str(error)) from error
    return net


def list_models(pattern: str = "*") -> List[str]:
    """Names of networks that match a shell pattern; `get_model` takes other sizes and widths, too.

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
    weights: Optional[str] = None,
    **kwargs: Any,
) -> Any:
    """Make a network by name: an `nn.SSD`, or the Gluon block of a classifier.

    Parameters
    ----------
    name : str
        Such as ``'ssd_300_mobilenet_v2'`` or ``'mobilenet_v2_0.5'``; see `list_models`.
    classes : sequence of str, or int
        Class names of a detector (default: the 20 of Pascal VOC); names or number of a classifier's (default:
        1000).
    pretrained_backbone : str, optional
        Another name for `weights`.
    weights : str, optional
        What to start from; the network is then initialized. ``'imagenet'``, the best published weights for
        the network (random ones, with a warning, if there are none); a name that `mnssd weights` lists;
        ``'none'`` for random weights; or a file, see `weights.load_backbone`. The network then has the
        options and the variant that the weights need. The log tells which arrays were used, as a warning if
        some were not, other than a classifier's last layer for a detector.
    **kwargs
        Options and variant of the backbone: for mobilenet_v2 ``shortcut``, ``divisor``, ``depth`` and
        ``output_bias``; for mobilenet_v1 ``activation``, ``divisor`` and ``last_conv``.

    Raises
    ------
    OptionError
        For an unknown name (similar ones are listed) or option.
    WeightsError
        If the weights cannot be used.
    DownloadError
        If they have to be downloaded and cannot.
    """
    head, size, network, width = parse_name(name)
    _check_options(name, network, kwargs)
    if weights is not None and pretrained_backbone is not None:
        raise OptionError(f"{name}: weights and pretrained_backbone are the same; give one of them")
    start = weights if weights is not None else pretrained_backbone
    path = _find_weights(start, network, width, kwargs.get("activation", ""))
    count = 1000 if classes is None else classes if isinstance(classes, int) else len(classes)
    if path is not None:
        from .weights.structure import needed_by

        kwargs = {**needed_by(path, network, width, None if head else count), **kwargs}
    variant = {option: kwargs.pop(option) for option in backbones[network].variants if option in kwargs}
    if head:
        names = _detector_classes(name, classes)
        net = build_detector(DetectorSpec(names, network, width, size, head=head, variant=variant, **kwargs))
    else:
        net = build_backbone(network, width, count, variant=variant, **kwargs)
    if start is not None:
        initialize(net)
    if path is not None:
        known = net.classes if head else None if isinstance(classes, int) else classes
        _load(net.heads if head else net, path, bool(head), known)
    return net


def _check_options(name: str, network: str, options: Mapping[str, Any]) -> None:
    """Raise OptionError for a name that is neither an option nor a variant of the backbone."""
    known = [*backbones[network].options, *backbones[network].variants]
    for option in options:
        if option not in known:
            raise OptionError(f"{name}: {unknown_name('option', option, known)}")


def _detector_classes(name: str, classes: Union[int, Sequence[str], None]) -> Tuple[str, ...]:
    """Class names of a detector; by default those of Pascal VOC."""
    if isinstance(classes, (int, str)):
        raise OptionError(f"{name}: classes: expected a list of class names, got {classes!r}")
    if classes is not None:
        return tuple(classes)
    from .data.formats.voc import VOC_CLASSES

    return tuple(VOC_CLASSES)


def _load(net: Any, path: str, is_detector: bool, classes: Optional[Sequence[str]]) -> None:
    """Load weights and log which were used, as a warning if some were not that the network could need."""
    from .weights import load_backbone

    report = load_backbone(net, path, classes)
    unused = [name for name in report.unused if not (is_detector and name.startswith("output."))]
    partly = report.missing or report.mismatched or report.left_out or unused
    for line in report.lines():
        _log.log(logging.WARNING if partly else logging.INFO, line)


def _find_weights(weights: Optional[str], network: str, width: float, activation: str) -> Optional[str]:
    """Path of the weights that a name means, downloaded if necessary; None for random ones."""
    from .weights.published import choose_weights, weights_path

    choice = choose_weights(weights, network, width, activation)
    if choice.note:
        _log.log(logging.INFO if choice.weights else logging.WARNING, choice.note)
    return weights_path(choice.weights) if choice.weights else None


def canonical_name(name: str, width: Optional[float] = None, size: Optional[Tuple[int, int]] = None) -> str:
    """Name of the same network with another width multiplier or, for a detector, another input size."""
    parts = parse_name(name)
    multiplier = parts.width if width is None else width
    network = parts.network + (f"_{multiplier:g}" if multiplier != 1 else "")
    return f"{parts.head}_{format_size(size or parts.size)}_{network}" if parts.head else network


class ModelName(NamedTuple):
    """A network's name in parts; `head` is empty for a classifier, whose `size` is ``(0, 0)``."""

    head: str
    size: Tuple[int, int]
    network: str
    width: float


def parse_name(name: str) -> ModelName:
    """Parts of a network's name; raises OptionError if there is no such network.

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
    """Initialize a network that starts without weights.

    Gaussian with variance 2 / fan-in (He et al. 2015); fan-in because MXNet computes the fan-out of a
    depthwise convolution as if every output read every channel. A block's `residual_gamma` starts at 0, so
    that the network starts shallow (Goyal et al. 2017, section 5.1; measured in benchmarks/SHAPES.md).
    """
    import mxnet as mx

    def zero_residual_gamma(block: Any) -> None:
        if getattr(block, "residual_gamma", None) is not None:
            block.residual_gamma.init = mx.init.Zero()

    net.apply(zero_residual_gamma)
    net.initialize(mx.init.Xavier("gaussian", "in", 2), ctx=ctx)


def load_detector(path: str, ctx: Any = None) -> Any:
    """Trained detector (`nn.SSD`) from its run folder (its best weights), or from a parameter file in one.

    Raises
    ------
    WeightsError
        If a file is missing or invalid; the message names it.
    """
    from .weights import load_strict

    net, _, weights = _build_from_run(path, DetectorSpec)
    net.anchor_boxes.initialize(ctx=ctx)
    load_strict(net.heads, weights, ctx)
    return net


def load_classifier(path: str, ctx: Any = None) -> Tuple[Any, ClassifierSpec]:
    """Trained classifier and its structure; see `load_detector`."""
    from .weights import load_strict

    net, spec, weights = _build_from_run(path, ClassifierSpec)
    load_strict(net, weights, ctx)
    return net, spec


def _build_from_run(path: str, kind: Type[S]) -> Tuple[Any, S, str]:
    """Network without weights, its structure, and the parameter file to load."""
    is_folder = os.path.isdir(path)
    folder, weights = (path, os.path.join(path, BEST_FILE)) if is_folder else (os.path.dirname(path), path)
    if not os.path.exists(weights):
        if not os.path.exists(path):
            raise WeightsError(f"{path}: no such run folder or parameter file")
        raise WeightsError(f"{weights}: missing; it is written after the first validation of a run")
    config = os.path.join(folder, CONFIG_FILE)
    spec = read_spec(config, kind)
    try:
        net = build_detector(spec) if isinstance(spec, DetectorSpec) else build_classifier(spec)
        return net, spec, weights
    except (OptionError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(f"{config}: not the configuration of a {kind.section} run ({error})") from error


def read_spec(path: str, kind: Type[S]) -> S:
    """Structure of a network from a run's ``config.yaml``; `kind` is `DetectorSpec` or `ClassifierSpec`.

    Raises WeightsError if the file is missing, or is not the configuration of such a run.
    """
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            return kind.from_dict(parse_yaml(file.read(), ("classes",))[kind.section])
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror}; keep a parameter file beside the {CONFIG_FILE} of its run"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not the configuration of a {kind.section} run ({error!r})") from error


def find_variant(
    network: str,
    width: float,
    classes: Optional[int],
    kind: Type[NetworkSpec],
    run: Optional[str],
    weights: Optional[str],
) -> Dict[str, Any]:
    """The variant of a backbone to train: that of `run`, else the one that the file `weights` needs.

    `classes` is the number of classes of a classifier; None for a detector.

    Raises
    ------
    WeightsError
        If the run or the file cannot be read, or the file holds another network.
    """
    if run:
        return read_spec(os.path.join(run, CONFIG_FILE), kind).variant
    if not weights:
        return {}
    from .weights.structure import variant_for

    return variant_for(weights, network, width, classes)


def read_channels(run: Optional[str], kind: Type[NetworkSpec]) -> Dict[str, int]:
    """Channel counts of a run's network that pruning changed, see `read_spec`; empty without a run."""
    return read_spec(os.path.join(run, CONFIG_FILE), kind).channels if run else {}
