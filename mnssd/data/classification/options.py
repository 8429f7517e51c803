"""Options of the augmentation of classification images, and the datasets' names.

``--help`` reads this module, so it imports neither NumPy nor OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...options import option, require

CLASSIFICATION_ROOTS = {
    "shapes": "data/shapes",
    "folder": "data/images",
    "recordio": "data/recordio",
    "cifar10": "data/cifar10",
}
"""Dataset formats and their default folders."""


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
        require(
            self, "0 to 1", lambda value: 0 <= value <= 1, "flip_probability", "magnitude", "label_smoothing"
        )
        require(self, "above 0 and at most 1", lambda value: 0 < value <= 1, "crop_area", "val_crop")
        require(self, "at least 1", lambda value: value >= 1, "crop_stretch")
        require(self, "at least 0", lambda value: value >= 0, "operations", "mixup")
