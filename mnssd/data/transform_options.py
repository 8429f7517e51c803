"""Options of the augmentation of detection images.

``--help`` reads this module, so it imports neither NumPy nor OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

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
    expand_ratio: float = option(4.0, "largest side of that canvas, as a multiple of the image's")
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
    random_interpolation: bool = option(True, "resize with a random one of OpenCV's five interpolations")

    def __post_init__(self) -> None:
        require(
            self, "0 to 1", lambda value: 0 <= value <= 1,
            "color_probability", "expand_probability", "flip_probability", "mosaic", "contrast", "saturation",
        )  # fmt: skip
        require(self, "0 to 255", lambda value: 0 <= value <= 255, "brightness")
        require(self, "0 to 90", lambda value: 0 <= value <= 90, "hue")
        require(self, "at least 1", lambda value: value >= 1, "expand_ratio", "crop_aspect")
        require(
            self, "values of at least 0 and below 1",
            lambda values: all(0 <= value < 1 for value in values), "crop_overlaps",
        )  # fmt: skip
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "crop_scale")
        require(self, "at least 0", lambda value: value >= 0, "crop_trials")
