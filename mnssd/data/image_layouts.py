"""Layouts within a kind of image file: which are not read, and which OpenCV decodes wrongly.

Found by comparing OpenCV 4.11 and Pillow 13 with tifffile and imagecodecs; tests/data/test_image_kinds.py has
a file of each layout.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, Iterator, Tuple

from PIL import TiffImagePlugin

# Tags of TIFF 6.0, and ImageDepth of libtiff.
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 254, 258, 259, 262, 277, 284
_INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _IMAGE_DEPTH = 332, 338, 339, 32997
_SAMPLE_TYPES = {2: "signed integer", 3: "floating-point", 5: "complex integer", 6: "complex"}

# Bits and numbers of samples that are read, by PhotometricInterpretation.
_TIFF_LAYOUTS = {
    0: ("white is zero", (1, 2, 4, 8, 16), (1,)),
    1: ("gray", (1, 2, 4, 8, 16), (1, 2)),
    2: ("RGB", (8, 16), (3, 4, 5, 6)),
    3: ("palette", (1, 2, 4, 8), (1, 2)),
    5: ("CMYK", (8, 16), (4,)),
    6: ("YCbCr", (8,), (3,)),
}
_OTHER_COLORS = {
    4: "mask",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "camera raw",
    34892: "linear raw",
}
_OLD_JPEG, _LOG_LUV, _WEBP = 6, (34676, 34677), 50001

_SRGB, _GRAY, _SYCC = 16, 17, 18  # EnumCS of ITU-T T.800, table I.10
_CODESTREAM_START = b"\xff\x4f\xff\x51"
_JPEG2000_STARTS = (b"\0\0\0\x0cjP  ", _CODESTREAM_START)
_RASTER_START = b"\x59\xa6\x6a\x95"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def unreadable_layout(data: bytes) -> str:
    """What the content of an image file is, in words, if its layout is not read; else empty."""
    if data.startswith(TIFF_STARTS):
        return _unreadable_tiff(data)
    if data.startswith(_JPEG2000_STARTS):
        return _unreadable_jpeg2000(data)
    return _unreadable_raster(data) if data.startswith(_RASTER_START) else ""


def needs_pillow(kind: str, data: bytes) -> bool:
    """Whether OpenCV does not read the kind, ignores a part of the layout, or decodes it wrongly."""
    if kind == "BMP":  # OpenCV ignores the masks of 32 bits, and does not scale 5 bits to 8
        return data[14:18] != struct.pack("<I", 12) and data[28:30] in (b"\x10\0", b"\x20\0")
    if kind == "JPEG2000":  # OpenCV reads no gray codestreams, and decodes sYCC with other factors
        return len(_components(data)) <= 2 * 3 or _color_space(data) == _SYCC
    if kind == "SUN":  # OpenCV inverts rasters of one bit, and does not read type 3
        return data[12:16] == struct.pack(">I", 1) or data[20:24] == struct.pack(">I", 3)
    return kind not in ("JPEG", "PNG", "WEBP")


# ---- TIFF


def read_tiff_with_libtiff() -> None:
    """Let Pillow decode all TIFF files with libtiff: its own decoder mixes up uncompressed planes."""
    TiffImagePlugin.READ_LIBTIFF = True


def is_white_zero(tags: Any) -> bool:
    """Whether 0 is white in the TIFF file of these tags; Pillow inverts other depths than 16 bits."""
    return tags.get(_PHOTOMETRIC) == 0


def _unreadable_tiff(data: bytes) -> str:
    if data.startswith(b"MM\0+"):
        return "BigTIFF in big-endian byte order"
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" else 8])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
    except Exception:  # damaged, or the directory is beyond the first bytes
        return ""
    if tags.get(_SUBFILE, 0) & 5:
        return "TIFF that starts with a thumbnail or mask"
    if tags.get(_IMAGE_DEPTH, 1) != 1:
        return "TIFF of a volume"
    if data.startswith(b"MM") and is_white_zero(tags) and 16 in _tuple(tags.get(_BITS, 1)):
        return "white is zero TIFF with 16 bits in big-endian byte order"
    return _unreadable_compression(tags.get(_COMPRESSION, 1)) or _unreadable_samples(tags)


def _unreadable_compression(compression: int) -> str:
    known = compression in TiffImagePlugin.COMPRESSION_INFO
    if compression == _OLD_JPEG:
        return "TIFF with old-style JPEG compression"
    if not known or compression in (*_LOG_LUV, _WEBP):
        return f"TIFF with compression {compression}"
    return ""


def _unreadable_samples(tags: Any) -> str:
    """Problem of the number, type, bits or colors of the samples."""
    photometric, samples = tags.get(_PHOTOMETRIC, 1), tags.get(_SAMPLES, 1)
    depths, types = set(_tuple(tags.get(_BITS, 1))), set(_tuple(tags.get(_SAMPLE_FORMAT, 1)))
    bits = "/".join(map(str, sorted(depths)))
    for number in types - {1}:
        return f"TIFF with {bits}-bit {_SAMPLE_TYPES.get(number, 'untyped')} samples"
    if photometric not in _TIFF_LAYOUTS:
        return f"TIFF with {_OTHER_COLORS.get(photometric, f'color space {photometric}')} colors"
    name, read_bits, counts = _TIFF_LAYOUTS[photometric]
    if depths != {8} and len(counts) > 1:  # further samples than alpha, and alpha of gray levels
        counts = counts[: 2 if photometric == 2 else 1]
    if len(depths) != 1 or not depths <= set(read_bits) or samples not in counts:
        return f"{name} TIFF with {samples} samples of {bits} bits"
    if samples > 4 and tags.get(_PLANAR) == 2 and _tuple(tags.get(_EXTRA_SAMPLES, 0))[0]:
        return f"{name} TIFF with alpha and further samples in planes"  # Pillow: decoder error -2
    if photometric == 1 and 1 in _tuple(tags.get(_EXTRA_SAMPLES, 0)):
        return "TIFF with gray levels multiplied by alpha"
    return "TIFF with other inks than CMYK" if photometric == 5 and tags.get(_INK_SET, 1) != 1 else ""


def _tuple(value: Any) -> Tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


# ---- JPEG 2000


def _boxes(data: bytes, start: int, end: int) -> Iterator[Tuple[bytes, int, int]]:
    """Type, start and end of the content of each box (ITU-T T.800, section I.4)."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= end:
            (length,), head = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if length == 0 else start + length
        if stop < start + head:
            return
        yield kind, start + head, min(stop, end)
        start = stop


