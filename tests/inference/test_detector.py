"""The Detector and `mnssd detect`: the same answers from every source, clear errors for broken ones."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import (
    CLASSES,
    SIZE,
    make_image,
    make_net,
    network_answer,
    write_image,
    write_images,
    write_run,
)

from mnssd.cli.main import run_command
from mnssd.data.image import resize_for_network, to_network_input
from mnssd.data.preprocess import to_detections
from mnssd.data.sample import Detections
from mnssd.errors import ExportError, ImageError, MnssdError, WeightsError
from mnssd.export.detector import export_detector
from mnssd.export.engines import MXNetEngine
from mnssd.inference.detector import Detector

FLOOR = 0.1


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run``, ``export`` and some ``image?.png``."""
    folder = tmp_path_factory.mktemp("detector")
    net, spec = make_net()
    images = write_images(folder, 3, ".png")
    write_run(folder / "run", net, spec)
    export_detector(net, folder / "export", images[:1], "pets", spec)
    return folder


@pytest.fixture(scope="module")
def detector(workspace: Path) -> Detector:
    """The exported one."""
    return Detector.load(workspace / "export", ctx="cpu")


@pytest.fixture(scope="module")
def images(workspace: Path) -> List[str]:
    """The images."""
    return sorted(map(str, workspace.glob("*.png")))


def check_same(a: Detections, b: Detections, score: float = 1e-4, box: float = 0.3) -> None:
    """Equal but for rounding; boxes in pixels of images up to twice the network's input."""
    assert len(a.labels) == len(b.labels) > 0
    order = [np.lexsort([found.boxes[:, 0].round(), found.labels]) for found in (a, b)]
    np.testing.assert_array_equal(a.labels[order[0]], b.labels[order[1]])
    np.testing.assert_allclose(a.scores[order[0]], b.scores[order[1]], atol=score)
    np.testing.assert_allclose(a.boxes[order[0]], b.boxes[order[1]], atol=box)


def test_answers_are_the_networks_in_pixels_of_the_image(detector: Detector) -> None:
    net, _ = make_net()
    image = make_image(7, 256, 48)  # twice as wide and half as high as the network's input
    ids, scores, boxes = network_answer(net, to_network_input([resize_for_network(image, SIZE)]))
    found = detector(image, score=FLOOR)
    rows = scores[0, :, 0] >= FLOOR
    expected = Detections(
        np.clip(boxes[0][rows] * [2, 0.5, 2, 0.5], 0, [255, 47, 255, 47]), ids[0][rows, 0], scores[0][rows, 0]
    )
    check_same(found, expected)
    assert (detector.classes, detector.size) == (CLASSES, SIZE)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int32
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes >= 0).all()


def test_every_source_gives_the_same(detector: Detector, workspace: Path, images: List[str]) -> None:
    expected = detector(images, FLOOR)
    for source in (str(workspace / "run"), workspace / "run" / "best.params", workspace / "export"):
        other = Detector.load(source, ctx="cpu")
        assert other.classes == CLASSES
        for a, b in zip(other(images, FLOOR), expected):
            check_same(a, b)


def test_every_form_of_image_gives_the_same(detector: Detector, images: List[str]) -> None:
    paths = images * 4  # more than one batch
    together = detector(paths, FLOOR)
    assert len(together) == len(paths)
    for path, found in zip(paths, together):
        pixels = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        for form in (path, Path(path), Path(path).read_bytes(), pixels):
            check_same(detector(form, FLOOR), found)
    assert detector([]) == []


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_large_images_are_reduced_alike_from_files_and_pixels(
    ending: str, detector: Detector, tmp_path: Path
) -> None:
    path = write_image(tmp_path / f"large{ending}", make_image(5, 1400, 1000))
    pixels = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    exact = ending == ".png"  # JPEG files are reduced while they are decoded, with another filter
    a, b = detector(path, 0.3), detector(pixels, 0.3)
    if exact:
        check_same(a, b, 0, 0)
    else:
        n = min(5, len(a.labels))
        np.testing.assert_allclose(a.scores[:n], b.scores[:n], atol=0.05)


def test_score(detector: Detector, images: List[str]) -> None:
    few, many = detector(images[0]), detector(images[0], score=0.05)
    assert 0 < len(few.labels) < len(many.labels)
    assert few.scores.min() >= 0.5
    np.testing.assert_array_equal(few.boxes, many.boxes[: len(few.boxes)])
    nothing = detector(images[0], score=1.0)
    assert (nothing.boxes.shape, nothing.labels.shape, nothing.scores.shape) == ((0, 4), (0,), (0,))


