"""`Detector`: equal detections from runs and exports and from all forms of images; damaged exports."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
import pytest
from helpers.detectors import (
    CLASSES,
    SIZE,
    make_image,
    make_net,
    network_outputs,
    write_image,
    write_images,
    write_run,
)

from mnssd.data.image import resize_for_network, to_network_input
from mnssd.data.preprocess import to_detections
from mnssd.data.sample import Detections
from mnssd.errors import ExportError, ImageError, WeightsError
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector

FLOOR = 0.1


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run``, ``export`` and some ``image?.png``."""
    folder = tmp_path_factory.mktemp("detector")
    net, spec = make_net()
    images = write_images(folder, 3, ".png")
    write_run(folder / "run", net, spec)
    export_network(net, spec, folder / "export", images[:1], "pets")
    return folder


@pytest.fixture(scope="module")
def detector(workspace: Path) -> Detector:
    """The exported detector."""
    return Detector.load(workspace / "export", ctx="cpu")


@pytest.fixture(scope="module")
def images(workspace: Path) -> List[str]:
    """The images of the workspace."""
    return sorted(map(str, workspace.glob("*.png")))


def check_same(a: Detections, b: Detections, score: float = 1e-4, box: float = 0.3) -> None:
    """Equal up to rounding; boxes in pixels of images up to twice the size of the input."""
    assert len(a.labels) == len(b.labels) > 0
    order = [np.lexsort([d.boxes[:, 0].round(), d.labels]) for d in (a, b)]
    np.testing.assert_array_equal(a.labels[order[0]], b.labels[order[1]])
    np.testing.assert_allclose(a.scores[order[0]], b.scores[order[1]], atol=score)
    np.testing.assert_allclose(a.boxes[order[0]], b.boxes[order[1]], atol=box)


def test_boxes_are_in_pixels_of_the_image(detector: Detector) -> None:
    net, _ = make_net()
    image = make_image(7, 256, 48)  # twice as wide and half as high as the network's input
    ids, scores, boxes = network_outputs(net, to_network_input([resize_for_network(image, SIZE)]))
    result = detector(image, score=FLOOR, max_detections=200)
    rows = scores[0, :, 0] >= FLOOR
    expected = Detections(
        np.clip(boxes[0][rows] * [2, 0.5, 2, 0.5], 0, [255, 47, 255, 47]), ids[0][rows, 0], scores[0][rows, 0]
    )
    check_same(result, expected)
    assert (detector.classes, detector.size) == (CLASSES, SIZE)
    assert result.boxes.dtype == result.scores.dtype == np.float32
    assert result.labels.dtype == np.int32
    assert (np.diff(result.scores) <= 0).all()
    assert (result.boxes >= 0).all()


def test_runs_and_exports_give_the_same_detections(
    detector: Detector, workspace: Path, images: List[str]
) -> None:
    expected = detector(images, FLOOR)
    for source in (str(workspace / "run"), workspace / "run" / "best.params", workspace / "export"):
        other = Detector.load(source, ctx="cpu")
        assert other.classes == CLASSES
        for a, b in zip(other(images, FLOOR), expected):
            check_same(a, b)


def test_paths_bytes_and_pixels_give_the_same_detections(detector: Detector, images: List[str]) -> None:
    paths = images * 4  # more than one batch
    together = detector(paths, FLOOR)
    assert len(together) == len(paths)
    for path, result in zip(paths, together):
        pixels = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        for form in (path, Path(path), Path(path).read_bytes(), pixels):
            check_same(detector(form, FLOOR), result)
    assert detector([]) == []


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_large_files_and_pixels_are_reduced_alike(ending: str, detector: Detector, tmp_path: Path) -> None:
    path = write_image(tmp_path / f"large{ending}", make_image(5, 1400, 1000))
    pixels = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    exact = ending == ".png"  # JPEG files are reduced by the decoder, with another filter
    a, b = detector(path, 0.3), detector(pixels, 0.3)
    if exact:
        check_same(a, b, 0, 0)
    else:
        n = min(5, len(a.labels))
        np.testing.assert_allclose(a.scores[:n], b.scores[:n], atol=0.05)


def test_the_score_threshold_selects_detections(detector: Detector, images: List[str]) -> None:
    few, many = detector(images[0]), detector(images[0], score=0.05)
    assert 0 < len(few.labels) < len(many.labels)
    assert few.scores.min() >= 0.5
    np.testing.assert_array_equal(few.boxes, many.boxes[: len(few.boxes)])
    nothing = detector(images[0], score=1.0)
    assert (nothing.boxes.shape, nothing.labels.shape, nothing.scores.shape) == ((0, 4), (0,), (0,))


def test_threads_may_share_a_detector(detector: Detector, images: List[str]) -> None:
    expected = {path: detector(path, FLOOR) for path in images}
    with ThreadPoolExecutor(4) as pool:
        for path, result in zip(images * 6, pool.map(lambda path: detector(path, FLOOR), images * 6)):
            np.testing.assert_array_equal(result.boxes, expected[path].boxes)
            np.testing.assert_array_equal(result.labels, expected[path].labels)


def odd_files(folder: Path) -> Dict[str, Tuple[str, int, int]]:
    """Images of unusual kinds: path, width, height."""
    rgb = make_image(3)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    kinds = {
        "gray": gray,
        "alpha": np.dstack([rgb, gray]),
        "16bit": (rgb.astype(np.uint16) * 257),
        "dot": rgb[:1, :1],
        "thin": cv2.resize(rgb, (20000, 20)),
        "tall": cv2.resize(rgb, (3, 5000)),
    }
    files = {}
    for name, pixels in kinds.items():
        assert cv2.imwrite(str(folder / f"{name}.png"), pixels)
        files[name] = (str(folder / f"{name}.png"), pixels.shape[1], pixels.shape[0])
    return files