def _color_space(data: bytes) -> int:
    """EnumCS of a JP2 file; that of RGB if there is none, and -1 for an ICC profile of other colors."""
    for kind, start, end in _boxes(data, 0, len(data)):
        for inner, first, last in _boxes(data, start, end) if kind == b"jp2h" else ():
            if inner == b"colr" and data[first : first + 1] == b"\1":
                return int.from_bytes(data[first + 3 : first + 7], "big")
            if inner == b"colr" and data[first : first + 1] == b"\2":
                return _SRGB if data[first + 19 : min(last, first + 23)] in (b"RGB ", b"GRAY") else -1
    return _SRGB


def _components(data: bytes) -> bytes:
    """Three bytes per component: bits and sign, and two sampling factors (ITU-T T.800, section A.5.1)."""
    position = 0 if data.startswith(_CODESTREAM_START) else -1
    for kind, start, _ in _boxes(data, 0, len(data)) if position else ():
        if kind == b"jp2c":
            position = start
    if position < 0 or len(data) < position + 42:  # damaged, or beyond the first bytes
        return b""
    (count,) = struct.unpack_from(">H", data, position + 40)
    return data[position + 42 : position + 42 + 3 * count]


def _unreadable_jpeg2000(data: bytes) -> str:
    sizes = _components(data)
    if not sizes:
        return ""
    count = len(sizes) // 3
    bits = {(value & 127) + 1 for value in sizes[::3]}
    if any(value > 127 for value in sizes[::3]):
        return "JPEG 2000 with signed samples"
    space = _color_space(data)
    if space not in (_SRGB, _GRAY, _SYCC):
        return "JPEG 2000 with other colors than gray, RGB and sYCC"
    if count not in (1, 2, 3, 4) or len(bits) > 1 or not 8 <= max(bits, default=0) <= 16:
        return f"JPEG 2000 with {count} components of {'/'.join(map(str, sorted(bits)))} bits"
    if set(sizes[1::3]) | set(sizes[2::3]) != {1}:
        return "JPEG 2000 with subsampled components"
    if space == _SYCC and (count, bits) != (3, {8}):
        return f"JPEG 2000 with sYCC colors, {count} components and {max(bits)} bits"
    return ""


# ---- Sun raster


def _unreadable_raster(data: bytes) -> str:
    if len(data) < 32:
        return ""
    depth, _, kind, _, colors = struct.unpack_from(">5I", data, 12)
    if kind not in (0, 1, 3):
        return "Sun raster with run-length encoding" if kind == 2 else f"Sun raster of type {kind}"
    if depth not in (1, 8, 24, 32) or (colors and depth != 8) or (depth == 32 and kind == 3):
        return f"Sun raster of {depth} bits{' with a palette' if colors else ''}"
    return ""
