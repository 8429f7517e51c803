"""SSD augmentation (Liu et al. 2016, sections 2.2 and 3.6) and mosaics of uint8 images.

Expand and crop are composed into one window, so that the image is resampled once; then its colors are
distorted. Random draws are made in this order: expand, crop, flip, interpolation, colors.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

from ..boxes import iou
from ..options import Size
from .transform_options import AugmentOptions

Annotated = Tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image ``(height, width, 3)`` uint8 RGB; its boxes ``(N, 4)`` float32, inclusive, in its pixels; and their
labels ``(N,)``. N may be 0."""

FILL = (124, 116, 104)
"""Color around an expanded image: the ImageNet mean (0.485, 0.456, 0.406) in RGB levels, 0 after
normalization."""

# Smaller objects, in pixels of the network input, are invisible, and the logarithms of their sizes diverge.
_MIN_SIDE = 1.0

_INTERPOLATIONS = (
    cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4,
)  # fmt: skip

MOSAIC_CENTER = (0.3, 0.7)
"""Range of the point where the four images of a mosaic meet, as fractions of the sides."""


class TrainTransform:
    """Augmentation and resizing of training images to `size` = ``(width, height)``."""

    def __init__(self, size: Size, options: Optional[AugmentOptions] = None) -> None:
        self.size = size
        self.options = options or AugmentOptions()
        self._canvas = np.full((size[1], size[0], 3), FILL, np.uint8)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> Annotated:
        """Augment one image; `rng` is the source of all randomness.

        The result has the objects whose center is in the crop, clipped to it, if they are at least one pixel
        wide and high.
        """
        opt = self.options
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        labels = np.asarray(labels)
        window = _expand((image.shape[1], image.shape[0]), opt, rng)
        window = _crop(window, (image.shape[1], image.shape[0]), boxes, opt, rng)
        mirrored = rng.random() < opt.flip_probability
        drawn = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
        interpolation = drawn if opt.random_interpolation else cv2.INTER_LINEAR

        source, target = _visible(window, image.shape, self.size)
        part = image[source[1] : source[3], source[0] : source[2]]
        target_size = (target[2] - target[0], target[3] - target[1])
        part = cv2.resize(part, target_size, interpolation=interpolation)
        part = distort_colors(part, opt, rng)
        if target_size == self.size:
            result = part
        else:
            result = self._canvas.copy()
            result[target[1] : target[3], target[0] : target[2]] = part
        if mirrored:
            result = cv2.flip(result, 1)

        keep = _center_inside(boxes, window)
        return (result, *self._boxes(boxes[keep], labels[keep], source, target, mirrored))

    def _boxes(
        self, boxes: np.ndarray, labels: np.ndarray, source: np.ndarray, target: np.ndarray, mirrored: bool
    ) -> Tuple[np.ndarray, np.ndarray]:
        """Boxes after `source` (in the image) is resized to `target` (in the result), clipped."""
        # One pixel of the image is `step` pixels of the result; the last pixel of an inclusive box starts at
        # most at size - step.
        step = (target[2:] - target[:2]) / (source[2:] - source[:2])
        last = np.asarray(self.size) - step
        shift = target[:2] - source[:2] * step
        moved = boxes.reshape(-1, 2, 2) * step + shift
        moved = np.clip(moved, 0, np.maximum(last, 0)).astype(np.float32).reshape(-1, 4)
        if mirrored:
            moved = flip_boxes(moved, float(last[0]) + 1)
        keep = (moved[:, 2:] - moved[:, :2] >= _MIN_SIDE).all(axis=1)
        return moved[keep], labels[keep]


class ValTransform:
    """Bilinear resizing to `size` = ``(width, height)``, without augmentation."""

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: object = None
    ) -> Annotated:
        """Resize one image, keeping all boxes; `rng` is not used."""
        scale = np.array(self.size, np.float32) / np.array(image.shape[1::-1], np.float32)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2)
        return cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR), boxes, np.asarray(labels)


def mosaic(parts: Sequence[Annotated], size: Size, rng: np.random.Generator) -> Annotated:
    """Combine four images into one, each resized to its quarter (YOLOv4, Bochkovskiy et al. 2020)."""
    width, height = size
    column, row = (round(side * rng.uniform(*MOSAIC_CENTER)) for side in size)
    canvas = np.empty((height, width, 3), np.uint8)
    all_boxes, all_labels = [], []
    quarters: Sequence[Tuple[int, int, int, int]] = (
        (0, 0, column, row), (column, 0, width, row),
        (0, row, column, height), (column, row, width, height),
    )  # fmt: skip
    for (image, boxes, labels), (left, top, right, bottom) in zip(parts, quarters):
        quarter = (right - left, bottom - top)
        canvas[top:bottom, left:right] = resize_smoothly(image, quarter)
        scale = np.array([quarter[0] / image.shape[1], quarter[1] / image.shape[0]], np.float32)
        all_boxes.append(np.asarray(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2) + [left, top] * 2)
        all_labels.append(np.asarray(labels))
    return canvas, np.concatenate(all_boxes).astype(np.float32), np.concatenate(all_labels)


