"""Loading of weight files into networks."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from ..errors import WeightsError
from .assign import WeightsReport, assign, infer_shapes
from .conversion import convert
from .params import read_params
from .state_dict import read_state_dict


def read_weights(path: str) -> Dict[str, np.ndarray]:
    """Read an MXNet parameter file or a PyTorch state dict, whichever its first bytes indicate.

    Raises
    ------
    WeightsError
        As `read_params` and `read_state_dict`.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        start = b""  # `read_params` raises the error
    is_torch = start[:2] in (b"PK", b"\x80\x02") or start[8:9] == b"{"  # safetensors: a length, then JSON
    return read_state_dict(path) if is_torch else read_params(path)


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


def load_backbone(network: Any, path: str) -> WeightsReport:
    """Load a classifier's or a detector's weights as far as they match.

    Parameters
    ----------
    network : mnssd.nn.ssd.SSDHeads or a classifier
        A detector's heads take the `features` of a classifier; a classifier takes its last layer, too.
    path : str
        A ``.params`` file with arrays named ``features.*`` (classifiers of the Gluon zoo and this package) or
        ``0.weight`` and so on (saved from their `features` alone), or a detector's; or a state dict, ``.pth``
        or ``.safetensors``, of a network in `Backbone.conversions`.

    Returns
    -------
    WeightsReport

    Raises
    ------
    WeightsError
        If fewer than half of the backbone's parameters match; those are loaded nevertheless.
    """
    arrays = read_weights(path)
    if all(name[:1].isdigit() for name in arrays):  # saved from `features` alone
        arrays = {f"features.{name}": value for name, value in arrays.items()}
    arrays, notes = convert(arrays)
    infer_shapes(network)
    backbone = getattr(network, "backbone", network)
    is_classifier = any(name.startswith("features.") for name in arrays)
    report = assign(backbone if is_classifier else network, arrays, path)
    report.notes = notes
    expected = len(backbone.features._collect_params_with_prefix())
    if sum("features." in name for name in report.loaded) < expected / 2:
        names = f"arrays {', '.join(list(arrays)[:3])}, ..." if arrays else "no arrays"
        message = f"{path}: weights of another network ({names}); check --network and --width"
        raise WeightsError("\n".join([message, *report.lines()[1:]]))
    return report
