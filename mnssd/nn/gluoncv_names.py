"""Parameter files of GluonCV's SSD networks with MobileNetV1, converted to the names of `heads.SSDHeads`."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from .backbones._mobilenet_v1_conversions import gluon_layer, gluon_prefix
from .head_layouts import LAYOUTS, HeadLayout

_EXTRA = re.compile(r"(?:features\.)?(?:\w+_)?expand_(trans_)?(conv|bn)(\d+)_(\w+)")
_PREDICTOR = re.compile(r"(class|box)_predictors\.(\d+)\.predictor\.(weight|bias)")
_ANCHORS = re.compile(r"anchor_generators\.(\d+)\.anchors")

# Names of `collect_params` and `export`, in which the class and the box predictors alternate.
_NUMBERED_PREDICTOR = re.compile(r"(?:\w+_)?convpredictor(\d+)_conv0_(weight|bias)")
_NUMBERED_ANCHORS = re.compile(r"(?:\w+_)?anchor_(\d+)")

_PARAMETERS = {"moving_mean": "running_mean", "moving_var": "running_var"}


class GluonCVDetector(NamedTuple):
    """Arrays of a GluonCV SSD.

    Attributes
    ----------
    arrays : dict
        Under the names of `heads.SSDHeads`.
    anchors : list of numpy.ndarray
        ``(1, 1, H, W, K * 4)`` of each feature map: center x, center y, width, height in pixels; empty if the
        file lacks them.
    """

    arrays: Dict[str, np.ndarray]
    anchors: List[np.ndarray]

    @property
    def head(self) -> Optional[str]:
        """The name in `head_layouts.LAYOUTS` of the layout with these shapes; None if there is none."""
        extras = tuple(
            (self._channels(f"extras.{i}.0.weight"), self._channels(f"extras.{i}.3.weight")) for i in range(4)
        )
        predictors = [self.arrays.get(f"box_predictors.{i}.weight") for i in range(6)]
        if any(predictor is None for predictor in predictors):
            return None
        kernel = predictors[0].shape[-1]  # type: ignore[union-attr]
        names = (
            n for n, v in LAYOUTS.items() if v.anchors.steps and (v.extras, v.kernel) == (extras, kernel)
        )
        return next(names, None)

    @property
    def class_count(self) -> int:
        """Number of classes without the background; 0 if the predictors are missing."""
        classes, boxes = (self._channels(f"{kind}_predictors.0.weight") for kind in ("class", "box"))
        return classes // (boxes // 4) - 1 if classes and boxes >= 4 else 0

    def has_anchors_of(self, layout: Optional[HeadLayout]) -> bool:
        """Whether these are the anchors of a layout; True if the file has none."""
        if not self.anchors:
            return True
        if layout is None or not layout.anchors.steps or len(self.anchors) != len(layout.extras) + 2:
            return False
        if any(part.ndim != 5 for part in self.anchors):
            return False
        from .anchors import make_generators  # imports MXNet

        # Two rows and columns tell the shapes and the steps apart.
        expected = make_generators([(2, 2)] * len(self.anchors), (2, 2), layout.anchors)
        pairs = [
            (part[..., :2, :2, :], own.anchors.value.asnumpy()) for part, own in zip(self.anchors, expected)
        ]
        return all(a.shape == b.shape and np.allclose(a, b, atol=1e-3) for a, b in pairs)

    def _channels(self, name: str) -> int:
        return int(self.arrays[name].shape[0]) if name in self.arrays else 0


def convert_detector(arrays: Mapping[str, np.ndarray]) -> Optional[GluonCVDetector]:
    """Convert the arrays of a GluonCV SSD with MobileNetV1; None if they are something else.

    The gamma of the extra layers, ``mx.sym.BatchNorm``, counts as 1 whatever the file has (`fix_gamma`).
    Names are those of ``save_parameters``, or of ``export`` and ``collect_params``. Unknown ones are kept.
    """
    arrays = {re.sub(r"^(arg|aux):", "", name): value for name, value in arrays.items()}
    prefix = gluon_prefix(arrays)
    if prefix is None or not any(_EXTRA.fullmatch(name) for name in arrays):
        return None
    converted: Dict[str, np.ndarray] = {}
    anchors: Dict[int, np.ndarray] = {}
    for name, value in arrays.items():
        generator = _ANCHORS.fullmatch(name) or _NUMBERED_ANCHORS.fullmatch(name)
        if generator:
            anchors[int(generator[1])] = value
            continue
        new = _backbone_name(name, prefix) or _extra_name(name) or _predictor_name(name) or name
        if new.startswith("extras.") and new.endswith(".gamma"):
            value = np.ones_like(value)
        converted[new] = value
    return GluonCVDetector(converted, [anchors[index] for index in sorted(anchors)])


def _backbone_name(name: str, prefix: str) -> Optional[str]:
    if not name.startswith(prefix):
        return None
    match = re.fullmatch(r"((?:conv|batchnorm)\d+)_(\w+)", name[len(prefix) :])
    layer = gluon_layer(match[1]) if match else None
    return f"backbone.{layer}.{_PARAMETERS.get(match[2], match[2])}" if match and layer else None


def _extra_name(name: str) -> Optional[str]:
    match = _EXTRA.fullmatch(name)
    if match is None:
        return None
    trans, kind, layer, parameter = match.groups()
    index = (0 if trans else 3) + (kind == "bn")
    return f"extras.{layer}.{index}.{_PARAMETERS.get(parameter, parameter)}"


def _predictor_name(name: str) -> Optional[str]:
    match = _PREDICTOR.fullmatch(name)
    if match:
        return f"{match[1]}_predictors.{match[2]}.{match[3]}"
    numbered = _NUMBERED_PREDICTOR.fullmatch(name)
    if numbered is None:
        return None
    layer, is_box = divmod(int(numbered[1]), 2)
    return f"{'box' if is_box else 'class'}_predictors.{layer}.{numbered[2]}"
