"""SSD's augmentation (Liu et al. 2016, sections 2.2 and 3.6) on uint8 images.

Expand, crop and flip are three choices of a window; they are composed on paper and the image is
resampled once, only the part of it that is seen. Colours are distorted on that small result, by
tables. What is drawn and its order: first the window (expand, crop, flip), then the interpolation,
then the colours.
"""

from __future__ import annotations

from typing import Optional, Tuple

import cv2
import numpy as np

from ..boxes import iou
from .transform_options import AugmentOptions

Size = Tuple[int, int]
Annotated = Tuple[np.ndarray, np.ndarray, np.ndarray]

# The original SSD's.
PAPER = AugmentOptions()

# What an expanded image is filled with: the ImageNet mean (0.485, 0.456, 0.406) in RGB levels, so
# that the network sees zeros there.
FILL = (124, 116, 104)

# An object of less than one network pixel cannot be seen, and its logarithms run away.
_SMALLEST_SIDE = 1.0

_INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_AREA,
    cv2.INTER_LANCZOS4,
)


class TrainTransform:
    """One image, augmented, at the size of the network's input.

    Parameters
    ----------
    size : tuple of int
        ``(width, height)`` of the result.
    options : AugmentOptions
        What is drawn, and how far it goes.
    """

    def __init__(self, size: Size, options: AugmentOptions = PAPER) -> None:
        self.size = size
        self.options = options
        self._canvas = np.full((size[1], size[0], 3), FILL, np.uint8)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> Annotated:
        """Augment one image; everything random comes from `rng`.

        Parameters
        ----------
        image : numpy.ndarray
            ``(height, width, 3)`` uint8 RGB.
        boxes : numpy.ndarray
            ``(N, 4)`` float32 in pixels of `image`, see `mnssd.data.sample`. N may be 0.
        labels : numpy.ndarray
            ``(N,)``.
        rng : numpy.random.Generator
            The sample's own generator.

        Returns
        -------
        image : numpy.ndarray
            ``(size[1], size[0], 3)`` uint8 RGB.
        boxes : numpy.ndarray
            ``(M, 4)`` float32 in pixels of the result: the objects whose centre is in the crop,
            clipped to it, one pixel or more wide and high. M may be 0.
        labels : numpy.ndarray
            ``(M,)``, theirs.
        """
        opt = self.options
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        labels = np.asarray(labels)
        window = _expand((image.shape[1], image.shape[0]), opt, rng)
        window = _crop(window, (image.shape[1], image.shape[0]), boxes, opt, rng)
        mirrored = rng.random() < opt.flip_probability
        chosen = int(rng.integers(len(_INTERPOLATIONS)))
        interpolation = _INTERPOLATIONS[chosen] if opt.random_interpolation else cv2.INTER_LINEAR

        source, place = _visible(window, image.shape, self.size)
        part = image[source[1] : source[3], source[0] : source[2]]
        place_size = (place[2] - place[0], place[3] - place[1])
        part = cv2.resize(part, place_size, interpolation=interpolation)
        part = distort_colors(part, opt, rng)
        if place_size == self.size:
            result = part
        else:
            result = self._canvas.copy()
            result[place[1] : place[3], place[0] : place[2]] = part
        if mirrored:
            result = cv2.flip(result, 1)

        keep = _centre_inside(boxes, window)
        return (result, *self._boxes(boxes[keep], labels[keep], source, place, mirrored))

    def _boxes(
        self, boxes: np.ndarray, labels: np.ndarray, source: np.ndarray, place: np.ndarray, mirrored: bool
    ) -> Tuple[np.ndarray, np.ndarray]:
        """The boxes where `source` (of the image) went to `place` (of the result), clipped."""
        # One pixel of the image is `step` pixels of the result; the last pixel that an inclusive
        # box can name begins at size - step.
        step = (place[2:] - place[:2]) / (source[2:] - source[:2])
        last = np.asarray(self.size) - step
        shift = place[:2] - source[:2] * step
        moved = boxes.reshape(-1, 2, 2) * step + shift
        moved = np.clip(moved, 0, np.maximum(last, 0)).astype(np.float32).reshape(-1, 4)
        if mirrored:
            moved = flip_boxes(moved, float(last[0]) + 1)
        keep = (moved[:, 2:] - moved[:, :2] >= _SMALLEST_SIDE).all(axis=1)
        return moved[keep], labels[keep]


class ValTransform:
    """One image, resized (bilinear) to the network's input and nothing else.

    Parameters
    ----------
    size : tuple of int
        ``(width, height)`` of the result.
    """

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        rng: Optional[np.random.Generator] = None,
    ) -> Annotated:
        """As `TrainTransform`, with every box kept; `rng` is not used."""
        scale = np.array(self.size, np.float32) / np.array(image.shape[1::-1], np.float32)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * np.tile(scale, 2)
        return cv2.resize(image, self.size, interpolation=cv2.INTER_LINEAR), boxes, np.asarray(labels)


