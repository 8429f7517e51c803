"""Decoding compared with Pillow, damaged files, network input compared with float64."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mnssd.data import image as image_module
from mnssd.data.image import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    REDUCTIONS,
    choose_reduction,
    decode_image,
    image_size,
    read_image,
    resize_for_network,
    to_network_input,
)
from mnssd.errors import ImageError

ORIENTATION = 0x0112


def textured_image(width: int = 67, height: int = 45) -> np.ndarray:
    """Smooth colors with noise: without symmetry, and not trivial for JPEG."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str, orientation: Optional[int] = None, **options: Any) -> bytes:
    file = io.BytesIO()
    if orientation is not None and kind == "TIFF":
        options["tiffinfo"] = {ORIENTATION: orientation}
    elif orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][ORIENTATION] = orientation
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def decode_with_pillow(data: bytes) -> np.ndarray:
    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1"])
def test_png_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(textured_image()).convert(mode).save(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, decode_with_pillow(path.read_bytes()))


def test_gray_jpeg_has_three_equal_channels() -> None:
    image = decode_image(encode(textured_image()[:, :, 0], "JPEG"), "x")
    assert image.shape == (45, 67, 3)
    assert (image == image[:, :, :1]).all()


def test_cmyk_jpeg_matches_pillow() -> None:
    file = io.BytesIO()
    Image.fromarray(textured_image()).convert("CMYK").save(file, "JPEG", quality=95)
    image = decode_image(file.getvalue(), "x")
    assert np.abs(image.astype(int) - decode_with_pillow(file.getvalue())).max() <= 2
    assert np.abs(image.astype(int) - textured_image()).mean() < 6


@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_images_are_scaled(ending: str, channels: int) -> None:
    wide = np.random.default_rng(1).integers(0, 1 << 16, (20, 31, 3), dtype=np.uint16)
    stored = wide[:, :, 0] if channels == 1 else wide[:, :, ::-1]
    image = decode_image(cv2.imencode(ending, stored)[1].tobytes(), "x")
    expected = wide[:, :, :1] if channels == 1 else wide
    assert np.abs(image - expected / 257).max() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int, tmp_path: Path) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "x"
    path.write_bytes(encode(textured_image(), kind, orientation, **lossless))
    image = read_image(path)
    np.testing.assert_array_equal(image, decode_with_pillow(path.read_bytes()))
    assert image.shape[:2] == ((67, 45) if orientation >= 5 else (45, 67))
    assert image_size(path) == (image.shape[1], image.shape[0])


