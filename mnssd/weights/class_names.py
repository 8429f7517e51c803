"""Last layers of a run's weights for other classes: their outputs are matched by the names of the classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Collection, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import yaml

from ..options import listed, parse_yaml

# The layers with an output for each class: of a classifier, and of a detector, whose outputs of each anchor
# begin with the background; see `nn.heads.SSDHeads`.
_OUTPUT = re.compile(r"output\.(\d+\.)?(weight|bias)")
_CLASS_PREDICTOR = re.compile(r"class_predictors\.\d+\.(project\.)?(weight|bias)")


# Classes of COCO and of Pascal VOC that are the same.
_SAME = {
    "airplane": "aeroplane", "couch": "sofa", "dining table": "diningtable", "motorcycle": "motorbike",
    "potted plant": "pottedplant", "tv": "tvmonitor",
}  # fmt: skip
OTHER_NAMES = {**_SAME, **{voc: coco for coco, voc in _SAME.items()}}
"""Another name of the same class, from COCO to Pascal VOC and back."""


def name_among(name: str, names: Collection[str]) -> Optional[str]:
    """The name that a class has among `names`: its own, else its other one; None if it has neither."""
    return next((known for known in (name, OTHER_NAMES.get(name)) if known in names), None)


def classes_of_run(path: str) -> Optional[Tuple[str, ...]]:
    """The classes of the run whose parameter file this is; None without its ``config.yaml`` in the folder."""
    try:
        text = Path(path).with_name("config.yaml").read_text(encoding="utf-8")
        content = parse_yaml(text, ("classes",))
        classes = (content.get("detector") or content["classifier"])["classes"]
        return tuple(map(str, classes)) if isinstance(classes, list) else None
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def match_classes(
    arrays: Mapping[str, np.ndarray], old: Sequence[str], new: Sequence[str], names: Collection[str]
) -> Tuple[Dict[str, np.ndarray], str]:
    """Arrays whose outputs are in the order of other classes.

    Classes of COCO and Pascal VOC are the same under either name, see `OTHER_NAMES`. A class that the run
    does not have gets the mean of those that it has. If it does not have most of the new classes, the layers
    with an output for each class are left out.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        Of the run, with the names of this package.
    old, new : sequence of str
        Classes of the run and of the network to load them into.
    names : collection of str
        Parameters of the network; other arrays remain as they are.

    Returns
    -------
    arrays : dict
    note : str
        What was done, for the user; empty if the classes are the same or no array has outputs for them.
    """
    layers = {}
    for name, value in arrays.items():
        background = int(bool(_CLASS_PREDICTOR.fullmatch(name)))
        is_layer = background or _OUTPUT.fullmatch(name)
        if is_layer and name in names and value.ndim and value.shape[0] % (len(old) + background) == 0:
            layers[name] = background
    if tuple(old) == tuple(new) or not layers:
        return dict(arrays), ""
    sources = [name_among(name, old) for name in new]
    others = [name for name, source in zip(new, sources) if source is None]
    if 2 * len(others) > len(new):
        kept = {name: value for name, value in arrays.items() if name not in layers}
        return kept, f"trained on other classes ({listed(old)}): the layers with an output per class are new"
    matched = {name: _matched(arrays[name], background, old, sources) for name, background in layers.items()}
    note = "outputs matched by the names of the classes"
    renamed = [f"{name} = {source}" for name, source in zip(new, sources) if source not in (None, name)]
    note += f" ({listed(renamed)})" if renamed else ""
    return {**arrays, **matched}, f"{note}; new: {listed(others)}" if others else note


def _matched(
    values: Any, background: int, old: Sequence[str], sources: Sequence[Optional[str]]
) -> np.ndarray:
    """An array ``(anchors * (background + classes), ...)`` for new classes, by their names among the old."""
    split = values.reshape(-1, background + len(old), *values.shape[1:])
    mean = split[:, background:].mean(axis=1)
    columns = [split[:, i] for i in range(background)]
    columns += [mean if name is None else split[:, background + old.index(name)] for name in sources]
    return np.ascontiguousarray(np.stack(columns, axis=1).reshape(-1, *values.shape[1:]))