def resize_smoothly(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize without keeping the aspect ratio: by averaging if both sides become smaller, else bilinearly."""
    smaller = image.shape[1] > size[0] and image.shape[0] > size[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def flip_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """Mirror inclusive boxes ``(N, 4)`` in an image of `width` pixels: column x becomes width - 1 - x."""
    flipped = boxes.copy()
    flipped[:, [0, 2]] = width - 1 - boxes[:, [2, 0]]
    return flipped


def distort_colors(image: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """Randomly change brightness, contrast, saturation and hue of ``(h, w, 3)`` uint8 RGB.

    Brightness is first; contrast is randomly second or last (``ApplyDistort`` in the authors' Caffe code).
    """
    chances, strength = rng.random(5), rng.uniform(-1, 1, 4)
    change_brightness, change_contrast, saturate, shift_hue = chances[:4] < options.color_probability
    levels = np.arange(256, dtype=np.float64)
    if change_brightness:
        levels = np.clip(levels + strength[0] * options.brightness, 0, 255)
    factor = 1 + strength[1] * options.contrast if change_contrast else 1.0
    contrast_last = chances[4] < 0.5
    hsv = saturate or shift_hue
    if change_contrast and not (hsv and contrast_last):
        levels = levels * factor
    if change_brightness or change_contrast:
        image = cv2.LUT(image, lookup_table(levels))
    if hsv:
        tables = np.empty((256, 3), np.uint8)
        tables[:, 0] = (np.arange(256) + round(strength[3] * options.hue if shift_hue else 0)) % 180
        scale = 1 + strength[2] * options.saturation if saturate else 1
        tables[:, 1] = lookup_table(np.arange(256) * scale)
        tables[:, 2] = np.arange(256)
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image = cv2.cvtColor(cv2.LUT(image, tables[None]), cv2.COLOR_HSV2RGB)
        if change_contrast and contrast_last:
            image = cv2.LUT(image, lookup_table(np.arange(256) * factor))
    return image


def lookup_table(levels: np.ndarray) -> np.ndarray:
    """Levels rounded and limited to 0 to 255, as uint8."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _expand(image: Size, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """Window ``(left, top, right, bottom)`` of the expanded canvas, in pixels of the image.

    Right and bottom are exclusive. The window may extend beyond the image.
    """
    width, height = image
    chance, scale, x, y = rng.random(4)
    ratio = 1 + scale * (options.expand_ratio - 1) if chance < options.expand_probability else 1.0
    canvas_width, canvas_height = int(width * ratio), int(height * ratio)
    left = -int(x * (canvas_width - width + 1))
    top = -int(y * (canvas_height - height + 1))
    return np.array([left, top, left + canvas_width, top + canvas_height])


def _crop(
    canvas: np.ndarray, image: Size, boxes: np.ndarray, options: AugmentOptions, rng: np.random.Generator
) -> np.ndarray:
    """Random crop of the canvas: SSD's samplers in random order, until one has a valid trial.

    The Caffe code runs all samplers and draws from the successful ones, which is the same distribution. A
    crop is valid if its IoU with ANY object reaches the sampler's minimum (``SatisfySampleConstraint``) and
    it contains the center of an object; without objects, if it shows some of the image.
    """
    minima = (*options.crop_overlaps, None)
    for sampler in rng.permutation(len(minima) + 1):
        if sampler == len(minima) or options.crop_trials == 0:
            return canvas
        windows = _draw_windows(canvas, options, rng)
        if len(boxes) == 0:
            valid = (windows[:, :2] < image).all(axis=1) & (windows[:, 2:] > 0).all(axis=1)
        else:
            valid = _center_inside(boxes, windows[:, None]).any(axis=1)
            minimum = minima[sampler]
            if minimum is not None:
                exclusive = boxes + np.array([0, 0, 1, 1], np.float32)  # right and bottom as in the windows
                valid &= iou(windows[:, None], exclusive).max(axis=1) >= minimum
        if valid.any():
            return windows[valid.argmax()]
    return canvas


def _draw_windows(canvas: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """``(crop_trials, 4)`` random windows in the canvas, as by SSD's ``SampleBBox``."""
    size = canvas[2:] - canvas[:2]
    draws = rng.random((4, options.crop_trials))
    scale = options.crop_scale + draws[0] * (1 - options.crop_scale)
    # These bounds keep both sides within the canvas.
    low = np.maximum(1 / options.crop_aspect, scale**2)
    high = np.minimum(options.crop_aspect, 1 / scale**2)
    root = np.sqrt(low + draws[1] * (high - low))
    sides = np.stack([scale * root, scale / root], axis=1) * size
    sides = np.clip(sides.astype(np.int64), 1, size)
    corner = canvas[:2] + (draws[2:].T * (size - sides + 1)).astype(np.int64)
    return np.hstack([corner, corner + sides])


def _center_inside(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Whether the center of each box is in the window (or in ``(W, 1, 4)`` windows)."""
    center = (boxes[:, :2] + boxes[:, 2:] + 1) / 2
    return ((center >= window[..., :2]) & (center < window[..., 2:])).all(axis=-1)


def _visible(window: np.ndarray, shape: Tuple[int, ...], size: Size) -> Tuple[np.ndarray, np.ndarray]:
    """The part of the image in the window, and the pixels of the result that it fills.

    Both are whole pixels. Boxes are moved by this pair instead of the window, to follow the rounding.
    """
    image = np.array([shape[1], shape[0]])
    low, high = np.clip(window[:2], 0, image - 1), np.clip(window[2:], 1, image)
    step = np.array(size) / (window[2:] - window[:2])
    start = np.clip(np.rint((low - window[:2]) * step).astype(np.int64), 0, np.array(size) - 1)
    end = np.clip(np.rint((high - window[:2]) * step).astype(np.int64), start + 1, size)
    return np.hstack([low, high]), np.hstack([start, end])
