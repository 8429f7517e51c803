"""Putting arrays into a network, with an account of every one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from ..errors import WeightsError
from .conversion import convert
from .params import read_params
from .state_dict import read_state_dict


@dataclass
class WeightsReport:
    """What became of every array when weights were loaded.

    Attributes
    ----------
    loaded : list of str
        Parameters of the network that took their array from the file.
    unused : list of str
        Arrays of the file that the network has no place for.
    missing : list of str
        Parameters of the network that the file does not have; they keep their initial values.
    mismatched : list of str
        ``name (shape in the file, shape in the network)``; they keep their initial values.
    parameters : list of mxnet.gluon.Parameter
        Those of `loaded`, in the same order.
    notes : list of str
        What was done to the arrays before.
    """

    path: str
    loaded: List[str] = field(default_factory=list)
    parameters: List[Any] = field(default_factory=list)
    unused: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    mismatched: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def lines(self) -> List[str]:
        """The report for a person: a count for each outcome, with names where something was left out."""
        lines = [f"weights {self.path}: {len(self.loaded)} arrays used", *(f"  {n}" for n in self.notes)]
        for what, names in (
            ("in the file but not in the network", self.unused),
            ("in the network but not in the file", self.missing),
            ("of another shape", self.mismatched),
        ):
            if names:
                shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
                lines.append(f"  {len(names)} {what}: {shown}")
        return lines


def assign(block: Any, arrays: Mapping[str, np.ndarray], path: str, ctx: Any = None) -> WeightsReport:
    """Put `arrays` into the parameters of `block` that have their structural names.

    Parameters
    ----------
    block : mxnet.gluon.Block
        Initialized or not; parameters that find no array keep what they have. Those whose shape is still
        open take any array's shape (see `settle_shapes`).
    arrays : mapping of str to numpy.ndarray
        As from `read_params`, names as `block.save_parameters` writes them.
    path : str
        Where they came from, for the report.
    ctx : mxnet.Context, optional
        Where parameters that are not initialized are put; default: the CPU.

    Returns
    -------
    WeightsReport
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
        known = parameter.shape
        if known is not None and not _fits(known, value.shape):
            report.mismatched.append(f"{name} (file {value.shape}, network {known})")
            continue
        parameter.shape = value.shape
        if parameter._data is None and not parameter._deferred_init:
            parameter.initialize(ctx=ctx)
        parameter.set_data(mx.nd.array(value, dtype=parameter.dtype))
        parameter._finish_deferred_init()  # the shape is known now: it need not wait for the first batch
        report.loaded.append(name)
        report.parameters.append(parameter)
    return report


def _fits(known: Tuple[int, ...], shape: Tuple[int, ...]) -> bool:
    """Whether an array of `shape` can be a parameter's; 0 and -1 are extents that Gluon does not know yet."""
    return len(known) == len(shape) and all(a in (0, -1, b) for a, b in zip(known, shape))


def settle_shapes(network: Any) -> None:
    """Let MXNet infer the shapes of parameters that Gluon leaves open until the first batch.

    An open shape would take any array, one of another width, too.

    Parameters
    ----------
    network : mxnet.gluon.HybridBlock
        Of one input, ``(B, 3, H, W)``.
    """
    import mxnet as mx

    parameters = network.collect_params()
    if all(parameter.shape and min(parameter.shape) > 0 for parameter in parameters.values()):
        return
    outputs = network(mx.sym.var("data"))
    graph = outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))
    # No weight's shape depends on the size of the image; all networks here take 96 pixels.
    arguments, _, auxiliary = graph.infer_shape(data=(1, 3, 96, 96))
    names = graph.list_arguments() + graph.list_auxiliary_states()
    for name, shape in zip(names, arguments + auxiliary):
        if name in parameters:
            parameters[name].shape = shape


def load_exactly(block: Any, path: str, ctx: Any = None) -> WeightsReport:
    """Load the file into `block`, a network of one image; every parameter must have its array.

    Raises
    ------
    WeightsError
        When one is missing or has another shape: these are weights of another network.
    """
    arrays = read_params(path)
    settle_shapes(block)
    report = assign(block, arrays, path, ctx)
    if report.missing or report.mismatched or report.unused:
        raise WeightsError("\n".join([f"{path}: weights of another network", *report.lines()[1:]]))
    return report


def read_weights(path: str) -> Dict[str, np.ndarray]:
    """Read a parameter file of MXNet, or a state dict of PyTorch; which it is, its first bytes tell.

    Raises
    ------
    WeightsError
        As `read_params` and `read_state_dict`.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        start = b""  # the reader says what is wrong
    of_torch = start[:2] in (b"PK", b"\x80\x02") or start[8:9] == b"{"  # safetensors: a length, then JSON
    return read_state_dict(path) if of_torch else read_params(path)


def load_backbone(network: Any, path: str) -> WeightsReport:
    """Load a classifier's weights, or a whole detector's, as far as they fit.

    Parameters
    ----------
    network : mnssd.nn.heads.SSDHeads, mnssd.nn.MobileNetV1 or mnssd.nn.MobileNetV2
        A detector's heads take the `features` of a classifier; a classifier takes its classifier layer, too.
    path : str
        A ``.params`` file: arrays named ``features.*`` (the Gluon zoo's and this package's classifiers),
        or ``0.weight`` and so on (saved from their `features` alone), or as a detector here saves them; or
        a state dict of torchvision's or timm's MobileNet, see `foreign`, as ``.pth`` or ``.safetensors``.

    Returns
    -------
    WeightsReport

    Raises
    ------
    WeightsError
        When hardly any of it fits: fewer than half of the backbone's arrays. What fitted has been put in.
    """
    arrays = read_weights(path)
    if all(name[:1].isdigit() for name in arrays):  # saved from `features` alone
        arrays = {f"features.{name}": value for name, value in arrays.items()}
    arrays, notes = convert(arrays)
    settle_shapes(network)
    backbone = getattr(network, "backbone", network)
    of_classifier = any(name.startswith("features.") for name in arrays)
    report = assign(backbone if of_classifier else network, arrays, path)
    report.notes = notes
    wanted = len(backbone.features._collect_params_with_prefix())
    if len([name for name in report.loaded if "features." in name]) < wanted / 2:
        found = f"its arrays: {', '.join(list(arrays)[:3])}, ..." if arrays else "it holds no array"
        raise WeightsError(
            "\n".join(
                [
                    f"{path}: weights of another network ({found}); check --network and --width",
                    *report.lines()[1:],
                ]
            )
        )
    return report
