"""The cases of `image_kinds`, by the rows of the tables in docs/inputs.md."""

from __future__ import annotations

import base64
import struct
from typing import Any, Callable, Dict

import cv2
import numpy as np
from PIL import Image

from helpers import image_kinds as kinds
from helpers.image_kinds import (
    ALPHA,
    COLORS,
    GRAY,
    HEIGHT,
    PALETTE,
    WIDE,
    WIDTH,
    Case,
    agrees,
    chunk,
    exif,
    jpeg,
    save,
    turned,
    with_pillow,
)  # fmt: skip
from helpers.tiff_cases import (
    LEVELS,
    TIFF,
    TIFF_ALPHA,
    TIFF_COMPRESSION,
    TIFF_STORAGE,
    WIDE_ALPHA,
    WIDE_LEVELS,
)
from helpers.tiff_files import ASSOCIATED, CMYK, LAB, RGB, UNASSOCIATED, WHITE_IS_ZERO, as_rgb, tiff
from helpers.tiff_files import GRAY as TIFF_GRAY

# ---- JPEG

_BASELINE = save(COLORS, "JPEG", quality=95)

JPEG: Dict[str, Case] = {
    "baseline": jpeg(),
    "progressive": jpeg(progressive=True),
    "restart markers": jpeg(restart_marker_blocks=2),
    "arithmetic coding": lambda: (base64.b64decode(kinds.ARITHMETIC), kinds.RAMP, 6),
    "data after the end": lambda: (_BASELINE + bytes(99) + save(GRAY, "JPEG"), with_pillow(_BASELINE), 0),
    "MPO": lambda: (
        save(COLORS, "MPO", save_all=True, append_images=[Image.fromarray(GRAY)], quality=95), COLORS, 12
    ),
    **{
        f"orientation {o}": lambda o=o: (
            save(COLORS, "JPEG", exif=exif(o), quality=95), turned(with_pillow(_BASELINE), o), 0
        )
        for o in range(1, 9)
    },
}  # fmt: skip

JPEG_COLORS: Dict[str, Case] = {
    "gray": lambda: (save(GRAY, "JPEG", quality=95), as_rgb(GRAY), 6),
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "4:2:0": jpeg(subsampling=2),
    "4:1:1": lambda: (base64.b64decode(kinds.FOUR_TO_ONE), kinds.RAMP, 24),
    "RGB": jpeg(keep_rgb=True),
    "CMYK": lambda: (kinds.cmyk_jpeg(), kinds.cmyk_to_rgb(kinds.inks()), 6),
    "CMYK, progressive": agrees(
        lambda: save(Image.fromarray(kinds.inks(), "CMYK"), "JPEG", progressive=True, subsampling=2)
    ),
    "CMYK without Adobe marker": agrees(lambda: kinds.adobe(kinds.cmyk_jpeg(), -1)),
    "YCCK": agrees(lambda: kinds.adobe(kinds.cmyk_jpeg(), 2)),
}

# ---- PNG

PNG_CHUNKS: Dict[str, Case] = {
    "gAMA": kinds.png_with(chunk(b"gAMA", struct.pack(">I", 100000))),
    "sBIT": kinds.png_with(chunk(b"sBIT", b"\5\6\5")),
    "bKGD": kinds.png_with(chunk(b"bKGD", bytes(6))),
    "iCCP": kinds.png_with(chunk(b"iCCP", b"x\0\0\x78\x9c\x03\0\0\0\0\1")),
    "eXIf": kinds.png_with(chunk(b"eXIf", exif(6).tobytes()[6:]), orientation=6),
    "eXIf after the pixels": kinds.png_with(b"", chunk(b"eXIf", exif(8).tobytes()[6:]), 8),
    "eXIf after a text of that name": kinds.png_with(
        chunk(b"tEXt", b"a\0\0\0eXIf"), chunk(b"eXIf", exif(3).tobytes()[6:]), 3
    ),
    "APNG": lambda: (
        save(COLORS, "PNG", save_all=True, append_images=[Image.fromarray(COLORS[::-1])]),
        COLORS,
        0,
    ),
}

# ---- BMP

_MASKS_565, _MASKS_555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)

