"""Image files as people have them: kinds, endings, companions, and kinds that cannot be read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Callable, Dict, List

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from mnssd.data import image as image_module
from mnssd.data.annotations.paths import ImageFinder, images_below
from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.formats import formats
from mnssd.data.image import decode_image, image_size, read_image
from mnssd.data.image_files import IMAGE_ENDINGS, UNREADABLE_ENDINGS, is_image_file, is_unreadable_image
from mnssd.errors import ImageError
from mnssd.inference.sources import iter_frames
from mnssd.tasks.export import _expand_images
from mnssd.validation.images import unsupported_images

SIZE = (67, 45)


def pixels_of(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC))


PIXELS = pixels_of()
GRAY = PIXELS[:, :, 0]


def with_pillow(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def with_opencv(ending: str, pixels: np.ndarray = PIXELS) -> bytes:
    stored = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1])
    return cv2.imencode(ending, stored)[1].tobytes()


def pnm(magic: str, maximum: int, plain: bool = False) -> bytes:
    values = np.rint((GRAY if magic in ("P2", "P5") else PIXELS) / 255 * maximum).astype(int)
    head = f"{magic}\n# made up\n{SIZE[0]} {SIZE[1]}\n{maximum}\n".encode()
    if plain:
        return head + " ".join(map(str, values.ravel().tolist())).encode() + b"\n"
    return head + values.astype(">u2" if maximum > 255 else "u1").tobytes()


def moving_gif() -> bytes:
    return with_pillow("GIF", save_all=True, append_images=[Image.fromarray(pixels_of(1))], loop=0)


def small_first_frame() -> bytes:
    """A GIF whose frames are smaller than its canvas."""
    data = bytearray(with_pillow("GIF"))
    data[6:10] = bytes([SIZE[0] + 9, 0, SIZE[1] + 4, 0])
    return bytes(data)


# content, largest difference to Pillow's pixels
KINDS: Dict[str, Callable[[], bytes]] = {
    "a.jfif": lambda: with_pillow("JPEG"),
    "a.JPE": lambda: with_opencv(".jpe"),
    "a.jp2": lambda: with_opencv(".jp2"),
    "gray.jp2": lambda: with_pillow("JPEG2000", "L"),
    "alpha.jp2": lambda: with_pillow("JPEG2000", "RGBA"),
    "a.J2K": lambda: with_pillow("JPEG2000", no_jp2=True),
    "gray.j2k": lambda: with_pillow("JPEG2000", "L", no_jp2=True),
    "a.gif": lambda: with_pillow("GIF"),
    "gray.gif": lambda: with_pillow("GIF", "L"),
    "clear.GIF": lambda: with_pillow("GIF", "P", transparency=3),
    "moving.gif": moving_gif,
    "canvas.gif": small_first_frame,
    "a.ppm": lambda: with_opencv(".ppm"),
    "a.pnm": lambda: with_opencv(".pnm"),
    "a.PGM": lambda: with_opencv(".pgm", GRAY),
    "a.pbm": lambda: with_pillow("PPM", "1"),
    "plain.ppm": lambda: pnm("P3", 255, True),
    "seven.ppm": lambda: pnm("P6", 7),
    "a.ras": lambda: with_opencv(".ras"),
    "a.tga": lambda: with_pillow("TGA"),
    "a.pcx": lambda: with_pillow("PCX"),
    "a.sgi": lambda: with_pillow("SGI"),
    "a.dib": lambda: with_pillow("DIB"),
    "moving.webp": lambda: with_pillow("WEBP", save_all=True, append_images=[Image.fromarray(pixels_of(1))]),
    "big.tif": lambda: with_pillow("TIFF", "CMYK", compression="tiff_lzw"),
    "palette.bmp": lambda: with_pillow("BMP", "P"),
}


@pytest.mark.parametrize("name", KINDS)
def test_header_and_pixels_agree_with_pillow(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(KINDS[name]())
    assert is_image_file(path)
    image = read_image(path)
    with Image.open(path) as other:
        expected = np.array(other.convert("RGB"))
    assert image.dtype == np.uint8
    assert image_size(path) == (image.shape[1], image.shape[0]) == (expected.shape[1], expected.shape[0])
    np.testing.assert_array_equal(image, expected)
    assert read_image(path, 2).shape == (-(-image.shape[0] // 2), -(-image.shape[1] // 2), 3)


@pytest.mark.skipif(not Image.registered_extensions().get(".avif"), reason="Pillow without AVIF")
def test_avif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.avif").write_bytes(with_pillow("AVIF", quality=95, exif=exif))
    image = read_image(tmp_path / "a.avif")
    assert image_size(tmp_path / "a.avif") == SIZE[::-1] == (image.shape[1], image.shape[0])
    assert np.abs(image.astype(int) - np.rot90(PIXELS, -1)).mean() < 12


@pytest.mark.parametrize("maximum", [1, 7, 100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize(("magic", "plain"), [("P5", False), ("P6", False), ("P2", True), ("P3", True)])
def test_gray_levels_of_pnm_are_scaled_by_the_maximum(magic: str, plain: bool, maximum: int) -> None:
    expected = np.rint((GRAY[:, :, None].repeat(3, 2) if magic in ("P2", "P5") else PIXELS) / 255 * maximum)
    image = decode_image(pnm(magic, maximum, plain), "x")
    assert np.abs(image - expected / maximum * 255).max() <= 1


@pytest.mark.parametrize("name", ["a.gif", "gray.j2k", "a.ppm", "plain.ppm", "a.PGM", "a.jp2", "a.sgi"])
def test_truncated_files_are_refused_or_complete(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as after importing GluonCV
    data = KINDS[name]()
    whole, messages = decode_image(data, name), []
    for length in range(0, len(data), max(1, len(data) // 40)):
        try:
            image = decode_image(data[:length], name)
        except ImageError as error:
            messages.append(str(error))
            continue
        np.testing.assert_array_equal(image, whole)
    assert messages
    assert all(message.startswith(name) and "BytesIO" not in message for message in messages)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_that_only_pillow_reads_is_turned(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_pillow("TIFF", tiffinfo={0x0112: orientation})
    expected = decode_image(data, "x")
    monkeypatch.setattr(image_module.cv2, "imdecode", lambda *_: None)
    np.testing.assert_array_equal(decode_image(data, "x"), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_gray_levels_of_unknown_range_are_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=r"x\.tif"):
        decode_image(with_pillow("TIFF", mode), "x.tif")


# ---- which files are images


@pytest.mark.parametrize("name", ["a", "IMG_0001", "a.001", "a.image", "photo.v1", "a.jpg ", "A.Jpg"])
def test_content_tells_where_the_ending_does_not(name: str, tmp_path: Path) -> None:
    for data in (
        with_pillow("JPEG"),
        with_pillow("PNG"),
        with_pillow("GIF"),
        with_opencv(".jp2"),
        pnm("P6", 9),
    ):
        (tmp_path / name).write_bytes(data)
        assert is_image_file(tmp_path / name)
        assert not is_unreadable_image(tmp_path / name)
    (tmp_path / name).write_bytes(with_pillow("BMP"))
    assert is_image_file(tmp_path / name)
    for text in (b"", b"P5 is a chapter", b"BMW 0.5 0.5 0.5 0.5\n", b"\0\0\1\0", b"II and MM"):
        (tmp_path / name).write_bytes(text)
        assert is_image_file(tmp_path / name) == name.strip().lower().endswith(IMAGE_ENDINGS)


@pytest.mark.parametrize(
    "ending", [".txt", ".xml", ".XML", ".json", ".csv", ".yaml", ".rec", ".bak", ".jpg~"]
)
def test_other_endings_are_not_opened(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_bytes(with_pillow("JPEG"))
    assert not is_image_file(tmp_path / f"a{ending}")
    assert not is_image_file(tmp_path / f"absent{ending}")


def test_companions_are_not_images(tmp_path: Path) -> None:
    names = [
        "._a.jpg",
        ".DS_Store",
        "Thumbs.db",
        "thumbs.db",
        "desktop.ini",
        "__MACOSX/a.jpg",
        "@eaDir/a.jpg",
    ]
    names += [
        "sub/._a.jpg",
        "sub/__MACOSX/._a.jpg",
        ".ipynb_checkpoints/a-checkpoint.jpg",
        "$RECYCLE.BIN/b.jpg",
    ]
    for name in [*names, "sub/a.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(with_pillow("JPEG"))
    assert images_below(tmp_path) == {str((tmp_path / "sub/a.jpg").resolve())}
    assert ImageFinder(tmp_path, []).find("a.jpg") == str((tmp_path / "sub/a.jpg").resolve())
    assert [frame.name for frame in iter_frames([str(tmp_path)])] == [str(tmp_path / "sub/a.jpg")]
    assert _expand_images([tmp_path]) == [str(tmp_path / "sub/a.jpg")]


def test_a_hidden_folder_may_hold_the_dataset(tmp_path: Path) -> None:
    (tmp_path / ".cache/__MACOSX").mkdir(parents=True)
    (tmp_path / ".cache/__MACOSX/a.jpg").write_bytes(with_pillow("JPEG"))
    assert len(images_below(tmp_path / ".cache/__MACOSX")) == 1


@pytest.mark.parametrize("name", ["a.jfif", "a.GIF", "a.jp2", "a.pgm", "a.weird", "a"])
def test_finder_knows_every_image(name: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(with_pillow("GIF"))
    (tmp_path / "images" / "a.txt").write_text("0 0.5 0.5 1 1\n")
    finder = ImageFinder(tmp_path, [tmp_path / "images"])
    assert Path(finder.find_stem("a")).name == name
    assert Path(ImageFinder(tmp_path, [tmp_path]).find(f"C:\\photos\\{name}")).name == name


# ---- kinds that cannot be read


def heic() -> bytes:
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def test_readable_and_unreadable_endings_are_disjoint() -> None:
    assert not set(IMAGE_ENDINGS) & set(UNREADABLE_ENDINGS)


@pytest.mark.parametrize("name", ["a.heic", "a.HEIC", "a.svg", "a.psd", "a.CR2", "a", "a.dat1"])
def test_unreadable_kinds_are_named(name: str, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / name).write_bytes(heic())
    (tmp_path / "images" / "b.png").write_bytes(with_pillow("PNG"))
    assert is_unreadable_image(tmp_path / "images" / name)
    assert not is_image_file(tmp_path / "images" / name)
    (finding,) = unsupported_images(tmp_path, {})
    assert (finding.level, Path(finding.file).name) == ("warning", name)
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 1 1\n")
    (finding,) = unsupported_images(tmp_path, {})
    assert (finding.level, Path(finding.file).name) == ("error", name)
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / "images" / name)
    assert name in str(error.value)
    frames = [Path(frame.name).name for frame in iter_frames([str(tmp_path / "images")])]
    assert frames == [name, "b.png"]


def test_unreadable_images_that_annotations_name_are_errors(tmp_path: Path) -> None:
    content: Dict[str, List[Dict[str, Any]]] = {
        "images": [{"id": 1, "file_name": "a.heic", "width": 9, "height": 9}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "a.heic").write_bytes(heic())
    dataset = formats["coco"].read(tmp_path, "train")
    assert [finding.level for finding in unsupported_images(tmp_path, {"train": dataset})] == ["error"]


def test_classification_folders(tmp_path: Path) -> None:
    names = ["cat/a.jfif", "cat/b.gif", "cat/c", "dog/a.JP2", "dog/b.ppm", "dog/c.png", "dog/._c.png"]
    for name in [*names, "dog/__MACOSX/d.png", "dog/Thumbs.db", "dog/notes.txt"]:
        (tmp_path / "train" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "train" / name).write_bytes(with_pillow("PNG"))
    (tmp_path / "val/cat").mkdir(parents=True)
    (tmp_path / "val/cat/a.gif").write_bytes(with_pillow("GIF"))
    dataset = open_classification_dataset("folder", str(tmp_path), "train")
    assert [image.image_id for image in dataset.samples] == names[:-1]
    assert dataset.notes == []
    (tmp_path / "train/cat/d.heic").write_bytes(heic())
    (note,) = open_classification_dataset("folder", str(tmp_path), "train").notes
    assert "d.heic" in note
