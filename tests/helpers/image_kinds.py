"""Small files of every kind of image in docs/inputs.md, with the pixels that they stand for.

`READ` and `REFUSED` have a row for each row of the tables there, and cases for its layouts.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Callable, Dict, Iterable, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from helpers.tiff_files import as_rgb, levels

ORIENTATION = 0x0112
HEIGHT, WIDTH = 35, 37
_X, _Y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
COLORS = np.stack([_X * 6, _Y * 7, (_X + _Y) * 3], axis=2).astype(np.uint8)
GRAY = COLORS[:, :, 2]
ALPHA = np.ascontiguousarray(255 - COLORS[:, :, 0])
WIDE = COLORS.astype(np.uint16) * 256 + 77
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)

Case = Callable[[], Tuple[bytes, np.ndarray, float]]
"""Content of the file, its RGB pixels, largest difference that decoders may have."""


def save(image: Any, kind: str, **options: Any) -> bytes:
    """Content of a file that Pillow writes of an image or array."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def with_pillow(data: bytes) -> np.ndarray:
    """RGB pixels of a second decoder."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as displayed (TIFF 6.0, tag 274)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


# ---- JPEG

# 32 x 16 pixels of red 8 x, green 16 y, blue 128, by cjpeg of libjpeg-turbo 2.1.5: -arithmetic, -sample 4x1.
ARITHMETIC = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsI
CQoKCgoKBggLDAsKDAkKCgr/2wBDAQICAgICAgUDAwUKBwYHCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoK
CgoKCgoKCgoKCgoKCgr/yQARCAAQACADAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOzAvrwRvB4Y8JvL
HLt28srb+Pv4ZoOz3/slv6KX3PtD0bESsnHZR8JZufQ8u6CPXDgDB5iGeArE6Cu+LWwIPGSbzqrF5XrB3HUleTR187ZBFkVN
u+1buGu4Mz55cQ58qYtUkrOMPrpkO4sjW0LdCshv1QZ1JdcxzFE81P/Z
"""
FOUR_TO_ONE = """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQ
ERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU
FBQUFBQUFBQUFBQUFBT/wAARCAAQACADAUEAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABgj/xAAaEAABBQEAAAAAAAAA
AAAAAAAABQcjMqEx/8QAFQEBAQAAAAAAAAAAAAAAAAAABwj/xAAaEQACAwEBAAAAAAAAAAAAAAAABQchMTIi/9oADAMBAAIR
AxEAPwCP0lqeQ4Mklqqw4NElqeQ4M0lqaw4ITlxtiXGz/j0L0lqqw4M0lqeQ4M0lqaw4M0lqaw4Brlxtk4Rs+4s//9k=
"""
RAMP = np.stack([*np.meshgrid(np.arange(32) * 8, np.arange(16) * 16), np.full((16, 32), 128)], axis=2)


def jpeg(**options: Any) -> Case:
    return lambda: (save(COLORS, "JPEG", quality=95, **options), COLORS, 12)


def agrees(data: Callable[[], bytes]) -> Case:
    """A file without known pixels, read as Pillow does."""
    return lambda: (data(), with_pillow(data()), 3)


def adobe(data: bytes, transform: int) -> bytes:
    """The JPEG with another color transform in its Adobe segment, or (-1) without the segment."""
    start = data.index(b"\xff\xee")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + (data[start : end - 1] + bytes([transform]) if transform >= 0 else b"") + data[end:]


def inks() -> np.ndarray:
    return np.dstack([COLORS, np.full((HEIGHT, WIDTH), 40, np.uint8)])


def cmyk_to_rgb(inks: np.ndarray) -> np.ndarray:
    return np.rint((255.0 - inks[..., :3]) * (255 - inks[..., 3:].astype(float)) / 255).astype(np.uint8)


def cmyk_jpeg() -> bytes:
    return save(Image.fromarray(inks(), "CMYK"), "JPEG", quality=98, subsampling=0)


def patched_frame(marker: int, bits: int = 8) -> bytes:
    """A JPEG whose frame has another coding or precision."""
    data = save(COLORS, "JPEG")
    start = data.index(b"\xff\xc0")
    return (
        data[: start + 1] + bytes([marker]) + data[start + 2 : start + 4] + bytes([bits]) + data[start + 5 :]
    )