def flip_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """Mirror ``(N, 4)`` inclusive boxes in an image of `width` pixels: column x becomes width - 1 - x."""
    flipped = boxes.copy()
    flipped[:, 0] = width - 1 - boxes[:, 2]
    flipped[:, 2] = width - 1 - boxes[:, 0]
    return flipped


def distort_colors(image: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of ``(h, w, 3)`` uint8 RGB, each by chance.

    Brightness comes first; contrast next or last, by chance (``ApplyDistort`` in SSD's Caffe).
    """
    chances, strength = rng.random(5), rng.uniform(-1, 1, 4)
    bright, contrast, saturate, turn = chances[:4] < options.color_probability
    levels = np.arange(256, dtype=np.float64)
    if bright:
        levels = np.clip(levels + strength[0] * options.brightness, 0, 255)
    factor = 1 + strength[1] * options.contrast if contrast else 1.0
    contrast_last = chances[4] < 0.5
    hsv = saturate or turn
    if contrast and not (hsv and contrast_last):
        levels = levels * factor
    if bright or contrast:
        image = cv2.LUT(image, _table(levels))
    if hsv:
        tables = np.empty((256, 3), np.uint8)
        tables[:, 0] = (np.arange(256) + round(strength[3] * options.hue if turn else 0)) % 180
        tables[:, 1] = _table(np.arange(256) * (1 + strength[2] * options.saturation if saturate else 1))
        tables[:, 2] = np.arange(256)
        image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        image = cv2.cvtColor(cv2.LUT(image, tables[None]), cv2.COLOR_HSV2RGB)
        if contrast and contrast_last:
            image = cv2.LUT(image, _table(np.arange(256) * factor))
    return image


def _table(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _expand(image: Size, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """A window ``(left, top, right, bottom)``, in pixels of the image, that is the expanded canvas.

    Right and bottom are the first column and row outside. Part of it may lie outside the image.
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
    """A window within the canvas: SSD's samplers, one drawn, another when its trials all fail.

    The Caffe code runs all samplers and draws among those that succeeded: the same distribution.
    A crop passes when its IoU with SOME object reaches the limit (``SatisfySampleConstraint``)
    and it has the centre of an object; without objects, when it shows any of the image.
    """
    limits = (*options.crop_overlaps, None)
    for sampler in rng.permutation(len(limits) + 1):
        if sampler == len(limits) or options.crop_trials == 0:
            return canvas
        windows = _draw_windows(canvas, options, rng)
        if len(boxes) == 0:
            good = (windows[:, :2] < image).all(axis=1) & (windows[:, 2:] > 0).all(axis=1)
        else:
            good = _centre_inside(boxes, windows[:, None]).any(axis=1)
            ends = boxes + np.float32([0, 0, 1, 1])  # as the windows: up to the first pixel outside
            limit = limits[sampler]
            if limit is not None:
                good &= iou(windows[:, None], ends).max(axis=1) >= limit
        if good.any():
            return windows[good.argmax()]
    return canvas


def _draw_windows(canvas: np.ndarray, options: AugmentOptions, rng: np.random.Generator) -> np.ndarray:
    """``(crop_trials, 4)`` windows in the canvas, drawn as SSD's ``SampleBBox`` does."""
    size = canvas[2:] - canvas[:2]
    draws = rng.random((4, options.crop_trials))
    scale = options.crop_scale + draws[0] * (1 - options.crop_scale)
    # The limits keep both sides within the canvas.
    low = np.maximum(1 / options.crop_aspect, scale**2)
    high = np.minimum(options.crop_aspect, 1 / scale**2)
    root = np.sqrt(low + draws[1] * (high - low))
    sides = np.stack([scale * root, scale / root], axis=1) * size
    sides = np.clip(sides.astype(np.int64), 1, size)
    corner = canvas[:2] + (draws[2:].T * (size - sides + 1)).astype(np.int64)
    return np.hstack([corner, corner + sides])


def _centre_inside(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Which boxes have their centre in the window (or ``(W, 1, 4)`` windows)."""
    centre = (boxes[:, :2] + boxes[:, 2:] + 1) / 2
    return ((centre >= window[..., :2]) & (centre < window[..., 2:])).all(axis=-1)


def _visible(window: np.ndarray, shape: Tuple[int, ...], size: Size) -> Tuple[np.ndarray, np.ndarray]:
    """The part of the image that lies in the window, and the whole pixels of the result it fills.

    Boxes are moved by this pair, not by the window, so that they stay on their pixels whatever was
    rounded here.
    """
    image = np.array([shape[1], shape[0]])
    low, high = np.clip(window[:2], 0, image - 1), np.clip(window[2:], 1, image)
    step = np.array(size) / (window[2:] - window[:2])
    start = np.clip(np.rint((low - window[:2]) * step).astype(np.int64), 0, np.array(size) - 1)
    end = np.clip(np.rint((high - window[:2]) * step).astype(np.int64), start + 1, size)
    return np.hstack([low, high]), np.hstack([start, end])
