"""Headers of image files: size, EXIF orientation, and whether a JPEG file is complete."""

from __future__ import annotations

import os
import re
import struct
import zlib
from io import BytesIO
from typing import Any, NamedTuple, NoReturn, Optional

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from ..options import Size
from .image_files import UNREADABLE_ENDINGS, unreadable_kind
from .image_layouts import needs_pillow, read_tiff_with_libtiff, unreadable_layout

EXIF_ORIENTATION = 0x0112

# A marker is FF and a code. FF 00 is a stuffed FF in the entropy-coded data, FF FF is padding, and 01 and D0
# to D7 (restart) have no segment (ITU-T T.81, section B.1.1).
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
JPEG_START = b"\xff\xd8\xff"
_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE, _READ_FRAMES = 8, frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))  # bits; sequential and progressive
_START_OF_FRAME_LS = 0xF7  # ITU-T T.87

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"  # type and checksum of the last chunk, which is always empty

# Others are left out: EPS runs a program, and some kinds are only stubs.
_PILLOW_FORMATS = (
    "BMP", "DIB", "GIF", "JPEG2000", "PNG", "PPM", "SGI", "SUN", "TIFF", "WEBP", "AVIF", "QOI",
)  # fmt: skip
_WITHOUT_START = {".tga": "TGA", ".pcx": "PCX"}  # kinds that first bytes do not tell


class Header(NamedTuple):
    """Header of an image file.

    Attributes
    ----------
    width, height : int
        Stored size.
    orientation : int
        EXIF orientation that `read_image` applies.
    scan : int or None
        For JPEG the position of the first scan.
    kind : str
        Pillow's name of the format.
    by_pillow : bool
        Pillow decodes the file, not OpenCV; see `image_layouts.needs_pillow`.
    """

    width: int
    height: int
    orientation: int
    scan: Optional[int] = None
    kind: str = "JPEG"
    by_pillow: bool = False

    @property
    def size(self) -> Size:
        """``(width, height)`` after applying the orientation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def refuse(name: str, problem: str) -> NoReturn:
    """Raise the ImageError of an image file."""
    raise ImageError(f"{name}: {problem}; replace the file or remove it from the dataset")


def refuse_kind(name: str, kind: str) -> NoReturn:
    """Raise the ImageError of an image file that is sound, but of a kind that `read_image` does not read."""
    tool = (
        " (heif-convert a.heic a.jpg, on macOS sips -s format jpeg a.heic --out a.jpg)"
        if kind == "HEIC"
        else ""
    )
    raise ImageError(f"{name}: {kind} cannot be read; convert it to JPEG, or to PNG with 8 bits{tool}")


def read_header(data: bytes, name: str) -> Header:
    """Header of an image file's content; raises ImageError."""
    header = _jpeg_header(data, name) if data.startswith(JPEG_START) else _other_header(data, name)
    if header is None or min(header.width, header.height) < 1:
        refuse(name, "truncated or damaged: no size in the header")
    return header


def _jpeg_header(data: bytes, name: str) -> Optional[Header]:
    """Parse the segments up to the first scan; None if it is not reached."""
    width = height = 0
    orientation = 1
    exif_seen = False
    position = 2
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None or match.end() + 2 > len(data):
            return None
        marker, start = match.group(1)[0], match.end()
        position = start + int.from_bytes(data[start : start + 2], "big")
        if marker == _START_OF_FRAME_LS:
            refuse_kind(name, "JPEG-LS")
        if marker in _START_OF_FRAME:
            bits = data[start + 2 : start + 3]
            if marker not in _READ_FRAMES:
                refuse_kind(name, "lossless or hierarchical JPEG")
            if bits and bits[0] != _BASELINE:
                refuse_kind(name, f"JPEG with {bits[0]} bits")
            height = int.from_bytes(data[start + 3 : start + 5], "big")
            width = int.from_bytes(data[start + 5 : start + 7], "big")
        elif marker == _APP1 and data.startswith(b"Exif\0\0", start + 2) and not exif_seen:
            exif_seen = True
            orientation = exif_orientation(data[start + 2 : position])
        elif marker == _START_OF_SCAN:
            return Header(width, height, orientation, position)
        elif marker == _END_OF_IMAGE:
            return None


def jpeg_ends(data: bytes, position: int) -> bool:
    """Whether the end marker follows the scans.

    Found marker by marker: segments between scans and embedded thumbnails may contain the same two bytes.
    """
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            return False
        if match.group(1)[0] == _END_OF_IMAGE:
            return True
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")


def open_with_pillow(data: bytes, name: str) -> Any:
    """Open the content of an image file of a kind that `read_image` reads with Pillow; raises ImageError."""
    Image.init()
    read_tiff_with_libtiff()
    by_name = _WITHOUT_START.get(os.path.splitext(name)[1].lower())
    try:
        chosen = [kind for kind in (*_PILLOW_FORMATS, by_name) if kind in Image.OPEN]
        return Image.open(BytesIO(data), formats=chosen)
    except UnidentifiedImageError:
        if os.path.splitext(name)[1].lower() in UNREADABLE_ENDINGS:
            refuse_kind(name, "this kind of image")
        if data[4:11] == b"ftypavi" and "AVIF" not in Image.OPEN:
            refuse_kind(name, "AVIF without Pillow 11.3 or newer")
        refuse(name, "not an image, or damaged")
    except Exception as error:  # Pillow's readers raise many types for damaged files
        refuse_damaged(name, error)


def refuse_damaged(name: str, error: Exception) -> NoReturn:
    """Raise the ImageError of a file at which Pillow failed."""
    reason = str(error).splitlines()[0] if str(error) else repr(error)
    if reason.lower().startswith("unsupported"):
        refuse_kind(name, f"this layout of an image file ({reason})")
    refuse(name, f"not an image, or damaged ({reason})")


def _other_header(data: bytes, name: str) -> Header:
    unreadable = unreadable_kind(data) or unreadable_layout(data)
    if unreadable:
        refuse_kind(name, unreadable)
    with open_with_pillow(data, name) as image:
        try:
            if image.format == "TIFF":  # OpenCV always applies the orientation of these
                tags: Any = getattr(image, "tag_v2", {})
                width, height = (256, 257) if tags.get(EXIF_ORIENTATION, 1) < 5 else (257, 256)
                return Header(tags[width], tags[height], 1, None, "TIFF", True)
            kind = str(image.format)
            orientation = (
                png_orientation(data) if kind == "PNG" else exif_orientation(image.info.get("exif", b""))
            )
            return Header(image.width, image.height, orientation, None, kind, needs_pillow(kind, data))
        except Exception as error:
            refuse_damaged(name, error)


def png_orientation(data: bytes) -> int:
    """Orientation in the chunk eXIf. Pillow finds it only before the pixels; ExifTool writes it after them.

    `data` may be a part of the file.
    """
    position = data.find(b"eXIf")
    while position >= 4:
        end = position + 4 + int.from_bytes(data[position - 4 : position], "big")
        if data[end : end + 4] == struct.pack(">I", zlib.crc32(data[position:end])):
            return exif_orientation(data[position + 4 : end])
        position = data.find(b"eXIf", position + 1)
    return 1


def exif_orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8 (TIFF 6.0, tag 274); 1, upright, if missing.

    Not read by Pillow, which warns about damage anywhere in the EXIF block.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
            if (tag, kind) == (EXIF_ORIENTATION, 3):
                return value if 1 <= value <= 8 else 1
    except struct.error:  # truncated directory
        pass
    return 1
