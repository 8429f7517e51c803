"""Augmentation of classification images, uint8.

Crop, flip and geometric operations are composed into one affine map, so that the image is resampled once.
Color operations change the small result.
"""

from __future__ import annotations

from typing import Callable, Dict, Sequence, Tuple

import cv2
import numpy as np

from ...options import Size
from ..transform_options import ClassAugmentOptions
from ..transforms import FILL, lookup_table, resize_smoothly

# Strength of each operation at magnitude 1 (AutoAugment, Cubuk et al. 2018, table 6).
ROTATION = 30.0  # degrees
SHEAR = 0.3
SHIFT = 0.3  # fraction of the side
BLEND = 0.9  # brightness, contrast, color, sharpness: factors from 1 - BLEND to 1 + BLEND
MIN_BITS = 4  # posterize

_LEVELS = np.arange(256, dtype=np.float32)


class ClassificationTransform:
    """Augmentation and resizing of training images to `size` = ``(width, height)``."""

    def __init__(self, size: Size, options: ClassAugmentOptions) -> None:
        self.size, self.options = size, options

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment ``(height, width, 3)`` uint8 RGB; `rng` is the source of all randomness."""
        options = self.options
        affine = _crop(image.shape, self.size, options, rng)
        if rng.random() < options.flip_probability:
            affine = np.array([[-1, 0, self.size[0] - 1], [0, 1, 0], [0, 0, 1]]) @ affine
        colors, moved = [], False
        for name in rng.choice(_NAMES, options.operations):
            strength = options.magnitude * rng.uniform(-1, 1)
            if name in _GEOMETRIC:
                affine, moved = _GEOMETRIC[name](strength, self.size) @ affine, True
            else:
                colors.append((_COLORS[name], strength))
        # A crop far larger than the result is averaged first, against aliasing.
        shrink = int(1 / max(np.hypot(*affine[:2, 0]), np.hypot(*affine[:2, 1]), 1e-6))
        if shrink > 1:
            image = cv2.resize(image, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
            half = (shrink - 1) / 2  # center of the first reduced pixel, in original pixels
            affine = affine @ np.array([[shrink, 0, half], [0, shrink, half], [0, 0, 1]])
        # A plain crop ends up to half a pixel beyond the image; other operations show the outside.
        border = cv2.BORDER_CONSTANT if moved else cv2.BORDER_REPLICATE
        result = cv2.warpAffine(
            image, affine[:2], self.size, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=FILL
        )
        for change, strength in colors:
            result = change(result, strength)
        return result


def val_transform(image: np.ndarray, size: Size, crop: float) -> np.ndarray:
    """Central crop of `crop` times both sides, resized to `size` without keeping the aspect ratio."""
    height, width = image.shape[:2]
    left, top = round(width * (1 - crop) / 2), round(height * (1 - crop) / 2)
    return resize_smoothly(image[top : height - top, left : width - left], size)


def _crop(
    shape: Tuple[int, ...], size: Size, options: ClassAugmentOptions, rng: np.random.Generator
) -> np.ndarray:
    """``(3, 3)`` map from a random crop to the result; pixel centers are whole numbers."""
    height, width = shape[:2]
    area = rng.uniform(options.crop_area, 1)
    stretch = np.exp(rng.uniform(-1, 1) * np.log(options.crop_stretch) / 2)
    wide, high = width * min(1.0, np.sqrt(area) * stretch), height * min(1.0, np.sqrt(area) / stretch)
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    x, y = size[0] / wide, size[1] / high
    return np.array([
        [x, 0, (0.5 - left) * x - 0.5],
        [0, y, (0.5 - top) * y - 0.5],
        [0, 0, 1],
    ])  # fmt: skip


def _about_center(matrix: Sequence[Sequence[float]], size: Size) -> np.ndarray:
    center = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = matrix, center - np.array(matrix) @ center
    return affine


def _rotate(strength: float, size: Size) -> np.ndarray:
    angle = np.deg2rad(strength * ROTATION)
    return _about_center([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], size)


def _shear_x(strength: float, size: Size) -> np.ndarray:
    return _about_center([[1, strength * SHEAR], [0, 1]], size)


def _shear_y(strength: float, size: Size) -> np.ndarray:
    return _about_center([[1, 0], [strength * SHEAR, 1]], size)


def _shift_x(strength: float, size: Size) -> np.ndarray:
    return np.array([[1, 0, strength * SHIFT * size[0]], [0, 1, 0], [0, 0, 1]])


def _shift_y(strength: float, size: Size) -> np.ndarray:
    return np.array([[1, 0, 0], [0, 1, strength * SHIFT * size[1]], [0, 0, 1]])


def _brightness(image: np.ndarray, strength: float) -> np.ndarray:
    return cv2.LUT(image, lookup_table(_LEVELS * (1 + BLEND * strength)))


def _contrast(image: np.ndarray, strength: float) -> np.ndarray:
    mean = float(np.dot(cv2.mean(image)[:3], (0.299, 0.587, 0.114)))
    return cv2.LUT(image, lookup_table(mean + (_LEVELS - mean) * (1 + BLEND * strength)))


def _color(image: np.ndarray, strength: float) -> np.ndarray:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    factor = 1 + BLEND * strength
    return cv2.addWeighted(image, factor, gray, 1 - factor, 0)


def _sharpness(image: np.ndarray, strength: float) -> np.ndarray:
    factor = 1 + BLEND * strength
    return cv2.addWeighted(image, factor, cv2.blur(image, (3, 3)), 1 - factor, 0)


def _posterize(image: np.ndarray, strength: float) -> np.ndarray:
    bits = 8 - round(abs(strength) * (8 - MIN_BITS))
    return cv2.bitwise_and(image, np.full_like(image, 256 - 2 ** (8 - bits)))


def _solarize(image: np.ndarray, strength: float) -> np.ndarray:
    limit = 256 * (1 - abs(strength))
    return cv2.LUT(image, lookup_table(np.where(limit > _LEVELS, _LEVELS, 255 - _LEVELS)))


def _autocontrast(image: np.ndarray, strength: float) -> np.ndarray:
    tables = []
    for channel in cv2.split(image):
        low, high, _, _ = cv2.minMaxLoc(channel)
        tables.append(lookup_table((_LEVELS - low) * (255 / (high - low)) if high > low else _LEVELS))
    return cv2.LUT(image, np.stack(tables, axis=1)[None])


def _equalize(image: np.ndarray, strength: float) -> np.ndarray:
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


_GEOMETRIC: Dict[str, Callable[[float, Size], np.ndarray]] = {
    "rotate": _rotate,
    "shear x": _shear_x,
    "shear y": _shear_y,
    "shift x": _shift_x,
    "shift y": _shift_y,
}
_COLORS: Dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "color": _color,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
_NAMES = np.array([*_GEOMETRIC, *_COLORS])
