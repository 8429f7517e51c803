"""Forms in which `Detector` and `Classifier` take images: all give the pixels that the file gives."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import make_image, write_image
from PIL import Image, ImageOps

from mnssd.data.image import read_image
from mnssd.errors import ImageError
from mnssd.inference.detector import Detector
from mnssd.inference.images import image_pixels, in_batches, is_single

PIXELS = make_image(3, 80, 60)
GRAY = cv2.cvtColor(PIXELS, cv2.COLOR_RGB2GRAY)
GRAY_RGB = np.dstack([GRAY] * 3)
PIL = Image.fromarray(PIXELS)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def at_its_end() -> io.BytesIO:
    """As after saving an image into it."""
    buffer = io.BytesIO(png())
    buffer.seek(0, io.SEEK_END)
    return buffer


FORMS: Dict[str, Callable[[], Any]] = {
    "bytes": png,
    "bytearray": lambda: bytearray(png()),
    "memoryview": lambda: memoryview(png()),
    "memoryview of pixels": lambda: memoryview(PIXELS),
    "BytesIO": lambda: io.BytesIO(png()),
    "BytesIO at its end": at_its_end,
    "PIL image": lambda: PIL,
    "PIL image of a file": lambda: Image.open(io.BytesIO(png())),
    "RGBA array": lambda: np.dstack([PIXELS, GRAY]),
    "strided array": lambda: PIXELS[::-1][::-1],
    "MXNet array": lambda: mx.nd.array(PIXELS, dtype="uint8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_pixels(form: str) -> None:
    assert is_single(FORMS[form]())
    assert (image_pixels(FORMS[form]()) == PIXELS).all()


def test_paths_and_opened_files(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", PIXELS)
    with open(path, "rb") as file:
        for form in (path, Path(path), file):
            assert is_single(form)
            assert (image_pixels(form) == PIXELS).all()


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "CMYK"])
def test_colors_of_pil_modes(mode: str) -> None:
    image = PIL.convert("RGBA").convert(mode) if mode == "RGBa" else PIL.convert(mode)
    assert (image_pixels(image) == PIXELS).all()


@pytest.mark.parametrize("mode", ["L", "LA", "La", "I;16", "I;16B", "array", "array with an axis"])
def test_gray_levels(mode: str) -> None:
    if mode.startswith("I"):
        image: Any = Image.fromarray(GRAY.astype(np.uint16) << 8)
        image = image if mode == "I;16" else image.convert("I").convert(mode)
    elif mode.startswith("array"):
        image = GRAY if mode == "array" else GRAY[:, :, None]
    else:
        image = Image.fromarray(GRAY)
        image = image.convert("LA").convert(mode) if mode != "L" else image
    assert (image_pixels(image) == GRAY_RGB).all()


def test_palettes_and_bits() -> None:
    palette = PIL.convert("P")
    assert (image_pixels(palette) == np.asarray(palette.convert("RGB"))).all()
    bits = Image.fromarray(GRAY > 127)
    assert (image_pixels(bits) == 255 * (GRAY_RGB > 127)).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [2, 6, 7])
def test_orientation_is_that_of_the_file(ending: str, orientation: int, tmp_path: Path) -> None:
    path, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[0x0112] = orientation
    PIL.save(path, exif=exif, quality=95)
    expected = read_image(path).astype(int)
    for image in (Image.open(path), ImageOps.exif_transpose(Image.open(path))):
        pixels = image_pixels(image)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() < 2  # the JPEG decoders differ


@pytest.mark.parametrize(
    "image",
    [
        None, 3, {"image": PIXELS}, object(), io.StringIO("x"), b"", b"no image", PIXELS / 255, PIXELS > 9,
        PIXELS.astype(np.uint16), PIXELS.transpose(2, 0, 1), PIXELS[None], PIXELS[:0], np.array("a.png"),
        mx.nd.zeros((60, 80, 3)), PIL.convert("F"), PIL.convert("I"), Image.new("RGB", (0, 9)),
        Image.open(io.BytesIO(png()[:900])), "https://example.com/a.jpg", "absent.jpg",
    ],
)  # fmt: skip
def test_other_objects_are_refused(image: Any, detector: Detector) -> None:
    with pytest.raises(ImageError):
        detector(image)


def test_files_in_text_mode_and_closed_files_are_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", PIXELS)
    with open(path, encoding="latin-1") as text, pytest.raises(ImageError, match=r"a\.png"):
        image_pixels(text)
    with open(path, "rb") as file:
        pass
    with pytest.raises(ImageError, match=r"a\.png"):
        image_pixels(file)


def test_videos_are_refused_by_name(detector: Detector, tmp_path: Path) -> None:
    for path in (tmp_path / "clip.mp4", str(tmp_path / "clip.MOV")):
        with pytest.raises(ImageError, match=r"clip\..*iter_frames"):
            detector(path)


def test_several_images_in_any_iterable(detector: Detector) -> None:
    expected = detector(PIXELS)
    results = detector(image for image in (PIXELS, PIL, io.BytesIO(png())))
    assert [result.to_dict() for result in results] == [expected.to_dict()] * 3
    assert [len(batch) for batch in in_batches(iter([PIXELS] * 5), 2)] == [2, 2, 1]


def test_results_are_drawn_on_all_forms_of_the_same_size(detector: Detector) -> None:
    result = detector(PIL, score=0.01)
    assert (result.draw(PIL) == result.draw(PIXELS)).all()
    with pytest.raises(ImageError):
        result.draw(PIXELS[:-1])
