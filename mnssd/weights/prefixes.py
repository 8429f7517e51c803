"""Selection of the network among the arrays of a file, by the prefix of their names.

Training code stores a network under the name of its attribute: ``model.``, ``net.backbone.``, ``ema_model.``,
in any depth. The prefix is the one under which the names are those of a known network.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Tuple

import numpy as np

from ..nn.backbones import backbones
from .content import OtherContent, list_names

MOST_PARTS = 6
"""Parts of a prefix, such as two in ``net.backbone.``."""

# A part of the prefix of averaged weights.
_AVERAGED = re.compile(r"(^|[._])ema(?=[._])")

# A late layer of MobileNetV1, and one of MobileNetV2, in this package and the Gluon zoo.
_LAYERS_HERE = ("features.78.weight", "features.10.out.0.weight")

_COUNTERS = ("num_batches_tracked", "n_averaged")


def is_known(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the names are those of a network here, or of a checkpoint that can be converted."""
    # Blocks of other networks begin in the same way.
    begins_as_here = {"features.0.weight", "features.1.gamma"} <= arrays.keys()
    is_here = begins_as_here and any(name in arrays for name in _LAYERS_HERE)
    return is_here or any(c.matches(arrays) for backbone in backbones for c in backbone.conversions)


def select_network(arrays: Mapping[str, np.ndarray]) -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Select the arrays of a known network, without the prefix of their names; all arrays if there is none.

    Of several networks, the averaged one (``ema``) is selected, as in timm. Counters of batches are dropped.

    Returns
    -------
    arrays : dict
        The network's.
    notes : list of str
        Which prefix was removed, and which other arrays the file has.

    Raises
    ------
    OtherContent
        If there are several different networks.
    """
    arrays = {name: value for name, value in arrays.items() if name.split(".")[-1] not in _COUNTERS}
    is_detector_here = any(re.match(r"(heads\.)?backbone\.features\.1\.gamma$", name) for name in arrays)
    if is_detector_here or is_known(arrays):
        return arrays, []
    networks = _networks(arrays)
    if not networks:
        return arrays, []
    averaged = [prefix for prefix in networks if _AVERAGED.search(prefix)]
    prefix, *others = averaged or list(networks)
    if any(not _equal(networks[prefix], networks[other]) for other in others):
        raise OtherContent(
            f"holds several networks ({list_names([prefix, *others])}); save one of them alone"
        )
    others = [f"{other}*" for other in networks if other != prefix]
    others += [name for name in arrays if not name.startswith(tuple(networks))]
    notes = [f"read from {prefix}*" + (f"; the file also has {list_names(others)}" if others else "")]
    return networks[prefix], notes


def _networks(arrays: Mapping[str, np.ndarray]) -> Dict[str, Dict[str, np.ndarray]]:
    """Arrays of known networks by prefix, without it."""
    groups: Dict[str, Dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        parts = name.split(".")
        for count in range(1, min(len(parts), MOST_PARTS + 1)):
            prefix = ".".join(parts[:count]) + "."
            groups.setdefault(prefix, {})[name[len(prefix) :]] = value
    networks: Dict[str, Dict[str, np.ndarray]] = {}
    for prefix in sorted(groups, key=lambda text: text.count(".")):
        if prefix.startswith(tuple(networks)):
            continue
        group = groups[prefix]
        if all(name[:1].isdigit() for name in group):  # saved from `features` alone
            group = {f"features.{name}": value for name, value in group.items()}
        if is_known(group):
            networks[prefix] = group
    return networks


def _equal(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
