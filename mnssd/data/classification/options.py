"""What can be said about augmenting a classifier's images. Apart, so that ``--help`` need not load OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import option


@dataclass(frozen=True)
class ClassAugmentOptions:
    """Augmentation of training images.

    Random crops and mirror images as in the Inception papers (Szegedy et al. 2015, section 6), then
    operations drawn as by RandAugment (Cubuk et al. 2019), mixed images (mixup, Zhang et al. 2018) and
    softened labels.
    """

    crop_area: float = option(0.35, "smallest area of a random crop, as a share of the image")
    crop_stretch: float = option(1.33, "a crop is at most this many times longer one way, against the image")
    flip_probability: float = option(0.5, "chance of a mirror image")
    operations: int = option(1, "changes of colour or shape drawn for each image; 0 for none")
    magnitude: float = option(0.5, "how far they go, 0 to 1")
    mixup: float = option(0.0, "parameter of mixup's Beta distribution; 0 for no mixing")
    label_smoothing: float = option(0.0, "share of the label that is spread over all classes")
    val_crop: float = option(1.0, "central part of each side that is measured on, 0.875 as for ImageNet")

    def __post_init__(self) -> None:
        for name in ("flip_probability", "magnitude", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is from 0 to 1, not {getattr(self, name)}")
        for name in ("crop_area", "val_crop"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is above 0 and at most 1, not {getattr(self, name)}")
        if self.crop_stretch < 1 or self.operations < 0 or self.mixup < 0:
            raise ValueError("crop_stretch is 1 or more, operations and mixup not negative")