BMP: Dict[str, Case] = {
    **{f"{bits} bits": kinds.bmp_palette(bits) for bits in (1, 4, 8)},
    "8 bits, top-down": kinds.bmp_palette(8, True),
    "24 bits": kinds.bmp_24(),
    "24 bits, top-down": kinds.bmp_24(True),
    "32 bits": kinds.bmp_32(),
    "32 bits, masks": kinds.bmp_32((0xFF0000, 0xFF00, 0xFF)),
    "32 bits, masks of RGBX": kinds.bmp_32((0xFF000000, 0xFF0000, 0xFF00)),
    "32 bits, masks of RGBX, top-down": kinds.bmp_32((0xFF000000, 0xFF0000, 0xFF00), True),
    "16 bits": kinds.bmp_16(),
    "16 bits, 5-6-5": kinds.bmp_16(_MASKS_565),
    "16 bits, 5-5-5": kinds.bmp_16(_MASKS_555),
    "run lengths": kinds.bmp_run_length(),
    "DIB": lambda: (save(COLORS, "DIB"), COLORS, 0),
}

# ---- others


def _ycc_jp2() -> Any:
    ycc = cv2.cvtColor(COLORS, cv2.COLOR_RGB2YCrCb)[:, :, [0, 2, 1]]
    return kinds.jp2(np.ascontiguousarray(ycc[:, :, ::-1]), 18), COLORS, 3


_BGR, _WIDE_BGR = np.ascontiguousarray(COLORS[:, :, ::-1]), np.ascontiguousarray(WIDE[:, :, ::-1])
JPEG_2000: Dict[str, Case] = {
    "gray": lambda: (kinds.jp2(GRAY, 17), as_rgb(GRAY), 0),
    "gray, 16 bits": lambda: (kinds.jp2(WIDE[:, :, 2], 17), as_rgb(GRAY), 0),
    "gray codestream": lambda: (kinds.codestream(kinds.jp2(GRAY, 17)), as_rgb(GRAY), 0),
    "RGB": lambda: (kinds.jp2(_BGR), COLORS, 0),
    "RGB, 16 bits": lambda: (kinds.jp2(_WIDE_BGR), COLORS, 0),
    "RGB codestream, 16 bits": lambda: (kinds.codestream(kinds.jp2(_WIDE_BGR)), COLORS, 0),
    "alpha": lambda: (save(np.dstack([COLORS, ALPHA]), "JPEG2000"), COLORS, 0),
    "palette": kinds.jp2_palette,
    "sYCC": _ycc_jp2,
}
_SOME_COLORS = Image.fromarray(COLORS).quantize(40)
_SOME = np.array(_SOME_COLORS.convert("RGB"))
_LAST = Image.fromarray(COLORS[::-1])
GIF: Dict[str, Case] = {
    "plain": lambda: (save(_SOME_COLORS, "GIF"), _SOME, 0),
    "interlaced": lambda: (save(_SOME_COLORS, "GIF", interlace=1), _SOME, 0),
    "transparent": lambda: (save(_SOME_COLORS, "GIF", transparency=3), _SOME, 0),
    "animation": lambda: (save(_SOME_COLORS, "GIF", save_all=True, append_images=[_LAST]), _SOME, 0),
}
WEBP: Dict[str, Case] = {
    "lossy": agrees(lambda: save(COLORS, "WEBP", quality=90)),
    "lossless": lambda: (save(COLORS, "WEBP", lossless=True), COLORS, 0),
    "alpha": lambda: (save(np.dstack([COLORS, ALPHA]), "WEBP", lossless=True, exact=True), COLORS, 0),
    "animation": lambda: (
        save(COLORS, "WEBP", lossless=True, save_all=True, append_images=[_LAST]), COLORS, 0
    ),
    "orientation": lambda: (save(COLORS, "WEBP", lossless=True, exif=exif(6)), turned(COLORS, 6), 0),
}  # fmt: skip


def _pnm(magic: str, maximum: int, samples: np.ndarray) -> bytes:
    return f"{magic}\n{WIDTH} {HEIGHT}\n{maximum}\n".encode() + samples.tobytes()


