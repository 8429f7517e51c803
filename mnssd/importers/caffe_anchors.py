"""Anchors of Caffe's PriorBox layers."""

from __future__ import annotations

from math import sqrt
from typing import Any, List, Sequence, Tuple

from ..errors import ImportedFileError
from .graph import RuleAnchors
from .refusal import refusing

Stds = Tuple[float, float, float, float]

SAME_RATIO = 1e-6
"""Ratios that are closer count once."""


def read_anchors(
    layers: Sequence[Tuple[Any, str]], maps: Sequence[str], size: Tuple[int, int]
) -> Tuple[RuleAnchors, Stds]:
    """Anchors and what offsets are multiplied by (``variance``).

    ``prior_box_layer.cpp`` at github.com/weiliu89/caffe, branch ssd.

    Parameters
    ----------
    layers : sequence of (message, str)
        PriorBox layers, and the feature map that each reads.
    maps : sequence of str
        Those of the predictors.
    size : (int, int)
        ``(width, height)`` of the input in pixels.
    """
    if [source for _, source in layers] != list(maps):
        raise ImportedFileError("PriorBox layers of other feature maps than those of the predictors")
    shapes, steps, variances = [], [], set()
    for layer, _ in layers:
        with refusing(f"layer {layer.name!r}", "anchors"):
            param = layer.prior_box_param
            shapes.append(tuple(_shapes(param)))
            steps.append(_step(param, size))
            variances.add(tuple(param.variance) or (0.1,))
    if len(variances) != 1 or len({step > 0 for step in steps}) != 1:
        raise ImportedFileError("PriorBox layers of which only some have a step, or other variances")
    stds = variances.pop()
    stds = stds * 4 if len(stds) == 1 else stds
    if len(stds) != 4 or not min(stds) > 0:
        raise ImportedFileError(f"variances {stds}")
    if steps[0]:
        return RuleAnchors(tuple(shapes), tuple(steps)), (stds[0], stds[1], stds[2], stds[3])
    side = sqrt(size[0] * size[1])  # as the anchors here, see `anchors.anchor_sizes`
    parts = tuple(tuple((w / side, h / side) for w, h in part) for part in shapes)
    return RuleAnchors(parts, ()), (stds[0], stds[1], stds[2], stds[3])


def _shapes(param: Any) -> List[Tuple[float, float]]:
    """Widths and heights in pixels, in the order of the layer."""
    if param.clip or param.offset != 0.5:
        raise ImportedFileError("anchors whose corners are clipped, or that are not at .5 of a cell")
    low, high = list(param.min_size), list(param.max_size)
    if not low or (high and len(high) != len(low)) or not min(low) > 0:
        raise ImportedFileError(f"sizes {low} and {high}")
    ratios: List[float] = []
    for ratio in param.aspect_ratio:
        if not ratio > 0:
            raise ImportedFileError(f"an aspect ratio of {ratio}")
        if all(abs(ratio - known) >= SAME_RATIO for known in (1.0, *ratios)):
            ratios += [ratio, 1 / ratio] if param.flip else [ratio]
    result: List[Tuple[float, float]] = []
    for index, size in enumerate(low):
        result.append((size, size))
        if high:
            mean = sqrt(size * high[index])
            result.append((mean, mean))
        result += [(size * sqrt(ratio), size / sqrt(ratio)) for ratio in ratios]
    return result


def _step(param: Any, size: Tuple[int, int]) -> float:
    """Distance of the centers in pixels; 0: the input's side divided by the map's."""
    sides = {
        side: getattr(param, name)
        for side, name in ((0, "img_w"), (1, "img_h"), (2, "img_size"))
        if param.HasField(name)
    }
    width, height = size
    if any(value != {0: width, 1: height}.get(side, width) for side, value in sides.items()):
        raise ImportedFileError(f"anchors for an image of {list(sides.values())} pixels")
    if 2 in sides and width != height:
        raise ImportedFileError("anchors for a square image")
    found = {getattr(param, name) for name in ("step", "step_h", "step_w") if param.HasField(name)}
    if len(found) > 1:
        raise ImportedFileError(f"steps {sorted(found)}; expected one for both sides")
    step = float(found.pop()) if found else 0.0
    if not step >= 0:
        raise ImportedFileError(f"a step of {step}")
    return step
