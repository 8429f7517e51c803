"""Detection in tiles: small objects are found, no object twice; `Detector`, `predict`, the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import make_image, make_net, write_image, write_run, write_video
from helpers.devkit import CLASSES
from helpers.engines import engine_params

from mnssd.cli.main import main
from mnssd.data.annotations.voc_xml import write_annotation
from mnssd.data.dataset import Dataset
from mnssd.data.image import from_network_input
from mnssd.data.open import open_dataset
from mnssd.errors import ImageError, OptionError
from mnssd.export.engines import Engine
from mnssd.inference.detector import Detector
from mnssd.inference.predict import Skipped, evaluate, predict
from mnssd.inference.predict_tiled import predict_tiled

NET_SIZE = (96, 96)
SMALLEST = 7
"""Least side of a patch, in pixels of the input, that the engine below sees."""


def find_patches(pixels: np.ndarray) -> List[Tuple[int, float, List[float]]]:
    """Class, score and box of each bright (0) and gray (1) patch; one that is cut by the edge, too."""
    found = []
    for label, (low, high) in enumerate(((200, 255), (100, 160))):
        mask = cv2.inRange(pixels, (low,) * 3, (high,) * 3)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3)))
        for left, top, width, height, _ in cv2.connectedComponentsWithStats(mask)[2][1:]:
            if min(width, height) >= SMALLEST:
                found.append((label, 0.9 - 0.1 * label, [left, top, left + width, top + height]))
    return found


class PatchEngine(Engine):
    """Detects patches that are large enough at its input size."""

    takes_pixels = True

    def __init__(self) -> None:
        self.batches: List[int] = []

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        self.batches.append(len(x))
        ids, scores = np.full((2, len(x), 20, 1), -1, np.float32)
        boxes = np.full((len(x), 20, 4), -1, np.float32)
        for image, pixels in enumerate(x):
            for row, (label, score, box) in enumerate(find_patches(pixels)):
                ids[image, row], scores[image, row], boxes[image, row] = label, score, box
        return [ids, scores, boxes]


class PatchNet:
    """The same for `predict`."""

    size, classes, anchors = NET_SIZE, CLASSES, np.array([[0, 0, 20, 20], [0, 0, 15, 30]], np.float32)

    def collect_params(self) -> Dict[str, Any]:
        return {}

    def __call__(self, x: mx.nd.NDArray) -> List[mx.nd.NDArray]:
        return [mx.nd.array(array) for array in PatchEngine().run(from_network_input(x.asnumpy()))]


def draw_scene(size: Tuple[int, int], objects: Sequence[Tuple[Tuple[int, int, int, int], int]]) -> np.ndarray:
    """Black pixels with patches: inclusive boxes and their labels."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for (xmin, ymin, xmax, ymax), label in objects:
        image[ymin : ymax + 1, xmin : xmax + 1] = 250 if label == 0 else 128
    return image


def make_objects(size: Tuple[int, int], count: int, seed: int) -> List[Tuple[Tuple[int, int, int, int], int]]:
    """Small patches all over an image, apart from each other."""
    rng = np.random.default_rng(seed)
    taken = np.zeros((size[1], size[0]), bool)
    objects = []
    while len(objects) < count:
        side = int(rng.integers(20, 40))
        left, top = (int(rng.integers(0, length - side + 1)) for length in size)
        if not taken[max(0, top - 20) : top + side + 20, max(0, left - 20) : left + side + 20].any():
            taken[top : top + side, left : left + side] = True
            objects.append(((left, top, left + side - 1, top + side - 1), int(rng.integers(0, 2))))
    return objects


def assert_found(result: Any, objects: Sequence[Tuple[Tuple[int, int, int, int], int]]) -> None:
    """Each object exactly once, and nothing else."""
    rows = [(*box, label) for box, label in zip(result.boxes.tolist(), result.labels.tolist())]
    assert len(rows) == len(objects)
    for box, label in objects:
        near = [row for row in rows if row[4] == label and np.abs(np.array(row[:4]) - box).max() <= 6]
        assert len(near) == 1, (box, label)


@pytest.fixture
def detector() -> Detector:
    return Detector(PatchEngine(), CLASSES, NET_SIZE, anchors=lambda: PatchNet.anchors)


SIZE = (900, 640)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("tiles", ["5x6", "6x8", "auto"])
def test_small_objects_are_found_once(detector: Detector, tiles: str, seed: int) -> None:
    objects = make_objects(SIZE, 40, seed)
    image = draw_scene(SIZE, objects)
    assert len(detector(image)) == 0  # too small in the whole image
    assert_found(detector(image, tiles=tiles), objects)