PNM: Dict[str, Case] = {
    "PBM": lambda: (save(Image.fromarray(GRAY > 100), "PPM"), as_rgb((GRAY > 100) * 255), 0),
    "PGM": lambda: (_pnm("P5", 255, GRAY), as_rgb(GRAY), 0),
    "PGM, 16 bits": lambda: (_pnm("P5", 65535, WIDE[:, :, 2].astype(">u2")), as_rgb(GRAY), 1),
    "PPM": lambda: (_pnm("P6", 255, COLORS), COLORS, 0),
    "PPM, 16 bits": lambda: (_pnm("P6", 65535, WIDE.astype(">u2")), COLORS, 1),
}
_BLACK = GRAY < 100
OTHERS: Dict[str, Case] = {
    "TGA": lambda: (save(COLORS, "TGA"), COLORS, 0),
    "TGA, run lengths and alpha": lambda: (
        save(np.dstack([COLORS, ALPHA]), "TGA", compression="tga_rle"), COLORS, 0
    ),
    "PCX": lambda: (save(COLORS, "PCX"), COLORS, 0),
    "QOI": lambda: (kinds.qoi(), COLORS, 0),
    "SGI": lambda: (save(COLORS, "SGI"), COLORS, 0),
    "Sun raster, 24 bits": lambda: (kinds.raster(24, [r[:, ::-1].tobytes() for r in COLORS]), COLORS, 0),
    "Sun raster, RGB": lambda: (kinds.raster(24, [row.tobytes() for row in COLORS], 3), COLORS, 0),
    "Sun raster, gray": lambda: (kinds.raster(8, [row.tobytes() for row in GRAY]), as_rgb(GRAY), 0),
    "Sun raster, palette": lambda: (
        kinds.raster(8, [row.tobytes() for row in GRAY], 1, PALETTE.T.tobytes()), PALETTE[GRAY], 0
    ),
    "Sun raster, one bit": lambda: (
        kinds.raster(1, [kinds.packed(row, 1) for row in _BLACK]), as_rgb(~_BLACK * 255), 0
    ),
}  # fmt: skip
AVIF: Dict[str, Case] = {
    "lossy": agrees(lambda: save(COLORS, "AVIF", quality=95)),
    "orientation": lambda: (
        save(COLORS, "AVIF", quality=100, subsampling="4:4:4", exif=exif(6)), turned(COLORS, 6), 6
    ),
}  # fmt: skip

READ: Dict[str, Dict[str, Case]] = {
    "JPEG": JPEG,
    "JPEG, colors": JPEG_COLORS,
    "PNG": kinds.png_cases(),
    "PNG, chunks": PNG_CHUNKS,
    "BMP": BMP,
    "TIFF": TIFF,
    "TIFF, storage": TIFF_STORAGE,
    "TIFF, compression": TIFF_COMPRESSION,
    "TIFF, transparency": TIFF_ALPHA,
    "JPEG 2000": JPEG_2000,
    "WebP": WEBP,
    "GIF": GIF,
    "PBM, PGM, PPM": PNM,
    "AVIF": AVIF,
    "TGA, PCX, SGI, QOI, Sun raster": OTHERS,
}
"""Row of the table of kinds that are read, case: content, pixels and tolerance."""

# ---- kinds that are refused

_FLOAT = (LEVELS / np.float32(255)).astype(np.float32)
_FTYP = b"\0\0\0\x18ftyp"


def _tiff_tag(tag: int, value: int, photometric: int = TIFF_GRAY, samples: np.ndarray = LEVELS) -> bytes:
    return tiff(samples, 8, photometric, tags=[(tag, 3, [value] * (samples.shape[2] if tag == 339 else 1))])


