"""All engines of an export: unusual and broken images, damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import cv2
import numpy as np
import pytest
from helpers.detectors import make_image, make_net, write_image, write_images
from helpers.engines import engine_params
from PIL import Image

from mnssd.cli.main import main
from mnssd.errors import ExportError, ImageError, MnssdError
from mnssd.export.formats import format_of_engine
from mnssd.export.options import ExportOptions
from mnssd.export.sidecar import describe_file
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector

FLOOR = 0.02


@pytest.fixture(scope="module", params=engine_params(slow=("onnxruntime-int8", "mxnet-shared")))
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def detector(tiny_export: Path, engine: str) -> Detector:
    return Detector.load(tiny_export, "cpu", engine)


def check_same(result: Any, expected: Any) -> None:
    assert len(expected) > 0
    assert result.names == expected.names
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(result.boxes, expected.boxes, atol=1e-3)


# ---- images ----------------------------------------------------------------------------------------------


def write_kinds(folder: Path) -> Dict[str, Tuple[str, np.ndarray]]:
    """Image files of different kinds: path and RGB pixels by name."""
    image = make_image(5, 160, 120)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shades = np.dstack([gray] * 3)
    alpha = np.dstack([image, np.full(gray.shape, 90, np.uint8)])
    images = {
        "gray.png": (Image.fromarray(gray), shades),
        "alpha.png": (Image.fromarray(alpha), image),
        "gray-alpha.png": (Image.fromarray(np.dstack([gray, gray]), "LA"), shades),
        "bits.png": (Image.fromarray(np.where(gray > 127, 255, 0).astype(np.uint8)).convert("1"), None),
        "palette.png": (Image.fromarray(image).quantize(64), None),
        "palette.gif.png": (Image.fromarray(gray).convert("P"), shades),
    }
    kinds = {}
    for name, (image_file, pixels) in images.items():
        image_file.save(folder / name)
        shown = np.array(Image.open(folder / name).convert("RGB")) if pixels is None else pixels
        kinds[name] = (str(folder / name), shown)
    for name, values in {
        "deep.png": image.astype(np.uint16) * 257,
        "deep-gray.tif": np.dstack([gray.astype(np.uint16) * 257]),
    }.items():
        stored = values[..., ::-1] if values.shape[2] == 3 else values
        assert cv2.imwrite(str(folder / name), stored)
        kinds[name] = (str(folder / name), image if values.shape[2] == 3 else shades)
    return kinds


KINDS = (
    "gray.png", "alpha.png", "gray-alpha.png", "bits.png", "palette.png", "palette.gif.png", "deep.png",
    "deep-gray.tif",
)  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Tuple[str, np.ndarray]]:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_image_files_equal_their_pixels(
    kind: str, detector: Detector, kinds: Dict[str, Tuple[str, np.ndarray]]
) -> None:
    path, pixels = kinds[kind]
    check_same(detector(path, FLOOR), detector(pixels, FLOOR))
    check_same(detector(Path(path).read_bytes(), FLOOR), detector(pixels, FLOOR))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_boxes_follow_the_exif_orientation(orientation: int, detector: Detector, tmp_path: Path) -> None:
    """Boxes are in pixels of the upright image, as a viewer shows it."""
    shown = make_image(6, 160, 120)
    turn = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(cv2.rotate(shown, turn))
    stored.save(tmp_path / "turned.png", exif=exif)
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    result = detector(str(tmp_path / "turned.png"), FLOOR)
    check_same(result, detector(shown, FLOOR))
    assert result.size == (160, 120)
    assert detector(str(tmp_path / "turned.jpg"), FLOOR).size == (160, 120)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (20000, 20), (20, 20000)])
def test_extreme_sizes(width: int, height: int, detector: Detector, tmp_path: Path) -> None:
    image = cv2.resize(make_image(7), (width, height), interpolation=cv2.INTER_AREA)
    for ending in (".png", ".jpg"):
        result = detector(write_image(tmp_path / f"extreme{ending}", image), 0.0)
        assert result.size == (width, height)
        assert len(result) > 0
        assert np.isfinite(result.boxes).all()
        assert (result.boxes >= 0).all()
        assert (result.boxes <= [width - 1, height - 1] * 2).all()


def test_unreadable_images_are_named(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    whole = Path(write_image(tmp_path / "whole.jpg", make_image(1))).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.jpg", "text.jpg", "folder.jpg", "cut.jpg", "missing.jpg"):
        with pytest.raises(ImageError, match=name):
            detector(str(tmp_path / name))
    for pixels in (np.zeros((5, 6, 3), np.uint16), np.zeros((5, 6, 7), np.uint8), np.zeros((5, 6, 3))):
        with pytest.raises(ImageError):
            detector(pixels)


def test_a_bad_image_in_a_batch_is_named(detector: Detector, tmp_path: Path) -> None:
    good = write_image(tmp_path / "good.png", make_image(1))
    (tmp_path / "bad.png").write_bytes(Path(good).read_bytes()[:200])
    with pytest.raises(ImageError, match=r"bad\.png"):
        detector([good, str(tmp_path / "bad.png"), good])


# ---- files of the export -----------------------------------------------------------------------------------

DAMAGES: Dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :]
    ),
    "cut": lambda data: data[: len(data) // 3],
    "empty": lambda data: b"",
    "something else": lambda data: b"GIF89a" + bytes(500),
}


def parts(tiny_export: Path, engine: str) -> List[Tuple[str, str]]:
    """Kind and file name of what an engine reads, beside the sidecar."""
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    return [(kind, sidecar["files"][kind]["file"]) for kind in format_of_engine(engine).files]


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_files_are_named(damage: str, tiny_export: Path, engine: str, tmp_path: Path) -> None:
    for _, name in parts(tiny_export, engine):
        copy = tmp_path / name
        shutil.copytree(tiny_export, copy)
        (copy / name).write_bytes(DAMAGES[damage]((copy / name).read_bytes()))
        with pytest.raises(ExportError, match=name):
            Detector.load(copy, "cpu", engine)
        (copy / name).unlink()
        with pytest.raises(ExportError, match=name):
            Detector.load(copy, "cpu", engine)


@pytest.mark.parametrize("damage", ["cut", "empty", "something else"])
def test_damaged_files_with_valid_checksums_are_refused(
    damage: str, tiny_export: Path, engine: str, tmp_path: Path
) -> None:
    """The checksum was updated, so the reader itself must detect the damage."""
    for kind, name in parts(tiny_export, engine):
        copy = tmp_path / name
        shutil.copytree(tiny_export, copy)
        (copy / name).write_bytes(DAMAGES[damage]((copy / name).read_bytes()))
        sidecar = json.loads((copy / "pets.json").read_text())
        sidecar["files"][kind] = describe_file(copy / name)
        (copy / "pets.json").write_text(json.dumps(sidecar))
        with pytest.raises(MnssdError, match=name):
            Detector.load(copy, "cpu", engine)


def test_weights_of_another_network_are_refused(tiny_export: Path, engine: str, tmp_path: Path) -> None:
    """A complete file with a valid checksum, of a detector with other layers."""
    names = dict(parts(tiny_export, engine))
    kind = next((kind for kind in names if kind.endswith(("params", "bin"))), None)
    if kind is None:
        pytest.skip("an ONNX model holds its weights itself")
    net, spec = make_net(head="ssdlite")
    images = write_images(tmp_path, 4)
    wanted = (format_of_engine(engine).name,)
    export_network(net, spec, tmp_path / "other", images, "pets", ExportOptions(wanted))
    shutil.copytree(tiny_export, tmp_path / "mixed")
    shutil.copy(tmp_path / "other" / names[kind], tmp_path / "mixed" / names[kind])
    sidecar = json.loads((tmp_path / "mixed" / "pets.json").read_text())
    sidecar["files"][kind] = describe_file(tmp_path / "mixed" / names[kind])
    (tmp_path / "mixed" / "pets.json").write_text(json.dumps(sidecar))
    with pytest.raises(MnssdError, match="pets"):
        Detector.load(tmp_path / "mixed", "cpu", engine)


@pytest.mark.parametrize("size", [[300, 300], [96, 128], [0, 96], [10**6, 10**6], [128.5, 96]])
def test_another_input_size_is_refused(size: Any, tiny_export: Path, engine: str, tmp_path: Path) -> None:
    """The anchors and the input of an ONNX model have a fixed size."""
    shutil.copytree(tiny_export, tmp_path / "resized")
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    sidecar["input"]["size"] = size
    (tmp_path / "resized" / "pets.json").write_text(json.dumps(sidecar))
    with pytest.raises(MnssdError, match="pets"):
        Detector.load(tmp_path / "resized", "cpu", engine)(make_image(1), 0.0)


# ---- the command -------------------------------------------------------------------------------------------


def test_detect_continues_after_unreadable_inputs(
    tiny_export: Path, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_kinds(photos)
    bad = ("bad1.jpg", "bad2.avi", "bad3.png")
    for name in bad:
        (photos / name).write_bytes(b"nothing of the kind")
    lines = tmp_path / "lines.jsonl"
    assert main(["detect", str(tiny_export), str(photos), "--engine", engine, "--jsonl", str(lines)]) == 1
    entries = [json.loads(line) for line in lines.read_text().splitlines()]
    assert sum("error" in entry for entry in entries) == len(bad)
    assert sum("detections" in entry for entry in entries) == len(KINDS)
    err = capsys.readouterr().err
    assert all(name in err for name in bad)
    assert "Traceback" not in err


def test_empty_folders_are_named(
    tiny_export: Path, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(["detect", str(tiny_export), str(tmp_path / "nothing"), "--engine", engine]) == 1
    assert str(tmp_path / "nothing") in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "nothing"), str(tmp_path)]) == 1
    assert str(tmp_path / "nothing") in capsys.readouterr().err


def test_a_size_of_one_number_is_refused(tiny_export: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_export, tmp_path / "odd")
    sidecar = json.loads((tiny_export / "pets.json").read_text())
    sidecar["input"]["size"] = [128]
    (tmp_path / "odd" / "pets.json").write_text(json.dumps(sidecar))
    with pytest.raises(ExportError, match=r"pets\.json"):
        Detector.load(tmp_path / "odd", "cpu")