# ---- PNG


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(
    samples: np.ndarray,
    color: int,
    bits: int = 8,
    interlaced: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of ``(height, width, samples)`` with a color type, and chunks before and after the pixels."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    rows = [row for x, y, dx, dy in passes for row in samples[y::dy, x::dx] if row.size]
    raw = b"".join(b"\0" + packed(row.ravel(), bits) for row in rows)
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, color, 0, 0, interlaced)
    content = chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(raw)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def packed(row: np.ndarray, bits: int) -> bytes:
    """A row of samples, the first in the highest bits."""
    if bits >= 8:
        return row.astype(f">u{bits // 8}").tobytes()
    return np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]).tobytes()


def _png_gray(bits: int, interlaced: bool, transparent: bool = False) -> Case:
    samples = WIDE[:, :, 2:] >> (16 - bits)
    before = chunk(b"tRNS", struct.pack(">H", int(samples[3, 3, 0]))) if transparent else b""
    return lambda: (png(samples, 0, bits, interlaced, before), as_rgb(levels(samples, bits)), 0)


def _png_palette(bits: int, interlaced: bool, transparent: bool = False) -> Case:
    samples = GRAY[:, :, None] >> (8 - bits)
    colors = PALETTE[: 1 << bits]
    before = chunk(b"PLTE", colors.tobytes()) + (chunk(b"tRNS", b"\0\x80") if transparent else b"")
    return lambda: (png(samples, 3, bits, interlaced, before), colors[samples[:, :, 0]], 0)


def _png_color(bits: int, interlaced: bool, alpha: bool, gray: bool = False, before: bytes = b"") -> Case:
    colors = (WIDE if bits == 16 else COLORS)[:, :, 2:] if gray else WIDE if bits == 16 else COLORS
    samples = np.dstack([colors, ALPHA.astype(np.uint16) << (bits - 8)]) if alpha else colors
    expected = as_rgb(levels(colors, bits)) if gray else levels(colors, bits)
    return lambda: (png(samples, (0 if gray else 2) + 4 * alpha, bits, interlaced, before), expected, 0)


def png_with(before: bytes = b"", after: bytes = b"", orientation: int = 1) -> Case:
    return lambda: (png(COLORS, 2, 8, False, before, after), turned(COLORS, orientation), 0)


def png_cases() -> Dict[str, Case]:
    cases: Dict[str, Case] = {}
    for interlaced in (False, True):
        suffix = ", interlaced" if interlaced else ""
        for bits in (1, 2, 4, 8, 16):
            for transparent in (False, True):
                name = f"{bits} bits{', tRNS' if transparent else ''}{suffix}"
                cases[f"gray, {name}"] = _png_gray(bits, interlaced, transparent)
                if bits <= 8:
                    cases[f"palette, {name}"] = _png_palette(bits, interlaced, transparent)
        for bits in (8, 16):
            cases[f"RGB, {bits} bits{suffix}"] = _png_color(bits, interlaced, False)
            key = chunk(b"tRNS", struct.pack(">3H", *map(int, (WIDE if bits == 16 else COLORS)[3, 3])))
            cases[f"RGB, {bits} bits, tRNS{suffix}"] = _png_color(bits, interlaced, False, False, key)
            cases[f"RGB and alpha, {bits} bits{suffix}"] = _png_color(bits, interlaced, True)
            cases[f"gray and alpha, {bits} bits{suffix}"] = _png_color(bits, interlaced, True, True)
    return cases


# ---- BMP and Sun raster


def bmp(
    bits: int, rows: Sequence[bytes], palette: bytes = b"", compression: int = 0, masks: Sequence[int] = (),
    top_down: bool = False, encoded: bytes = b"",
) -> bytes:  # fmt: skip
    """A BMP of rows from the top, or of `encoded` rows."""
    content = encoded or b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    height = -HEIGHT if top_down else HEIGHT
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(content), 0, 0, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks) + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(content), 0, 0, 14 + len(head)) + head + content


