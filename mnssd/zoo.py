"""Networks by name, and trained networks from their run folders.

Names are ``HEAD_SIZE_NETWORK[_WIDTH]`` for detectors (``ssd_300_mobilenet_v2``,
``ssdlite_480x320_mobilenet_v1_0.5``) and ``NETWORK[_WIDTH]`` for classifiers (``mobilenet_v2_0.75``), or
those of GluonCV's SSD networks with MobileNet (``ssd_512_mobilenet1.0_voc``).
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type, Union

from .errors import OptionError, WeightsError
from .nn.backbones import backbones
from .nn.choices import DEFAULTS, HEADS, RESHAPING, BackboneOptions, ClassifierOptions, backbone_options
from .nn.gluoncv_models import GLUONCV_MODELS
from .nn.head_layouts import LAYOUTS, HeadLayout
from .nn.spec import ClassifierSpec, DetectorSpec, NetworkSpec, S
from .nn.variants import check_variant
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
    variant: Optional[Mapping[str, Any]] = None,
    **options: Any,
) -> Any:
    """Uninitialized classifier of a registered backbone; `options` are fields of `ClassifierOptions`.

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
    for name, value in options.items():
        if name not in DEFAULTS:
            raise OptionError(f"{network}: {unknown_name('option', name, DEFAULTS)}")
        choices: Sequence[Any] = backbone.options.get(name, (DEFAULTS[name],))
        if type(value) is not type(DEFAULTS[name]) or value not in choices:
            is_range = isinstance(choices, range)
            known = f"{choices[0]} to {choices[-1]}" if is_range else " or ".join(map(str, choices))
            raise OptionError(f"{name}: {network} takes {known}, got {value!r}")
    check_variant(network, variant or {})
    chosen = {name: options.get(name, DEFAULTS[name]) for name in backbone.options}
    try:
        return backbone.build(width, classes, **chosen, **(variant or {}))
    except ValueError as error:
        raise OptionError(f"{network}: {error}") from error


def build_classifier(spec: NetworkSpec) -> Any:
    """Uninitialized classifier from its structure; raises OptionError if there is no such classifier."""
    from .nn.resize import set_channels

    options = backbone_options(spec)
    net = build_backbone(spec.network, spec.width, len(spec.classes), spec.variant, **options)
    try:
        set_channels(net, spec.channels)
    except ValueError as error:
        raise OptionError(str(error)) from error
    return net


def build_detector(spec: DetectorSpec) -> Any:
    """Uninitialized `nn.SSD` from its structure; raises OptionError if there is no such detector."""
    from . import nn
    from .nn.resize import set_channels

    backbone = build_backbone(spec.network, spec.width, 1, spec.variant, **backbone_options(spec))
    taps = getattr(backbone, "taps", backbones[spec.network].taps)
    try:
        net = nn.SSD(backbone, spec.classes, spec.size, spec.layout or spec.head, taps)
        set_channels(net.heads, spec.channels)
    except ValueError as error:
        raise OptionError(str(error)) from error
    net.spec = spec
    return net


def list_models(pattern: str = "*") -> List[str]:
    """Names of networks that match a shell pattern; `get_model` takes other sizes and widths, too.

    Examples
    --------
    >>> list_models("ssdlite_320_*_0.75")
    ['ssdlite_320_mobilenet_v1_0.75', 'ssdlite_320_mobilenet_v2_0.75']
    """
    classifiers = [b.name + ("" if w == 1 else f"_{w}") for b in backbones for w in b.widths]
    heads = [name for name in HEADS if not LAYOUTS[name].anchors.steps]  # the others are for one size
    names = classifiers + [f"{h}_{s}_{c}" for h in heads for s in SIZES for c in classifiers]
    names += GLUONCV_MODELS
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
        As in `list_models`: ``'ssd_300_mobilenet_v2'``, ``'mobilenet_v2_0.5'``; any size and width.
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
        Options and variant of the backbone: ``shortcut``, ``expansion``, ``divisor``, ``depth`` and
        ``output_bias`` of mobilenet_v2; ``activation``, ``classifier`` (not of detectors), ``divisor`` and
        ``last_conv`` of mobilenet_v1; ``scale``, the width as in PaddlePaddle: ``int(c * scale)`` channels.

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
    width, kwargs = _checked_options(name, network, width, kwargs)
    if weights is not None and pretrained_backbone is not None:
        raise OptionError(f"{name}: weights and pretrained_backbone are the same; give one of them")
    start = weights if weights is not None else pretrained_backbone
    path = _find_weights(start, network, width, kwargs)
    count = 1000 if classes is None else classes if isinstance(classes, int) else len(classes)
    if path is not None:
        from .weights.structure import needed_by

        kwargs = {**needed_by(path, network, width, None if head else count, kwargs), **kwargs}
    variant = {option: kwargs.pop(option) for option in backbones[network].variants if option in kwargs}
    if head:
        names = _detector_classes(name, classes)
        net = build_detector(DetectorSpec(names, network, width, size, head=head, variant=variant, **kwargs))
    else:
        net = build_backbone(network, width, count, variant, **kwargs)
    if start is not None:
        initialize(net)
    if path is not None:
        _load(name, net.heads if head else net, path, bool(head), net.classes if head else classes)
    return net


