"""What can be said about augmentation. Apart from `augment`, so that ``--help`` need not load OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from ..options import option


def _check(good: bool, name: str, rule: str) -> None:
    if not good:
        raise ValueError(f"{name} {rule}")


def _overlaps(text: str) -> Tuple[float, ...]:
    return tuple(float(part) for part in text.split(",")) if text.strip() else ()


@dataclass(frozen=True)
class AugmentOptions:
    """Augmentation of training images.

    The defaults are those of the original SSD (``examples/ssd/ssd_pascal.py`` in the authors'
    Caffe: ``batch_sampler`` and ``train_transform_param``), which GluonCV uses too.
    """

    color_probability: float = option(0.5, "chance of each change of brightness, contrast, saturation, hue")
    brightness: float = option(32.0, "most that is added to or taken from every level (0..255)")
    contrast: float = option(0.5, "levels are multiplied by a factor from 1 - this to 1 + this")
    saturation: float = option(0.5, "saturation is multiplied by a factor from 1 - this to 1 + this")
    hue: float = option(18.0, "most that the hue turns, in OpenCV's units of 2 degrees")
    expand_probability: float = option(0.5, "chance that the image is placed in a larger canvas")
    expand_ratio: float = option(4.0, "largest side of that canvas, in sides of the image")
    crop_overlaps: Tuple[float, ...] = option(
        (0.1, 0.3, 0.5, 0.7, 0.9),
        "least IoU of a crop with some object: one is drawn from these, no limit, and no crop",
        parse=_overlaps,
        metavar="IOU,IOU,...",
    )
    crop_scale: float = option(
        0.3, "smallest side of a crop before its aspect is drawn, in sides of the image"
    )
    crop_aspect: float = option(2.0, "a crop is at most this many times longer one way, against the image")
    crop_trials: int = option(50, "crops drawn for one limit before another limit is drawn")
    flip_probability: float = option(0.5, "chance of a mirror image")
    mosaic: float = option(0.0, "chance that four images are put together; such a one is not expanded")
    random_interpolation: bool = option(True, "resize with one of OpenCV's five interpolations by chance")

    def __post_init__(self) -> None:
        for name in ("color_probability", "expand_probability", "flip_probability", "mosaic"):
            _check(0 <= getattr(self, name) <= 1, name, "is a chance from 0 to 1")
        for name in ("contrast", "saturation"):
            _check(0 <= getattr(self, name) <= 1, name, "is from 0 to 1")
        _check(0 <= self.brightness <= 255, "brightness", "is from 0 to 255")
        _check(0 <= self.hue <= 90, "hue", "is from 0 to 90")
        _check(self.expand_ratio >= 1, "expand_ratio", "is 1 or more")
        _check(all(0 <= value < 1 for value in self.crop_overlaps), "crop_overlaps", "are from 0 to below 1")
        _check(0 < self.crop_scale <= 1, "crop_scale", "is above 0 and at most 1")
        _check(self.crop_aspect >= 1, "crop_aspect", "is 1 or more")
        _check(self.crop_trials >= 0, "crop_trials", "is 0 (never crop) or more")