@pytest.mark.parametrize("tiles", ["2x2", "3x4", "4x5", "auto"])
def test_objects_of_all_sizes_are_found_once(detector: Detector, tiles: str) -> None:
    objects = [((60, 50, 799, 299), 0), ((150, 350, 449, 629), 1), ((500, 340, 699, 539), 0)]
    if tiles != "2x2":
        objects += [((720, 420, 789, 489), 1), ((820, 560, 879, 619), 0)]
    assert_found(detector(draw_scene(SIZE, objects), tiles=tiles), objects)


def test_forms_of_images_and_their_number(detector: Detector, tmp_path: Path) -> None:
    scenes = [make_objects(SIZE, 12, seed) for seed in range(3)]
    images = [draw_scene(SIZE, objects) for objects in scenes]
    path = write_image(tmp_path / "one.png", images[0])
    results = detector([path, Path(path).read_bytes(), *images[1:]], tiles="5x6")
    for result, objects in zip(results, [scenes[0], *scenes]):
        assert_found(result, objects)
        assert result.size == SIZE
    assert max(detector._engine.batches) == 8  # type: ignore[attr-defined]
    ((only,), some) = (
        detector(iter(images[:1]), tiles="5x6"),
        detector(images[0], max_detections=5, tiles="5x6"),
    )
    assert (len(only), len(some)) == (12, 5)
    assert set(detector(images[0], classes=["dog"], tiles="5x6").names) == {"dog"}


@pytest.mark.parametrize("bad", ["0x2", "axb", "65x65", "", 2, None])
def test_bad_values_are_refused(detector: Detector, bad: Any) -> None:
    with pytest.raises(OptionError, match="tiles"):
        detector(np.zeros((50, 50, 3), np.uint8), tiles=bad)


def test_auto_without_anchors_is_refused() -> None:
    detector = Detector(PatchEngine(), CLASSES, NET_SIZE)
    with pytest.raises(OptionError, match="2x2"):
        detector(np.zeros((50, 50, 3), np.uint8), tiles="auto")


@pytest.mark.parametrize("content", [b"", b"nothing", "missing.png"])
def test_unreadable_images_are_errors(detector: Detector, content: Any, tmp_path: Path) -> None:
    source = str(tmp_path / content) if isinstance(content, str) else content
    with pytest.raises(ImageError):
        detector(source, tiles="2x2")


def test_truncated_image_is_an_error(detector: Detector, tmp_path: Path) -> None:
    path = Path(write_image(tmp_path / "one.jpg", make_image(0, 600, 400)))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ImageError, match=r"one\.jpg"):
        detector(path, tiles="4x4")


# ---- a network, as a run and in all exports