REFUSED: Dict[str, Dict[str, Callable[[], bytes]]] = {
    "JPEG, other codings": {
        "12 bits": lambda: kinds.patched_frame(0xC1, 12),
        "lossless": lambda: kinds.patched_frame(0xC3),
        "lossless, arithmetic": lambda: kinds.patched_frame(0xCB),
        "hierarchical": lambda: kinds.patched_frame(0xC5),
        "JPEG-LS": lambda: kinds.patched_frame(0xF7),
    },
    "JPEG XL, JPEG XR": {
        "JPEG XL": lambda: b"\xff\x0a" + bytes(99),
        "JPEG XL container": lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99),
        "JPEG XR": lambda: b"II\xbc\1" + bytes(99),
    },
    "PNG by Xcode": {
        "CgBI": lambda: kinds.png(COLORS, 2)[:8] + chunk(b"CgBI", b"P\0 \6") + kinds.png(COLORS, 2)[8:],
    },
    "BMP, other layouts": {
        "2 bits": lambda: kinds.bmp(2, [kinds.packed(row, 2) for row in GRAY >> 6], bytes(16)),
        "16 bits, 4-4-4": lambda: kinds.bmp(16, [bytes(2 * WIDTH)] * HEIGHT, b"", 3, (0xF00, 0xF0, 0xF)),
        "32 bits, 10-10-10": lambda: kinds.bmp(
            32, [bytes(4 * WIDTH)] * HEIGHT, b"", 3, (0x3FF00000, 0xFFC00, 0x3FF)
        ),
        "JPEG in BMP": lambda: kinds.bmp(0, [], b"", 4, encoded=save(COLORS, "JPEG")),
    },
    "TIFF, other samples": {
        "floating point": lambda: tiff(_FLOAT, 32, tags=[(339, 3, [3])]),
        "floating point, RGB": lambda: tiff(
            np.repeat(_FLOAT, 3, 2), 32, RGB, tags=[(339, 3, [3] * 3)], tile=(16, 16)
        ),
        "signed, 8 bits": lambda: _tiff_tag(339, 2),
        "signed, 16 bits": lambda: tiff(WIDE_LEVELS, 16, tags=[(339, 3, [2])]),
        "32 bits": lambda: tiff(WIDE_LEVELS.astype(np.uint32), 32),
        "5 samples": lambda: tiff(np.dstack([COLORS, GRAY, GRAY]), 8, TIFF_GRAY),
        "RGB, alpha and one more in planes": lambda: tiff(
            np.dstack([COLORS, ALPHA, GRAY]), 8, RGB, planar=True, extra=[UNASSOCIATED, 0]
        ),
        "gray and alpha, 16 bits": lambda: tiff(
            np.dstack([WIDE_LEVELS, WIDE_ALPHA]), 16, extra=[UNASSOCIATED]
        ),
        "gray multiplied by alpha": lambda: tiff(np.dstack([GRAY, ALPHA]), 8, extra=[ASSOCIATED]),
        "white is zero, 16 bits, big-endian": lambda: tiff(WIDE_LEVELS, 16, WHITE_IS_ZERO, order=">"),
    },
    "TIFF, other colors": {
        "Lab": lambda: tiff(COLORS, 8, LAB),
        "ICC Lab": lambda: tiff(COLORS, 8, 9),
        "camera raw": lambda: tiff(LEVELS, 8, 32803),
        "other inks": lambda: _tiff_tag(332, 2, CMYK, kinds.inks()),
        "mask": lambda: _tiff_tag(254, 4),
    },
    "TIFF, other files": {
        "thumbnail first": lambda: _tiff_tag(254, 1),
        "volume": lambda: _tiff_tag(32997, 2),
        "big-endian BigTIFF": lambda: tiff(COLORS, 8, RGB, order=">", big=True),
        **{f"compression {c}": lambda c=c: _tiff_tag(259, c) for c in (6, 34677, 34712, 34887, 50001)},
    },
    "JPEG 2000, other components": {
        "4 bits": lambda: kinds.patched_components(3),
        "signed": lambda: kinds.patched_components(0x87),
        "CMYK": lambda: kinds.jp2(np.ascontiguousarray(np.dstack([COLORS, ALPHA])), 12),
        "sYCC, 16 bits": lambda: kinds.jp2(_WIDE_BGR, 18),
    },
    "Sun raster, other layouts": {
        "run lengths": lambda: kinds.raster(8, [row.tobytes() for row in GRAY], 2),
        "one bit with a palette": lambda: kinds.raster(
            1, [kinds.packed(row, 1) for row in _BLACK], 1, bytes(6)
        ),
    },
    "PAM, PFM": {
        "PAM": lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n\0\0\0",
        "PFM": lambda: b"PF\n1 1\n-1.0\n" + bytes(12),
        "PFM, gray": lambda: b"Pf\n1 1\n-1.0\n" + bytes(4),
    },
    "Radiance HDR, OpenEXR": {
        "HDR": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4),
        "HDR, RGBE": lambda: b"#?RGBE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4),
        "OpenEXR": lambda: b"\x76\x2f\x31\x01\2\0\0\0" + bytes(99),
    },
    "HEIC": {
        "HEIC": lambda: _FTYP + b"heic\0\0\0\0mif1heic" + bytes(99),
        "HEIF": lambda: _FTYP + b"mif1\0\0\0\0mif1heic" + bytes(99),
    },
    "PSD, SVG, DDS": {
        "PSD": lambda: b"8BPS\0\1" + bytes(99),
        "SVG": lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "DDS": lambda: save(COLORS, "DDS"),
    },
}  # fmt: skip
"""Row of the table of kinds that are not read, case: content."""