def test_damaged_exif_is_ignored() -> None:
    data = encode(textured_image(), "JPEG", 6)
    start, end = data.index(b"Exif\0\0") + 6, data.index(b"\xff\xdb")
    assert decode_image(data, "x").shape == (67, 45, 3)
    for position in range(start, end):
        for value in (0, 7, 255):
            broken = bytearray(data)
            broken[position] = value
            assert set(decode_image(bytes(broken), "x").shape) == {45, 67, 3}
    garbled = data[:start] + b"\xff" * (end - start) + data[end:]
    assert decode_image(garbled, "x").shape == (45, 67, 3)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (67, 45)), (1, (64, 40)), (3, (64, 40)), (6, (64, 40))]
)
def test_reduction_averages_squares_of_pixels(kind: str, orientation: int, size: Any, reduction: int) -> None:
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    data = encode(textured_image(*size), kind, orientation, **options)
    whole, small = decode_image(data, "x"), decode_image(data, "x", reduction)
    assert small.shape[:2] == tuple(-(-side // reduction) for side in whole.shape[:2])
    pad = [(0, -side % reduction) for side in whole.shape[:2]]
    squares = np.pad(whole, [*pad, (0, 0)], "edge").reshape(small.shape[0], reduction, -1, reduction, 3)
    assert np.abs(small - squares.mean(axis=(1, 3))).mean() < (0.6 if kind == "PNG" else 2)


def test_one_pixel_image_can_be_reduced() -> None:
    for kind in ("JPEG", "PNG"):
        assert decode_image(encode(textured_image(1, 1), kind), "x", 8).shape == (1, 1, 3)


def test_invalid_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        decode_image(encode(textured_image(), "JPEG"), "x", 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"restart_marker_rows": 1, "quality": 95},
        {"optimize": True, "subsampling": 0},
    ],
    ids=["baseline", "progressive", "restart markers", "4:4:4"],
)
def test_truncated_jpeg_is_refused_before_decoding(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The thumbnail in the EXIF block has an end marker of its own.
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    exif[0x010E] = encode(textured_image(24, 16), "JPEG")
    data = encode(textured_image(), "JPEG", exif=exif, **options)
    whole = decode_image(data, "x")
    assert data.count(b"\xff\xd9") == 2
    for junk in (b"\0" * 100, b"\xff\xd8\xff\xe0", data[:200]):
        np.testing.assert_array_equal(decode_image(data + junk, "x"), whole)
    # OpenCV 4.11 refuses truncated files too, but not all versions do.
    monkeypatch.setattr(image_module.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for length in [*range(0, len(data) - 40, 17), *range(len(data) - 40, len(data))]:
        with pytest.raises(ImageError, match=r"x\.jpg"):
            decode_image(data[:length], "x.jpg")


def test_end_marker_within_a_segment_is_ignored() -> None:
    data = encode(textured_image(), "JPEG", progressive=True)
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    scan = data.index(b"\xff\xc4", data.index(b"\xff\xda"))  # the tables before the second scan
    longer = data[:scan] + comment + data[scan:]
    np.testing.assert_array_equal(decode_image(longer, "x"), decode_image(data, "x"))
    with pytest.raises(ImageError, match=r"x\.jpg"):
        decode_image(longer[: scan + len(comment)], "x.jpg")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_other_truncated_files_are_refused_or_complete(kind: str) -> None:
    data = encode(textured_image(31, 20), kind)
    whole = decode_image(data, "x")
    for length in [*range(0, len(data) - 20, len(data) // 60), *range(len(data) - 20, len(data))]:
        try:
            image = decode_image(data[:length], "x")
        except ImageError:
            continue
        np.testing.assert_array_equal(image, whole)


def png(width: int, height: int, content: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_png_with_half_its_rows_is_refused() -> None:
    rows = bytes(20 * (1 + 3 * 30))
    assert decode_image(png(30, 20, zlib.compress(rows)), "x").shape == (20, 30, 3)
    with pytest.raises(ImageError):
        decode_image(png(30, 20, zlib.compress(rows[: len(rows) // 2])), "x")


def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="3600000000"):
        decode_image(png(60000, 60000, b""), "x")
    data = bytearray(encode(textured_image(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(ImageError, match="65535 x 65535"):
        decode_image(bytes(data), "x")


@pytest.mark.parametrize(
    "name", ["missing.jpg", "folder.jpg", "empty.jpg", "text.jpg", "zeros.jpg", "nul\0.jpg"]
)
def test_error_names_the_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "zeros.jpg").write_bytes(bytes(5000))
    for read in (read_image, image_size):
        with pytest.raises(ImageError) as error:
            read(os.path.join(tmp_path, name))
        assert name in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="pipe.jpg"):
        read_image(tmp_path / "pipe.jpg")


def test_path_and_ending_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "Überraschung 写真.png"  # contains a JPEG
    path.write_bytes(encode(textured_image(), "JPEG"))
    assert read_image(str(path)).shape == (45, 67, 3)


def test_image_size_after_long_segments(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encode(textured_image(), "JPEG", icc_profile=bytes(200_000)))
    assert image_size(path) == (67, 45)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"II*\0"])
)
def test_random_bytes_raise_image_error(tail: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(start + tail, "x")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_files_decode_or_raise_image_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    content = bytearray(encode(textured_image(31, 20), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(content), "x")
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


sides = st.integers(1, 9000)


@given(st.tuples(sides, sides), st.tuples(sides, sides))
def test_choose_reduction_is_the_largest_above_the_target(size: Any, target: Any) -> None:
    chosen = choose_reduction(size, target)

    def enough(reduction: int) -> bool:
        return all(-(-side // reduction) >= wanted for side, wanted in zip(size, target))

    assert chosen == 1 or enough(chosen)
    assert not any(enough(reduction) for reduction in REDUCTIONS if reduction > chosen)


def test_choose_reduction_examples() -> None:
    assert choose_reduction((4032, 3024), (300, 300)) == 8
    assert choose_reduction((500, 375), (300, 300)) == 1
    assert choose_reduction((1200, 600), (300, 300)) == 2


def test_network_input_matches_float64_normalization() -> None:
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (33, 47, 3), dtype=np.uint8) for _ in range(3)]
    images[1] = images[1][:, ::-1]  # a view with negative strides
    images[2][0, :, 0] = np.arange(47)
    batch = to_network_input(images)
    expected = ((np.stack(images) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(0, 3, 1, 2)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    np.testing.assert_allclose(batch, expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    "images",
    [
        [],
        [np.zeros((4, 4, 3), np.float32)],
        [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)],
        [np.zeros((4, 4, 4), np.uint8)],
        [np.zeros((4, 4), np.uint8)],
    ],
)
def test_network_input_refuses_other_arrays(images: Any) -> None:
    with pytest.raises(ValueError, match="image"):
        to_network_input(images)


def test_resize_for_network_takes_width_and_height() -> None:
    image = textured_image()
    assert resize_for_network(image, (30, 20)).shape == (20, 30, 3)
    assert resize_for_network(image, (67, 45)) is image
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 10, axis=0).repeat(3, axis=2)
    # Pixel centers: x in the small image is 2 x + 0.5 in the large one.
    assert np.abs(resize_for_network(ramp, (50, 10))[0, :, 0] - (2 * np.arange(50) + 0.5)).max() <= 0.5