@pytest.mark.parametrize("engine", ["run", *engine_params(exact=True)])
def test_one_tile_is_no_tiles_for_all_engines(
    engine: str, tiny_detector: Any, tiny_export: Path, tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", *tiny_detector) if engine == "run" else tiny_export
    detector = Detector.load(path, "cpu", "auto" if engine == "run" else engine)
    small, large = make_image(1, 40, 30), make_image(2, 700, 500)
    plain = detector(small, 0.1)
    for tiles in ("none", "1x1", "auto"):
        result = detector(small, 0.1, tiles=tiles)
        np.testing.assert_array_equal(result.boxes, plain.boxes)
        np.testing.assert_array_equal(result.scores, plain.scores)
    assert len(plain) > 0
    tiled = detector(large, 0.3, tiles="auto")
    assert len(tiled) > len(detector(large, 0.3))
    assert (tiled.boxes >= 0).all()
    assert (tiled.boxes <= [699, 499, 699, 499]).all()
    assert (np.diff(tiled.scores) <= 0).all()


# ---- datasets


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A VOC dataset of three large images with small objects, and of a small one."""
    folder = tmp_path / "scenes"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for number, size in enumerate([SIZE, (640, 900), (48, 48), SIZE]):
        objects = make_objects(size, 1 if size == (48, 48) else 25, number)
        write_image(folder / "JPEGImages" / f"{number}.png", draw_scene(size, objects))
        names, boxes = [CLASSES[label] for _, label in objects], [box for box, _ in objects]
        write_annotation(folder / "Annotations" / f"{number}.xml", f"{number}.png", size, names, boxes)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("0\n1\n2\n3\n")
    return folder


def open_scenes(folder: Path) -> Dataset:
    return open_dataset("auto", folder, "val", CLASSES, "val")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 16])
def test_evaluation_in_tiles(scenes: Path, batch_size: int, workers: int) -> None:
    dataset = open_scenes(scenes)
    plain = evaluate(PatchNet(), dataset, "voc12", batch_size=batch_size, workers=workers)
    tiled = evaluate(PatchNet(), dataset, "voc12", batch_size=batch_size, workers=workers, tiles="5x6")
    assert [(size.objects, size.matched) for size in plain.sizes][1:3] != [(0, 0), (0, 0)]
    assert sum(size.matched for size in plain.sizes) == 1  # that of the small image
    assert sum(size.matched for size in tiled.sizes) == 76
    assert tiled.mean_ap == pytest.approx(1)


def test_predictions_are_those_of_the_detector(scenes: Path, detector: Detector) -> None:
    dataset = open_scenes(scenes)
    pairs = list(predict_tiled(PatchNet(), dataset, "auto", 5))
    assert all(sample is own for (sample, _), own in zip(pairs, dataset))
    assert len(pairs) == 4
    for sample, found in pairs:
        result = detector(sample.image_path, 0.0, tiles="auto")
        np.testing.assert_array_equal(found.boxes, result.boxes)
        np.testing.assert_array_equal(found.labels, result.labels)
    (plain,) = predict(PatchNet(), [dataset[2]])
    np.testing.assert_array_equal(plain[1].boxes, pairs[2][1].boxes)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_once(scenes: Path, workers: int) -> None:
    dataset = open_scenes(scenes)
    cut, missing = Path(dataset[0].image_path), Path(dataset[3].image_path)
    cut.write_bytes(cut.read_bytes()[:-50])
    missing.unlink()
    with pytest.raises(ImageError):
        list(predict_tiled(PatchNet(), dataset, "5x6", workers=workers))
    skipped: List[Skipped] = []
    pairs = list(predict_tiled(PatchNet(), dataset, "5x6", 5, workers, None, "skip", skipped))
    assert [sample.image_id for sample, _ in pairs] == ["1", "2"]
    assert len(skipped) == 2
    assert all(one.sample is dataset[index] for one, index in zip(skipped, (0, 3)))


# ---- commands


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", *make_net())


def read_lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_detect_command(run_folder: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "large.png", make_image(2, 700, 500))
    counts = {}
    for tiles in ("none", "1x1", "2x3", "auto"):
        lines = tmp_path / f"{tiles}.jsonl"
        assert (
            main(["detect", str(run_folder), image, "--score=.3", "--tiles", tiles, f"--jsonl={lines}"]) == 0
        )
        counts[tiles] = read_lines(lines)[0]["detections"]
    assert counts["none"] == counts["1x1"]
    expected = Detector.load(run_folder, "cpu")(image, 0.3, tiles="2x3").to_dict()["detections"]
    assert counts["2x3"] == expected
    assert len({len(found) for found in counts.values()}) == 3


def test_detect_command_tracks_in_tiles(run_folder: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", 4)
    lines = tmp_path / "tracks.jsonl"
    arguments = [str(run_folder), str(tmp_path / "clip.avi"), "--score=.3", "--track", "--tiles=2x2"]
    assert main(["detect", *arguments, f"--jsonl={lines}"]) == 0
    rows = read_lines(lines)
    assert [row["frame"] for row in rows] == [0, 1, 2, 3]
    assert any(found["id"] is not None for found in rows[0]["detections"])


@pytest.mark.parametrize("bad", ["0x2", "axb", "100x100", "2", ""])
@pytest.mark.parametrize("command", ["detect", "eval"])
def test_bad_values_end_the_commands(
    command: str, bad: str, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([command, str(run_folder), "--tiles", bad]) == 2
    assert repr(bad) in capsys.readouterr().err


def test_eval_command(scenes: Path, tmp_path: Path) -> None:
    net, spec = make_net()
    run = write_run(tmp_path / "run", net, spec)
    for name in CLASSES:
        assert name in spec.classes
    results = {}
    for tiles in ("none", "2x2"):
        path = tmp_path / f"{tiles}.json"
        arguments = ["--dataset=auto", f"--data-root={scenes}", "--splits=val", f"--tiles={tiles}"]
        assert main(["eval", str(run), *arguments, f"--json={path}"]) == 0
        results[tiles] = json.loads(path.read_text())
        assert results[tiles]["tiles"] == tiles
        assert results[tiles]["recall_by_size"]["16 to 32"]["objects"] > 0
    assert sum(results["2x2"]["detections"].values()) > sum(results["none"]["detections"].values())


def test_tiles_have_no_effect_on_detection_files(scenes: Path, tmp_path: Path) -> None:
    assert main(["eval", "--detections", str(tmp_path), "--tiles=2x2", f"--data-root={scenes}"]) == 2