def test_unusual_images(detector: Detector, tmp_path: Path) -> None:
    for path, width, height in odd_files(tmp_path).values():
        result = detector(path, 0.02)
        assert len(result.labels) > 0
        assert (result.boxes >= 0).all()
        assert (result.boxes <= [width - 1, height - 1] * 2).all()
    gray = detector(str(tmp_path / "gray.png"), FLOOR)
    pixels = cv2.imread(str(tmp_path / "gray.png"), cv2.IMREAD_GRAYSCALE)
    check_same(gray, detector(np.dstack([pixels] * 3), FLOOR))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((5, 6, 2), np.uint8),
        np.zeros((3, 5, 6), np.uint8),
        np.zeros((5, 6, 3), np.float32),
        np.zeros((0, 6, 3), np.uint8),
        np.zeros((1, 5, 6, 3), np.uint8),
    ],
)
def test_arrays_of_other_shapes_or_types_are_refused(detector: Detector, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint8"):
        detector(pixels)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0" + bytes(64)])
def test_invalid_bytes_are_refused(detector: Detector, data: bytes) -> None:
    with pytest.raises(ImageError, match="the image"):
        detector(data)


def test_padding_and_low_scores_are_dropped() -> None:
    ids, scores = np.array([[1], [-1], [0], [2]]), np.array([[0.2], [-1], [0.9], [0.05]])
    boxes = np.array([[-5, 10, 50, 200], [-1] * 4, [0, 0, 10, 10], [0, 0, 1, 1]], np.float32)
    result = to_detections(ids, scores, boxes, (100, 50), (200, 25), 0.1)
    np.testing.assert_array_equal(result.labels, [0, 1])
    np.testing.assert_array_equal(result.boxes, [[0, 0, 20, 5], [0, 5, 100, 24]])


# ---- damaged exports ---------------------------------------------------------------------------------------


def change_byte(path: Path) -> None:
    """Flip a bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))


def edit(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; ``a__b`` is the entry b of the entry a."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        inner = content
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(content))


DAMAGE = {
    "params changed": (lambda f: change_byte(f / "pets-0000.params"), r"pets-0000\.params"),
    "params cut": (lambda f: (f / "pets-0000.params").write_bytes(b"ab"), r"pets-0000\.params"),
    "params missing": (lambda f: (f / "pets-0000.params").unlink(), r"pets-0000\.params"),
    "symbol changed": (lambda f: change_byte(f / "pets-symbol.json"), r"pets-symbol\.json"),
    "symbol missing": (lambda f: (f / "pets-symbol.json").unlink(), r"pets-symbol\.json"),
    "sidecar missing": (lambda f: (f / "pets.json").unlink(), "broken"),
    "sidecar cut": (lambda f: (f / "pets.json").write_text('{"format": "mns'), "broken"),
    "sidecar is a list": (lambda f: (f / "pets.json").write_text("[1]"), "broken"),
    "newer schema": (lambda f: edit(f / "pets.json", schema_version=3), r"pets\.json: .*3"),
    "no files": (lambda f: edit(f / "pets.json", files={}), r"pets\.json"),
    "files elsewhere": (lambda f: edit(f / "pets.json", files__params__file="../x"), r"pets\.json"),
    "classes are text": (lambda f: edit(f / "pets.json", classes="cat"), r"pets\.json"),
    "no classes": (lambda f: edit(f / "pets.json", classes=[]), r"pets\.json"),
    "no task": (lambda f: edit(f / "pets.json", task=None), r"pets\.json"),
    "other mean": (lambda f: edit(f / "pets.json", input__mean=[0.5, 0.5, 0.5]), r"pets\.json"),
    "size is text": (lambda f: edit(f / "pets.json", input__size="ab"), r"pets\.json"),
    "two exports": (lambda f: shutil.copy(f / "pets.json", f / "other.json"), r"other\.json, pets\.json"),
    "input is a list": (lambda f: edit(f / "pets.json", input=[]), r"pets\.json"),
}


@pytest.mark.parametrize("how", list(DAMAGE))
def test_damaged_exports_are_refused(how: str, workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "export", tmp_path / "broken")
    damage, named = DAMAGE[how]
    damage(tmp_path / "broken")
    with pytest.raises(ExportError, match=named):
        Detector.load(tmp_path / "broken", "cpu")


def test_an_unknown_operator_is_refused_despite_a_valid_checksum(workspace: Path, tmp_path: Path) -> None:
    from mnssd.export.sidecar import describe_file

    shutil.copytree(workspace / "export", tmp_path / "broken")
    symbol = tmp_path / "broken" / "pets-symbol.json"
    symbol.write_text(symbol.read_text().replace('"op": "Convolution"', '"op": "Confusion"'))
    edit(tmp_path / "broken" / "pets.json", files__symbol=describe_file(symbol))
    with pytest.raises(ExportError, match=r"pets-symbol\.json.*Confusion"):
        Detector.load(tmp_path / "broken", "cpu")


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nothing"):
        Detector.load(tmp_path / "nothing")
    with pytest.raises(ExportError, match=str(tmp_path)):
        Detector.load(tmp_path)
