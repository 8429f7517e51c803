"""Which network a weights file holds: backbone, width and variant, from its arrays."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from ..errors import WeightsError
from ..nn.backbones import Structure, backbones
from .conversion import convert, required_options
from .read import read_weights

# Before the names of a backbone's arrays in the file of a detector's heads, or of a whole detector.
_DETECTOR_PREFIX = re.compile(r"^(heads\.)?backbone\.(?=features\.)")


class NetworkFile(NamedTuple):
    """Content of a weights file.

    Attributes
    ----------
    arrays : dict
        Arrays under this package's names as far as they are known.
    notes : list of str
        What was changed, for the user.
    options : mapping of str to str
        Options of the backbone that the weights need, such as ``{"activation": "relu6"}``.
    """

    arrays: Dict[str, np.ndarray]
    notes: List[str]
    options: Mapping[str, str]


class RecognizedNetwork(NamedTuple):
    """A backbone's name and structure."""

    network: str
    structure: Structure

    def __str__(self) -> str:
        return f"{self.network} {self.structure}"


def read_network_file(path: str) -> NetworkFile:
    """Read a weights file of any known kind and convert it; raises WeightsError as `read_weights`."""
    arrays, notes = read_weights(path)
    if arrays and all(name[:1].isdigit() for name in arrays):  # saved from `features` alone
        arrays = {f"features.{name}": value for name, value in arrays.items()}
    converted, more = convert(arrays)
    return NetworkFile(converted, [*notes, *more], required_options(arrays))


def recognize(
    arrays: Mapping[str, np.ndarray],
    network: str = "",
    width: Optional[float] = None,
    classes: Optional[int] = None,
) -> Optional[RecognizedNetwork]:
    """The network that has arrays of these shapes; None if no registered backbone knows it.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        As in `NetworkFile.arrays`.
    network, width : optional
        Backbone and width that are tried first.
    classes : int, optional
        Number of classes of the classifier to load them into; None for a detector.
    """
    shapes = {_DETECTOR_PREFIX.sub("", name): value.shape for name, value in arrays.items()}
    for name in sorted(backbones.names(), key=lambda name: name != network):
        find = backbones[name].recognize
        structure = find(shapes, width if name == network else None, classes) if find else None
        if structure:
            return RecognizedNetwork(name, structure)
    return None


def variant_for(path: str, network: str, width: float, classes: Optional[int] = None) -> Dict[str, Any]:
    """The variant of a network into which all weights of a file can be loaded; see `Backbone.variants`.

    Empty for the usual network, and if the file's network is not known. `classes` is that of a classifier;
    None for a detector.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds another network or width; the message names it.
    """
    return _variant_for(path, read_network_file(path), network, width, classes)


def needed_by(path: str, network: str, width: float, classes: Optional[int] = None) -> Dict[str, Any]:
    """Options and variant of a network that a file's weights need; see `variant_for`."""
    file = read_network_file(path)
    return {**file.options, **_variant_for(path, file, network, width, classes)}


def _variant_for(
    path: str, file: NetworkFile, network: str, width: float, classes: Optional[int]
) -> Dict[str, Any]:
    found = recognize(file.arrays, network, width, classes)
    if found is None:
        return {}
    if found.network != network or found.structure.width != width:
        raise WeightsError(
            f"{path}: weights of {found}, not of {network} x{width:g}; use --network {found.network} "
            f"--width {found.structure.width:g}"
        )
    return found.structure.variant
