"""Which network a weights file holds: backbone, width and variant, from its arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np
import yaml

from ..errors import WeightsError
from ..nn.backbones import INPUT_VARIANTS, Structure, backbones
from ..nn.choices import DEFAULTS, RESHAPING
from ..nn.gluoncv_names import GluonCVDetector, convert_detector
from ..nn.spec import ClassifierSpec, DetectorSpec
from ..options import parse_yaml
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
    detector : GluonCVDetector, optional
        What else is known of a detector of GluonCV.
    """

    arrays: Dict[str, np.ndarray]
    notes: List[str]
    options: Mapping[str, str]
    detector: Optional[GluonCVDetector] = None


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
    detector = convert_detector(arrays)
    if detector is not None:
        head = f" (--head {detector.head})" if detector.head else ""
        return NetworkFile(detector.arrays, [*notes, f"converted from GluonCV's SSD{head}"], {}, detector)
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


def variant_for(
    path: str,
    network: str,
    width: float,
    classes: Optional[int] = None,
    options: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """The variant of a network into which all weights of a file can be loaded; see `Backbone.variants`.

    Empty for the usual network, and if the file's network is not known. `classes` is that of a classifier;
    None for a detector. `options` are those of the backbone that are given.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds another network or width, or one with another value of an option
        that changes shapes; the message names it.
    """
    return _structure_for(path, read_network_file(path), network, width, classes, options or {}).variant


def needed_by(
    path: str,
    network: str,
    width: float,
    classes: Optional[int] = None,
    options: Optional[Mapping[str, Any]] = None,
) -> Dict[str, Any]:
    """Options and variant of a network that a file's weights need; see `variant_for`."""
    file = read_network_file(path)
    structure = _structure_for(path, file, network, width, classes, options or {})
    return {**file.options, **structure.options, **structure.variant}


def _structure_for(
    path: str,
    file: NetworkFile,
    network: str,
    width: float,
    classes: Optional[int],
    options: Mapping[str, Any],
) -> Structure:
    found = recognize(file.arrays, network, width, classes)
    input_variant = _input_variant_of_run(path)
    if found is None:
        return Structure(width, input_variant)
    held = {name: value for name, value in found.structure.options.items() if name in RESHAPING}
    wanted = {name: options.get(name, value) for name, value in held.items()}
    if found.network != network or found.structure.width != width or wanted != held:
        flags = [f" --{n} {v}" for n, v in held.items() if v != options.get(n, DEFAULTS[n])]
        raise WeightsError(
            f"{path}: weights of {found}, not of {network} {Structure(width, {}, wanted)}; use --network "
            f"{found.network} --width {found.structure.width:g}{''.join(flags)}"
        )
    found.structure.variant.update(input_variant)
    return found.structure


def _input_variant_of_run(path: str) -> Dict[str, Any]:
    """How the input of the run differs whose parameter file this is, which no shape tells; see `InputLayer`.

    Empty for other networks, and without the run's ``config.yaml`` in the folder.
    """
    config = Path(path).with_name("config.yaml")
    for kind in (DetectorSpec, ClassifierSpec):
        try:
            content = parse_yaml(config.read_text(encoding="utf-8"), ("classes",))
            variant = kind.from_dict(content[kind.section]).variant
            return {name: variant[name] for name in INPUT_VARIANTS if name in variant}
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
            continue
    return {}