def _checked_options(
    name: str, network: str, width: float, options: Dict[str, Any]
) -> Tuple[float, Dict[str, Any]]:
    """Width, and options and variant without `scale`, which means the width; OptionError for others."""
    if "scale" in options:
        scale = options.pop("scale")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise OptionError(f"{name}: scale: expected a number such as 0.5, got {scale!r}")
        if width not in (1.0, scale):
            raise OptionError(f"{name}: scale {scale:g} contradicts the width of the name; omit one of them")
        from .nn.layers import RELEASE_WIDTHS

        width, options = float(scale), {**({"divisor": 1} if scale in RELEASE_WIDTHS else {}), **options}
    kind = BackboneOptions if parse_name(name).head else ClassifierOptions
    own = [option for option in backbones[network].options if option in vars(kind())]
    known = [*own, *backbones[network].variants]
    for option in options:
        if option not in known:
            raise OptionError(f"{name}: {unknown_name('option', option, [*known, 'scale'])}")
    return width, options


def _detector_classes(name: str, classes: Union[int, Sequence[str], None]) -> Tuple[str, ...]:
    """Class names of a detector; by default those of Pascal VOC, or of the dataset in GluonCV's name."""
    if isinstance(classes, (int, str)):
        raise OptionError(f"{name}: classes: expected a list of class names, got {classes!r}")
    if classes is not None:
        return tuple(classes)
    if name in GLUONCV_MODELS:
        known = GLUONCV_MODELS[name].classes()
        if not known:
            raise OptionError(f"{name}: classes: expected a list of class names; this name means no dataset")
        return known
    from .data.formats.voc import VOC_CLASSES

    return tuple(VOC_CLASSES)


def _load(
    name: str, net: Any, path: str, is_detector: bool, classes: Union[int, Sequence[str], None]
) -> None:
    """Load weights and log which were used, as a warning if some were not that the network could need."""
    from .weights import load_backbone

    trained_on = GLUONCV_MODELS[name].classes() if name in GLUONCV_MODELS else None
    report = load_backbone(net, path, None if isinstance(classes, int) else classes, trained_on)
    unused = [name for name in report.unused if not (is_detector and name.startswith("output."))]
    partly = report.missing or report.mismatched or report.left_out or unused
    for line in report.lines():
        _log.log(logging.WARNING if partly else logging.INFO, line)


def _find_weights(
    weights: Optional[str], network: str, width: float, options: Mapping[str, Any]
) -> Optional[str]:
    """Path of the weights that a name means, downloaded if necessary; None for random ones."""
    from .weights.published import choose_weights, weights_path

    choice = choose_weights(weights, network, width, options.get("activation", ""), options=options)
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
    if name in GLUONCV_MODELS:
        model = GLUONCV_MODELS[name]
        return ModelName(model.head, (model.size, model.size), "mobilenet_v1", model.width)
    networks = "|".join(sorted(map(re.escape, backbones.names()), key=len, reverse=True))
    heads = "|".join(sorted(HEADS, key=len, reverse=True))
    match = re.fullmatch(rf"(?:({heads})_(\d+)(?:x(\d+))?_)?({networks})(?:_(\d*\.?\d+))?", name)
    if match is None:
        raise OptionError(unknown_name("network", name, list_models()))
    head, width, height, network, multiplier = match.groups()
    size = (int(width or 0), int(height or width or 0))
    return ModelName(head or "", size, network, float(multiplier or 1.0))


def initialize(net: Any, ctx: Any = None) -> None:
    """Initialize a network that starts without weights; see `nn.initialization`."""
    from .nn import initialization

    initialization.initialize(net, ctx)


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
        problem = f"{type(error).__name__}: {error}"  # the repr of a UnicodeDecodeError is the whole file
        raise WeightsError(f"{path}: not the configuration of a {kind.section} run ({problem})") from error


def find_variant(
    network: str,
    width: float,
    classes: Optional[int],
    kind: Type[NetworkSpec],
    run: Optional[str],
    weights: Optional[str],
    options: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """The variant of a backbone to train: that of `run`, else the one that the file `weights` needs.

    `classes` is the number of classes of a classifier; None for a detector. `options` are those of the
    backbone.

    Raises
    ------
    WeightsError
        If the run or the file cannot be read, or holds another network or one with other options.
    """
    given = options or {}
    if run:
        spec = read_spec(os.path.join(run, CONFIG_FILE), kind)
        for name in RESHAPING:
            value = getattr(spec, name)
            if given.get(name, value) != value:
                raise WeightsError(f"{run}: a network with --{name} {value}, not {given[name]}; use the same")
        return spec.variant
    if not weights:
        return {}
    from .weights.structure import variant_for

    return variant_for(weights, network, width, classes, given)


def read_layout(run: Optional[str]) -> Optional[HeadLayout]:
    """Layout of the heads of an imported detector in a run folder; None without a run, or of another one."""
    return read_spec(os.path.join(run, CONFIG_FILE), DetectorSpec).layout if run else None


def read_channels(run: Optional[str], kind: Type[NetworkSpec]) -> Dict[str, int]:
    """Channel counts of a run's network that pruning changed, see `read_spec`; empty without a run."""
    return read_spec(os.path.join(run, CONFIG_FILE), kind).channels if run else {}
