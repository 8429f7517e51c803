"""Loading of weight files into networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Sequence

import numpy as np

from ..errors import WeightsError
from .class_names import classes_of_run, match_classes
from .params import read_params
from .structure import read_network_file, recognize

LAST_LAYERS = ("output.", "class_predictors.", "box_predictors.")
"""Beginnings of the names in the layers that end a classifier or a detector's heads."""

PARAMETERS = ("weight", "bias", "gamma", "beta", "running_mean", "running_var")
"""Last parts of the names of a layer's arrays."""


@dataclass
class WeightsReport:
    """Names of the parameters and arrays when weights are loaded from `path`.

    Attributes
    ----------
    loaded, parameters : list
        Parameters that got an array from the file: their names and the parameters.
    unused : list of str
        Arrays in the file that are not in the network.
    missing : list of str
        Parameters that are not in the file; they keep their values.
    mismatched : list of str
        ``name (file SHAPE, network SHAPE)`` of parameters with another shape; they keep their values.
    left_out : list of str
        Parameters of the last layers that are in the file, but get another input than there, because layers
        before them were not loaded; they keep their values.
    notes : list of str
        What the conversion of the file changed.
    """

    path: str
    loaded: List[str] = field(default_factory=list)
    parameters: List[Any] = field(default_factory=list)
    unused: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    mismatched: List[str] = field(default_factory=list)
    left_out: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def lines(self) -> List[str]:
        """The report as text: the number of loaded arrays, notes, and the names of all others."""
        lines = [f"weights {self.path}: {len(self.loaded)} arrays loaded", *(f"  {n}" for n in self.notes)]
        for problem, names in (
            ("in the file but not in the network", self.unused),
            ("in the network but not in the file", self.missing),
            ("with another shape", self.mismatched),
            ("left out, because layers before them are not loaded", self.left_out),
        ):
            if names:
                shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
                lines.append(f"  {len(names)} {problem}: {shown}")
        return lines


def assign(block: Any, arrays: Mapping[str, np.ndarray], path: str, ctx: Any = None) -> WeightsReport:
    """Set the parameters of `block` to the arrays with their structural names.

    Parameters
    ----------
    block : mxnet.gluon.Block
        Initialized or not. Parameters without an array are unchanged; those of unknown shape accept any, see
        `infer_shapes`.
    arrays : mapping of str to numpy.ndarray
        As from `read_params`, with names as `block.save_parameters` writes them.
    path : str
        Where they came from, for the report.
    ctx : mxnet.Context, optional
        Context of parameters that are not initialized; defaults to the CPU.
    """
    import mxnet as mx

    report = WeightsReport(path)
    parameters = block._collect_params_with_prefix()
    report.unused = [name for name in arrays if name not in parameters]
    for name, parameter in parameters.items():
        if name not in arrays:
            report.missing.append(name)
            continue
        value = arrays[name]
        if not _fits(parameter, value):
            report.mismatched.append(f"{name} (file {value.shape}, network {parameter.shape})")
            continue
        parameter.shape = value.shape
        has_context = parameter._data is not None or parameter._deferred_init
        parameter._load_init(mx.nd.array(value, dtype=parameter.dtype), None if has_context else ctx)
        report.loaded.append(name)
        report.parameters.append(parameter)
    return report


def _fits(parameter: Any, value: np.ndarray) -> bool:
    """Whether an array has the shape of a parameter, in which 0 and -1 are unknown dimensions."""
    shape = parameter.shape
    if shape is None:
        return True
    return len(shape) == value.ndim and all(a in (0, -1, b) for a, b in zip(shape, value.shape))


def infer_shapes(network: Any) -> None:
    """Infer parameter shapes that Gluon leaves unknown until the first forward pass of ``(N, 3, H, W)``.

    Parameters of unknown shape would accept arrays of a network of another width.
    """
    from ..graph.symbol_graph import trace

    parameters = network.collect_params()
    if all(parameter.shape and min(parameter.shape) > 0 for parameter in parameters.values()):
        return
    graph = trace(network)
    # Parameter shapes do not depend on the image size, and all networks accept 96 pixels.
    arguments, _, auxiliary = graph.infer_shape(data=(1, 3, 96, 96))
    names = graph.list_arguments() + graph.list_auxiliary_states()
    for name, shape in zip(names, arguments + auxiliary):
        if name in parameters:
            parameters[name].shape = shape


