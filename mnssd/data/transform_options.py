"""Options of the augmentation of training images.

``--help`` reads this module, so it imports neither NumPy nor OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Tuple

from ..options import FLOATS, option, require


@dataclass(frozen=True)
class AugmentOptions:
    """Augmentation of training images.

    The defaults are those of the original SSD (``examples/ssd/ssd_pascal.py`` in the authors' Caffe:
    ``batch_sampler`` and ``train_transform_param``), which GluonCV uses too.
    """

    color_probability: float = option(
        0.5, "probability of each change of brightness, contrast, saturation and hue"
    )
    brightness: float = option(32.0, "largest change of brightness, in levels of 0 to 255")
    contrast: float = option(0.5, "largest change of contrast: the factor is 1 - this to 1 + this")
    saturation: float = option(0.5, "largest change of saturation: the factor is 1 - this to 1 + this")
    hue: float = option(18.0, "largest change of hue, in OpenCV's units of 2 degrees")
    expand_probability: float = option(0.5, "probability of placing the image on a larger canvas")
    expand_ratio: float = option(
        4.0, "largest side of that canvas, as a multiple of the image's", shown="chosen from the data"
    )
    crop_overlaps: Tuple[float, ...] = option(
        (0.1, 0.3, 0.5, 0.7, 0.9),
        "minimum IoU of a crop with some object: each crop draws one of these, no minimum, or no crop",
        type=FLOATS,
        metavar="IOU,...",
    )
    crop_scale: float = option(
        0.3, "smallest side of a crop before its aspect ratio is drawn, as a fraction of the image's"
    )
    crop_aspect: float = option(2.0, "largest aspect ratio of a crop, relative to the image's")
    crop_trials: int = option(50, "crops tried for each minimum IoU; 0 for no cropping")
    flip_probability: float = option(0.5, "probability of mirroring the image")
    mosaic: float = option(0.0, "probability of a mosaic of four images, which is not expanded")
    paste: float = option(0.0, "probability of pasting objects of another image into an image")
    random_interpolation: bool = option(True, "resize with a random one of OpenCV's five interpolations")

    def __post_init__(self) -> None:
        _require_range(self, 1, "color_probability", "expand_probability", "flip_probability")
        _require_range(self, 1, "mosaic", "paste")
        _require_range(self, 1, "contrast", "saturation")
        _require_range(self, 255, "brightness")
        _require_range(self, 90, "hue")
        require(self, "at least 1", lambda value: value >= 1, "expand_ratio", "crop_aspect")
        overlap = "values of at least 0 and below 1"
        require(self, overlap, lambda values: all(0 <= value < 1 for value in values), "crop_overlaps")
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "crop_scale")
        require(self, "at least 0", lambda value: value >= 0, "crop_trials")


@dataclass(frozen=True)
class ClassAugmentOptions:
    """Augmentation of training images.

    Random crops and mirroring as in the Inception papers (Szegedy et al. 2015, section 6), then RandAugment
    (Cubuk et al. 2019), mixup (Zhang et al. 2018) and label smoothing (Szegedy et al. 2016).
    """

    crop_area: float = option(0.35, "smallest area of a random crop, as a fraction of the image")
    crop_stretch: float = option(1.33, "largest change of the aspect ratio by a random crop")
    flip_probability: float = option(0.5, "probability of mirroring the image")
    operations: int = option(1, "RandAugment operations per image; 0 for none")
    magnitude: float = option(0.5, "magnitude of the RandAugment operations, 0 to 1")
    mixup: float = option(0.0, "alpha of mixup's Beta distribution; 0 for no mixup")
    label_smoothing: float = option(0.0, "label smoothing")
    val_crop: float = option(
        1.0,
        "side of the central crop that is evaluated, as a fraction of the image; 0.875 is usual for ImageNet",
    )

    def __post_init__(self) -> None:
        _require_range(self, 1, "flip_probability", "magnitude", "label_smoothing")
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "crop_area", "val_crop")
        require(self, "at least 1", lambda value: value >= 1, "crop_stretch")
        require(self, "at least 0", lambda value: value >= 0, "operations", "mixup")


def _require_range(options: Any, largest: float, *names: str) -> None:
    require(options, f"0 to {largest}", lambda value: 0 <= value <= largest, *names)