def test_threads_may_share_it(detector: Detector, images: List[str]) -> None:
    expected = {path: detector(path, FLOOR) for path in images}
    with ThreadPoolExecutor(4) as pool:
        for path, found in zip(images * 6, pool.map(lambda path: detector(path, FLOOR), images * 6)):
            np.testing.assert_array_equal(found.boxes, expected[path].boxes)
            np.testing.assert_array_equal(found.labels, expected[path].labels)


def odd_files(folder: Path) -> Dict[str, Tuple[str, int, int]]:
    """Readable images of unusual kinds: path, width, height."""
    rgb = make_image(3)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    kinds = {
        "grey": grey,
        "alpha": np.dstack([rgb, grey]),
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


def test_odd_images(detector: Detector, tmp_path: Path) -> None:
    for path, width, height in odd_files(tmp_path).values():
        found = detector(path, 0.02)
        assert len(found.labels) > 0
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width - 1, height - 1] * 2).all()
    grey = detector(str(tmp_path / "grey.png"), FLOOR)
    pixels = cv2.imread(str(tmp_path / "grey.png"), cv2.IMREAD_GRAYSCALE)
    check_same(grey, detector(np.dstack([pixels] * 3), FLOOR))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((5, 6), np.uint8),
        np.zeros((5, 6, 4), np.uint8),
        np.zeros((5, 6, 3), np.float32),
        np.zeros((0, 6, 3), np.uint8),
        np.zeros((1, 5, 6, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_images(detector: Detector, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="is no image"):
        detector(pixels)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0" + bytes(64)])
def test_bytes_that_are_no_image(detector: Detector, data: bytes) -> None:
    with pytest.raises(ImageError, match="the image"):
        detector(data)


def test_rows_without_detections_and_scores() -> None:
    ids, scores = np.array([[1], [-1], [0], [2]]), np.array([[0.2], [-1], [0.9], [0.05]])
    boxes = np.array([[-5, 10, 50, 200], [-1] * 4, [0, 0, 10, 10], [0, 0, 1, 1]], np.float32)
    found = to_detections(ids, scores, boxes, (100, 50), (200, 25), 0.1)
    np.testing.assert_array_equal(found.labels, [0, 1])
    np.testing.assert_array_equal(found.boxes, [[0, 0, 20, 5], [0, 5, 100, 24]])


# ---- broken exports ----------------------------------------------------------------------------------------


def change_byte(path: Path) -> None:
    """Flip a bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))


def edit(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; ``a__b`` is entry b of entry a."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        inner = content
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    path.write_text(json.dumps(content))


BROKEN = {
    "params damaged": (lambda f: change_byte(f / "pets-0000.params"), r"pets-0000\.params: damaged"),
    "params cut": (lambda f: (f / "pets-0000.params").write_bytes(b"ab"), r"pets-0000\.params: damaged"),
    "params gone": (lambda f: (f / "pets-0000.params").unlink(), r"pets-0000\.params: No such file"),
    "symbol damaged": (lambda f: change_byte(f / "pets-symbol.json"), r"pets-symbol\.json: damaged"),
    "symbol gone": (lambda f: (f / "pets-symbol.json").unlink(), r"pets-symbol\.json: No such file"),
    "sidecar gone": (lambda f: (f / "pets.json").unlink(), "neither an export nor a run"),
    "sidecar cut": (lambda f: (f / "pets.json").write_text('{"format": "mns'), "neither an export nor a run"),
    "sidecar is a list": (lambda f: (f / "pets.json").write_text("[1]"), "neither an export nor a run"),
    "newer schema": (lambda f: edit(f / "pets.json", schema_version=3), r"pets\.json: written in version 3"),
    "no files": (lambda f: edit(f / "pets.json", files={}), r"pets\.json: describes"),
    "files elsewhere": (lambda f: edit(f / "pets.json", files__params__file="../x"), "did not write"),
    "classes a text": (lambda f: edit(f / "pets.json", classes="cat"), "did not write"),
    "no classes": (lambda f: edit(f / "pets.json", classes=[]), "did not write"),
    "other mean": (lambda f: edit(f / "pets.json", input__mean=[0.5, 0.5, 0.5]), "did not write"),
    "size a text": (lambda f: edit(f / "pets.json", input__size="ab"), "did not write"),
    "two exports": (lambda f: shutil.copy(f / "pets.json", f / "other.json"), "more than one export"),
    "input a list": (lambda f: edit(f / "pets.json", input=[]), r"pets\.json: damaged"),
}


@pytest.mark.parametrize("how", list(BROKEN))
def test_broken_exports(how: str, workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "export", tmp_path / "broken")
    damage, message = BROKEN[how]
    damage(tmp_path / "broken")
    with pytest.raises(ExportError, match=message):
        Detector.load(tmp_path / "broken", "cpu")


def test_a_symbol_that_mxnet_refuses(workspace: Path, tmp_path: Path) -> None:
    """Its checksum is right: somebody has made it so."""
    from mnssd.export.sidecar import describe_file

    shutil.copytree(workspace / "export", tmp_path / "broken")
    symbol = tmp_path / "broken" / "pets-symbol.json"
    symbol.write_text(symbol.read_text().replace('"op": "Convolution"', '"op": "Confusion"'))
    edit(tmp_path / "broken" / "pets.json", files__symbol=describe_file(symbol))
    with pytest.raises(ExportError, match=r"pets-symbol\.json: MXNet cannot load it"):
        Detector.load(tmp_path / "broken", "cpu")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such run folder"):
        Detector.load(tmp_path / "nothing")
    with pytest.raises(ExportError, match="neither an export nor a run"):
        Detector.load(tmp_path)


# ---- the command -------------------------------------------------------------------------------------------


def test_command(
    workspace: Path, images: List[str], detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, drawn = tmp_path / "made" / "found.json", tmp_path / "drawn" / "here"
    arguments = [str(workspace / "export"), *images, "--score", "0.4", "--ctx", "cpu"]
    assert run_command("detect", [*arguments, "--json", str(report), "--output", str(drawn)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    content = json.loads(report.read_text())
    assert content["classes"] == list(CLASSES)
    *lines, rate = out.splitlines()
    assert len(lines) == len(content["images"]) == len(images)
    assert rate.startswith(f"{len(images)} images, ")
    for path, entry, line in zip(images, content["images"], lines):
        found, original = detector(path, 0.4), cv2.imread(path)
        assert (entry["image"], entry["height"], entry["width"]) == (path, *original.shape[:2])
        assert [CLASSES[label] for label in found.labels] == [d["class"] for d in entry["detections"]]
        np.testing.assert_allclose([d["score"] for d in entry["detections"]], found.scores, atol=1e-5)
        np.testing.assert_allclose([d["box"] for d in entry["detections"]], found.boxes, atol=0.01)
        picture = cv2.imread(str(drawn / Path(path).name))
        assert picture.shape == original.shape
        assert (picture != original).any()
        assert line.startswith(f"{path}: {len(found.labels)} found")
    assert sorted(path.name for path in report.parent.iterdir()) == ["found.json"]


def test_command_goes_on_after_unreadable_images(
    workspace: Path, images: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    arguments = [str(workspace / "run"), str(tmp_path / "cut.jpg"), images[0], str(tmp_path / "none.png")]
    assert run_command("detect", [*arguments, "--json", str(tmp_path / "found.json")]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2  # one image, and the count
    assert "cut.jpg" in err
    assert "none.png" in err
    assert "2 of 3 images" in err
    assert [e["image"] for e in json.loads((tmp_path / "found.json").read_text())["images"]] == [images[0]]


def test_pictures_never_meet(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of one name, kinds that cannot be written, and an input that lies in the output folder."""
    for folder in ("a", "b", "out"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.jpg", make_image(ord(folder[0])))
    before = (tmp_path / "out" / "x.jpg").read_bytes()
    shutil.copy(tmp_path / "a" / "x.jpg", tmp_path / "picture")
    shutil.copy(tmp_path / "a" / "x.jpg", tmp_path / "old.jfif")
    given = [str(tmp_path / name) for name in ("a/x.jpg", "b/x.jpg", "out/x.jpg", "picture", "old.jfif")]
    command = [str(workspace / "export"), *given, "--output", str(tmp_path / "out")]
    for _ in range(2):  # a second time writes the same files
        assert run_command("detect", command) == 0
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["old.jfif.png", "picture.png", "x-2.jpg", "x-3.jpg", "x-4.jpg", "x.jpg"]
        assert (tmp_path / "out" / "x.jpg").read_bytes() == before
    assert f"{given[1]}: " in capsys.readouterr().out


def test_command_refuses(
    workspace: Path, images: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = str(workspace / "export")
    assert run_command("detect", [export, images[0], "--score", "2"]) == 2
    assert "score is from 0 to 1" in capsys.readouterr().err
    assert run_command("detect", [export, images[0], "--output", images[0]]) == 1
    assert "is a file" in capsys.readouterr().err
    assert run_command("detect", [str(tmp_path), images[0]]) == MnssdError.exit_code
    assert "neither an export nor a run" in capsys.readouterr().err


def test_a_batch_is_read_where_it_lies_and_stays_writable() -> None:
    block = mx.gluon.nn.HybridLambda("negative")
    engine = MXNetEngine(block, mx.cpu())
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    for batch in (x, x[:, :, ::2], x.transpose(0, 1, 3, 2), x.astype(np.uint8)):
        (answer,) = engine.answer(batch)
        np.testing.assert_array_equal(answer, -batch.astype(answer.dtype))
        assert batch.flags.writeable
    x += 1  # the next call sees what the array holds then
    np.testing.assert_array_equal(engine.answer(x)[0], -x)