def load_strict(network: Any, path: str, ctx: Any = None) -> WeightsReport:
    """Load a ``.params`` file whose arrays match the parameters of `network` one to one.

    Raises
    ------
    WeightsError
        If a parameter or array is missing or has another shape.
    """
    arrays = read_params(path)
    infer_shapes(network)
    report = assign(network, arrays, path, ctx)
    if report.missing or report.mismatched or report.unused:
        raise WeightsError("\n".join([f"{path}: weights of another network", *report.lines()[1:]]))
    return report


def _last_layers_to_leave_out(block: Any, arrays: Mapping[str, np.ndarray]) -> List[str]:
    """Arrays of the last layers that fit, if they would get another input than in the file's network.

    That is so if a layer before them is not loaded, or if a layer in the file has no place in the network.
    """
    parameters = block._collect_params_with_prefix()
    fitting = {name for name, p in parameters.items() if name in arrays and _fits(p, arrays[name])}
    not_loaded = [n for n in parameters if n not in fitting and not n.startswith(LAST_LAYERS)]
    without_place = [
        name
        for name in arrays
        if name not in parameters
        and not name.startswith(LAST_LAYERS)
        and name.rpartition(".")[2] in PARAMETERS
    ]
    if not not_loaded and not without_place:
        return []
    return [name for name in parameters if name in fitting and name.startswith(LAST_LAYERS)]


def load_backbone(
    network: Any,
    path: str,
    classes: Optional[Sequence[str]] = None,
    trained_on: Optional[Sequence[str]] = None,
) -> WeightsReport:
    """Load a classifier's or a detector's weights as far as they match.

    The last layers are left out if a layer before them is not loaded, see `WeightsReport.left_out`.

    Parameters
    ----------
    network : mnssd.nn.ssd.SSDHeads or a classifier
        A detector's heads take the `features` of a classifier; a classifier takes its last layer, too.
    path : str
        A ``.params`` file with arrays named ``features.*`` (classifiers of the Gluon zoo and this package) or
        ``0.weight`` and so on (saved from their `features` alone), or a detector's; or a state dict, ``.pth``
        or ``.safetensors``, of a network in `Backbone.conversions`.
    classes : sequence of str, optional
        Names of the network's classes. Outputs of a file in a run folder are matched with them by name, see
        `class_names.match_classes`; without names, by their order.
    trained_on : sequence of str, optional
        Names of the classes of the file's detector, if it is known without a run folder. Ignored if the file
        has another number of classes.

    Raises
    ------
    WeightsError
        If fewer than half of the backbone's parameters match; those are loaded nevertheless.
    """
    arrays, notes, _, detector = read_network_file(path)
    infer_shapes(network)
    if detector is not None and not detector.has_anchors_of(getattr(network, "layout", None)):
        predictors = [name for name in arrays if name.startswith(LAST_LAYERS)]
        arrays = {name: value for name, value in arrays.items() if name not in predictors}
        notes = [*notes, f"{len(predictors)} arrays of its predictors are not used: they need other anchors"]
    backbone = getattr(network, "backbone", network)
    is_classifier = any(name.startswith("features.") for name in arrays)
    target = backbone if is_classifier else network
    old = classes_of_run(path) if classes is not None else None
    if detector is not None and trained_on and detector.class_count == len(trained_on):
        old = tuple(trained_on)
    if old is not None and classes is not None:
        arrays, note = match_classes(arrays, old, classes, target._collect_params_with_prefix())
        notes = [*notes, note] if note else notes
    left_out = _last_layers_to_leave_out(target, arrays)
    report = assign(target, {name: v for name, v in arrays.items() if name not in left_out}, path)
    report.missing = [name for name in report.missing if name not in left_out]
    report.left_out, report.notes = left_out, notes
    expected = len(backbone.features._collect_params_with_prefix())
    if sum("features." in name for name in report.loaded) < expected / 2:
        names = f"arrays {', '.join(list(arrays)[:3])}, ..." if arrays else "no arrays"
        held = recognize(arrays) or f"another network ({names})"
        message = f"{path}: weights of {held}; check --network and --width"
        raise WeightsError("\n".join([message, *report.lines()[1:]]))
    return report
