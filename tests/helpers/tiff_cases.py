"""The cases of TIFF files, for `image_cases`."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from helpers import image_kinds as kinds
from helpers.image_kinds import ALPHA, COLORS, GRAY, PALETTE, WIDE, Case, save, turned
from helpers.tiff_files import (
    ASSOCIATED,
    CMYK,
    DEFLATE,
    PACKBITS,
    RGB,
    UNASSOCIATED,
    WHITE_IS_ZERO,
    YCBCR,
    as_rgb,
    levels,
    tiff,
)  # fmt: skip
from helpers.tiff_files import PALETTE as TIFF_PALETTE

LEVELS = GRAY[:, :, None]
WIDE_LEVELS = WIDE[:, :, 2:]
WIDE_ALPHA = ALPHA.astype(np.uint16) * 257


def gray_tiff(bits: int, **options: Any) -> Case:
    samples = WIDE_LEVELS >> (16 - bits)
    return lambda: (tiff(samples, bits, **options), as_rgb(levels(samples, bits)), 0)


def rgb_tiff(bits: int = 8, alpha: Sequence[int] = (), **options: Any) -> Case:
    """Colors, and a further sample for each number of `alpha` (the values of ExtraSamples)."""
    colors, more = (WIDE, WIDE_ALPHA) if bits == 16 else (COLORS, ALPHA)
    samples = np.dstack([colors, *[more] * len(alpha)])
    return lambda: (tiff(samples, bits, RGB, extra=alpha, **options), levels(colors, bits), 0)


def white_tiff(bits: int, **options: Any) -> Case:
    samples = WIDE_LEVELS >> (16 - bits)
    return lambda: (tiff(samples, bits, WHITE_IS_ZERO, **options), as_rgb(255 - levels(samples, bits)), 0)


def palette_tiff(bits: int) -> Case:
    samples, colors = LEVELS >> (8 - bits), PALETTE[: 1 << bits]
    table = (colors.T.astype(int) * 257).ravel().tolist()
    return lambda: (
        tiff(samples, bits, TIFF_PALETTE, tags=[(320, 3, table)]), colors[samples[:, :, 0]], 0
    )  # fmt: skip


def associated_tiff(bits: int, **options: Any) -> Case:
    """Colors multiplied by alpha, which is large, so that the division gives them back."""
    alpha = 255 - (ALPHA // 4)
    premultiplied = COLORS.astype(int) * alpha[:, :, None] // 255
    samples = np.dstack([premultiplied, alpha]).astype(np.uint16) * (257 if bits == 16 else 1)
    return lambda: (tiff(samples, bits, RGB, extra=[ASSOCIATED], **options), COLORS, 3)


def turned_tiff(orientation: int, bits: int) -> Case:
    colors = WIDE if bits == 16 else COLORS
    tags = [(274, 3, [orientation])]
    return lambda: (tiff(colors, bits, RGB, tags=tags), turned(levels(colors, bits), orientation), 0)


def pillow_tiff(mode: str, **options: Any) -> Case:
    image = Image.fromarray(COLORS).convert(mode)
    return lambda: (save(image, "TIFF", **options), np.array(image.convert("RGB")), 12 * (mode != "1"))


def _ycc(colors: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(colors, cv2.COLOR_RGB2YCrCb)[:, :, [0, 2, 1]]


def _subsampled_tiff() -> Tuple[bytes, np.ndarray, float]:
    """Uncompressed YCbCr with one Cb and Cr for 2 x 2 pixels, as without the tag for other factors."""
    colors = np.kron(COLORS[:10, :12], np.ones((2, 2, 1), np.uint8))
    ycc = _ycc(colors)
    brightness = [ycc[y::2, x::2, 0] for y in (0, 1) for x in (0, 1)]
    blocks = np.stack([*brightness, ycc[::2, ::2, 1], ycc[::2, ::2, 2]], axis=2)
    tags = [(256, 4, [24]), (257, 4, [20]), (258, 3, [8] * 3), (277, 3, [3]), (278, 4, [20])]
    return tiff(blocks, 8, YCBCR, rows=10, tags=tags), colors, 3


_INKS = kinds.inks()
TIFF: Dict[str, Case] = {
    **{f"gray, {bits} bits": gray_tiff(bits) for bits in (1, 2, 4, 8, 16)},
    **{f"white is zero, {bits} bits": white_tiff(bits) for bits in (1, 4, 8, 16)},
    **{f"palette, {bits} bits": palette_tiff(bits) for bits in (1, 4, 8)},
    "RGB, 8 bits": rgb_tiff(),
    "RGB, 16 bits": rgb_tiff(16),
    "CMYK, 8 bits": lambda: (tiff(_INKS, 8, CMYK), kinds.cmyk_to_rgb(_INKS), 1),
    "CMYK, 16 bits": lambda: (
        tiff(_INKS.astype(np.uint16) * 257, 16, CMYK), kinds.cmyk_to_rgb(_INKS), 1
    ),
    "YCbCr": lambda: (tiff(_ycc(COLORS), 8, YCBCR, tags=[(530, 3, [1, 1])]), COLORS, 3),
    "YCbCr, subsampled": _subsampled_tiff,
}  # fmt: skip
TIFF_STORAGE: Dict[str, Case] = {
    "gray of 16 bits, tiles": gray_tiff(16, tile=(16, 16)),
    "gray of 16 bits, tiles wider than the image": gray_tiff(16, tile=(48, 32), order=">"),
    "white is zero of 16 bits, tiles": white_tiff(16, tile=(16, 32)),
    "one bit, tiles": gray_tiff(1, tile=(16, 16)),
    "RGB, tiles": rgb_tiff(tile=(16, 16)),
    "RGB of 16 bits, big-endian": rgb_tiff(16, order=">"),
    "RGB of 16 bits, planes": rgb_tiff(16, planar=True),
    "RGB of 16 bits, planes of tiles": rgb_tiff(16, planar=True, tile=(32, 16)),
    "RGB, planes of tiles": rgb_tiff(planar=True, tile=(16, 16)),
    "BigTIFF": rgb_tiff(16, big=True),
    "two pages": lambda: (
        save(COLORS, "TIFF", save_all=True, append_images=[Image.fromarray(GRAY)]), COLORS, 0
    ),
    **{f"orientation {o}": turned_tiff(o, 16 if o % 2 else 8) for o in range(1, 9)},
}  # fmt: skip
TIFF_COMPRESSION: Dict[str, Case] = {
    "PackBits": rgb_tiff(16, compression=PACKBITS),
    "Deflate": rgb_tiff(16, compression=DEFLATE, tile=(16, 16)),
    "Deflate, predictor": rgb_tiff(16, compression=DEFLATE, predictor=2),
    "Deflate, predictor, big-endian": gray_tiff(16, compression=DEFLATE, predictor=2, order=">"),
    "LZW": lambda: (save(COLORS, "TIFF", compression="tiff_lzw"), COLORS, 0),
    "LZW, gray of 16 bits": lambda: (
        save(Image.fromarray(WIDE[:, :, 2]), "TIFF", compression="tiff_lzw"), as_rgb(GRAY), 0
    ),
    "JPEG": pillow_tiff("RGB", compression="jpeg", quality=95),
    "JPEG, gray": pillow_tiff("L", compression="jpeg", quality=95),
    "JPEG, YCbCr": pillow_tiff("YCbCr", compression="jpeg", quality=95),
    **{f"CCITT, {name}": pillow_tiff("1", compression=name) for name in ("group3", "group4", "tiff_ccitt")},
}  # fmt: skip
TIFF_ALPHA: Dict[str, Case] = {
    **{f"unassociated, {bits} bits": rgb_tiff(bits, [UNASSOCIATED]) for bits in (8, 16)},
    "unassociated, planes": rgb_tiff(8, [UNASSOCIATED], planar=True),
    "unassociated, tiles": rgb_tiff(16, [UNASSOCIATED], tile=(16, 16), order=">"),
    "unassociated, gray": lambda: (
        tiff(np.dstack([GRAY, ALPHA]), 8, extra=[UNASSOCIATED], tile=(48, 16)), as_rgb(GRAY), 0
    ),
    "unspecified": rgb_tiff(8, [0]),
    "unspecified, planes": rgb_tiff(8, [0], planar=True),
    "two further samples": rgb_tiff(8, [0, 0]),
    "associated, 8 bits": associated_tiff(8),
    "associated, 16 bits": associated_tiff(16, tile=(16, 16)),
    "associated, planes": associated_tiff(8, planar=True),
}  # fmt: skip
