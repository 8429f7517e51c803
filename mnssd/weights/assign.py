"""Assignment of arrays to the parameters of a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Tuple

import numpy as np


@dataclass
class WeightsReport:
    """What became of each array and parameter when weights were loaded.

    Attributes
    ----------
    path : str
        The file.
    loaded : list of str
        Parameters that got an array from the file.
    parameters : list of mxnet.gluon.Parameter
        The same, in the same order.
    unused : list of str
        Arrays in the file that are not in the network.
    missing : list of str
        Parameters that are not in the file; they keep their values.
    mismatched : list of str
        ``name (file SHAPE, network SHAPE)`` of parameters with another shape; they keep their values.
    notes : list of str
        What the conversion of the file changed.
    """

    path: str
    loaded: List[str] = field(default_factory=list)
    parameters: List[Any] = field(default_factory=list)
    unused: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    mismatched: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def lines(self) -> List[str]:
        """The report as text: the number of loaded arrays, notes, and the names of all others."""
        lines = [f"weights {self.path}: {len(self.loaded)} arrays loaded", *(f"  {n}" for n in self.notes)]
        for problem, names in (
            ("in the file but not in the network", self.unused),
            ("in the network but not in the file", self.missing),
            ("with another shape", self.mismatched),
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
        shape = parameter.shape
        if shape is not None and not _shapes_match(shape, value.shape):
            report.mismatched.append(f"{name} (file {value.shape}, network {shape})")
            continue
        parameter.shape = value.shape
        if parameter._data is None and not parameter._deferred_init:
            parameter.initialize(ctx=ctx)
        parameter.set_data(mx.nd.array(value, dtype=parameter.dtype))
        parameter._finish_deferred_init()  # now, not in the first forward pass
        report.loaded.append(name)
        report.parameters.append(parameter)
    return report


def _shapes_match(shape: Tuple[int, ...], other: Tuple[int, ...]) -> bool:
    """Whether a parameter of `shape`, with 0 and -1 for unknown dimensions, can have the shape `other`."""
    return len(shape) == len(other) and all(a in (0, -1, b) for a, b in zip(shape, other))


def infer_shapes(network: Any) -> None:
    """Infer parameter shapes that Gluon leaves unknown until the first forward pass.

    Parameters of unknown shape would accept arrays of a network of another width.

    Parameters
    ----------
    network : mxnet.gluon.HybridBlock
        With one input, ``(N, 3, H, W)``.
    """
    import mxnet as mx

    parameters = network.collect_params()
    if all(parameter.shape and min(parameter.shape) > 0 for parameter in parameters.values()):
        return
    outputs = network(mx.sym.var("data"))
    graph = outputs if isinstance(outputs, mx.sym.Symbol) else mx.sym.Group(list(outputs))
    # Parameter shapes do not depend on the image size, and all networks accept 96 pixels.
    arguments, _, auxiliary = graph.infer_shape(data=(1, 3, 96, 96))
    names = graph.list_arguments() + graph.list_auxiliary_states()
    for name, shape in zip(names, arguments + auxiliary):
        if name in parameters:
            parameters[name].shape = shape