def bmp_palette(bits: int, top_down: bool = False) -> Case:
    samples, colors = GRAY >> (8 - bits), PALETTE[: 1 << bits]
    table = np.dstack([colors[None, :, ::-1], np.zeros((1, len(colors), 1), np.uint8)]).tobytes()
    return lambda: (
        bmp(bits, [packed(row, bits) for row in samples], table, top_down=top_down), colors[samples], 0
    )  # fmt: skip


def bmp_24(top_down: bool = False) -> Case:
    return lambda: (bmp(24, [row[:, ::-1].tobytes() for row in COLORS], top_down=top_down), COLORS, 0)


def bmp_32(masks: Sequence[int] = (), top_down: bool = False) -> Case:
    shifts = [(mask & -mask).bit_length() - 1 for mask in masks] or [16, 8, 0]
    words = sum(COLORS[:, :, i].astype(np.uint32) << shift for i, shift in enumerate(shifts[:3]))
    rows = [row.astype("<u4").tobytes() for row in words]
    return lambda: (bmp(32, rows, b"", 3 if masks else 0, masks, top_down), COLORS, 0)


def bmp_16(masks: Sequence[int] = ()) -> Case:
    green = 6 if masks and masks[1] == 0x7E0 else 5
    parts = [COLORS[:, :, i] >> (8 - bits) for i, bits in enumerate((5, green, 5))]
    words = (parts[0].astype(int) << (5 + green)) + (parts[1].astype(int) << 5) + parts[2]
    expected = np.dstack([part * 255.0 / ((1 << bits) - 1) for part, bits in zip(parts, (5, green, 5))])
    rows = [row.astype("<u2").tobytes() for row in words]
    return lambda: (bmp(16, rows, b"", 3 if masks else 0, masks), expected, 1)


def bmp_run_length() -> Case:
    samples = GRAY // 16
    table = np.dstack([PALETTE[None, :, ::-1], np.zeros((1, 256, 1), np.uint8)]).tobytes()
    lines = [b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in samples[::-1]]
    return lambda: (bmp(8, [], table, 1, encoded=b"".join(lines)[:-2] + b"\0\1"), PALETTE[samples], 0)


def raster(depth: int, rows: Iterable[bytes], kind: int = 1, palette: bytes = b"") -> bytes:
    """A Sun raster file."""
    content = b"".join(row + bytes(len(row) % 2) for row in rows)
    head = (0x59A66A95, WIDTH, HEIGHT, depth, len(content), kind, 1 if palette else 0, len(palette))
    return struct.pack(">8I", *head) + palette + content


def qoi() -> bytes:
    """A QOI file in which each pixel has a chunk of its own (https://qoiformat.org)."""
    head = struct.pack(">4sIIBB", b"qoif", WIDTH, HEIGHT, 3, 0)
    return head + b"".join(b"\xfe" + pixel.tobytes() for pixel in COLORS.reshape(-1, 3)) + bytes(7) + b"\1"


# ---- JPEG 2000


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jp2(samples: np.ndarray, space: int = 16, palette: bytes = b"") -> bytes:
    """A lossless JP2 of an array with the color space `space`."""
    data = cv2.imencode(".jp2", samples)[1].tobytes()
    start = data.index(b"jp2h") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    image = data[start + 8 : start + 8 + 22]
    return (
        data[:start]
        + box(b"jp2h", image + box(b"colr", struct.pack(">3BI", 1, 0, 0, space)) + palette)
        + data[end:]
    )


def codestream(data: bytes) -> bytes:
    """The codestream in a JP2 file."""
    return data[data.index(b"\xff\x4f\xff\x51") :]


def patched_components(bits: int) -> bytes:
    """A JPEG 2000 codestream whose components have another depth; from 128 on, signed."""
    data = bytearray(codestream(jp2(GRAY, 17)))
    data[42] = bits
    return bytes(data)


def jp2_palette() -> Tuple[bytes, np.ndarray, float]:
    colors = struct.pack(">HB", 256, 3) + b"\7\7\7" + PALETTE.tobytes()
    mapped = b"".join(struct.pack(">HBB", 0, 1, i) for i in range(3))
    return jp2(GRAY, 16, box(b"pclr", colors) + box(b"cmap", mapped)), PALETTE[GRAY], 0
