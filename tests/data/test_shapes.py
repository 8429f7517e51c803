"""The built-in dataset: reproducible images, exact boxes, visible objects, classes told by outline only."""

from __future__ import annotations

import errno
import filecmp
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mnssd.cli.main import main
from mnssd.data.formats.voc import read_voc_folder
from mnssd.data.shapes import dataset as shapes
from mnssd.data.shapes import scene as scenes
from mnssd.data.shapes.dataset import MARKER, SHAPE_CLASSES, make_shapes
from mnssd.data.shapes.outlines import coverage, random_outline
from mnssd.errors import DataError, OptionError

SMALL = {"train": 20, "val": 8, "size": (128, 96)}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built-in") / "shapes"
    assert make_shapes(folder, **SMALL, workers=1)
    return folder


@pytest.fixture(scope="module")
def many():
    """240 scenes of 160 pixels, enough to count."""
    return [scenes.render_scene(np.random.default_rng([7, 0, i]), (160, 160)) for i in range(240)]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_images_do_not_depend_on_threads_or_number_of_images(small, tmp_path):
    other = tmp_path / "shapes"
    make_shapes(other, **{**SMALL, "train": 24}, workers=3)
    assert set(files(small)) < set(files(other))
    images = [name for name in files(small) if name.endswith((".jpg", ".xml"))]
    assert len(images) == 2 * 28
    assert filecmp.cmpfiles(small, other, images, shallow=False) == (images, [], [])


def test_seeds_and_splits_have_different_images(small, tmp_path):
    make_shapes(tmp_path / "shapes", **{**SMALL, "train": 2, "val": 2}, seed=1)
    first = [(tmp_path / "shapes" / "JPEGImages" / f"{split}_000000.jpg") for split in ("train", "val")]
    bytes_ = {path.read_bytes() for path in first}
    assert (small / "JPEGImages" / "train_000000.jpg").read_bytes() not in bytes_
    assert len(bytes_) == 2


def test_layout_and_lists(small):
    lists = {
        s: (small / "ImageSets/Main" / f"{s}.txt").read_text().split() for s in ("train", "val", "trainval")
    }
    assert len(lists["train"]) == 20
    assert len(lists["val"]) == 8
    assert not set(lists["train"]) & set(lists["val"])
    assert lists["trainval"] == lists["train"] + lists["val"]
    assert tuple((small / "classes.txt").read_text().split()) == SHAPE_CLASSES
    assert len(SHAPE_CLASSES) >= 6
    # No file contains a path of this machine or a temporary name.
    for name in files(small):
        if not name.endswith(".jpg"):
            text = (small / name).read_text()
            assert str(small.parent) not in text
            assert "partial" not in text


def test_annotations_match_the_rendered_scenes(small):
    dataset = read_voc_folder(small, "val", SHAPE_CLASSES)
    assert len(dataset) == 8
    assert not dataset.notes
    boxes = 0
    for index, sample in enumerate(dataset):
        drawn = scenes.render_scene(np.random.default_rng([0, 1, index]), SMALL["size"])
        np.testing.assert_array_equal(sample.boxes, drawn.boxes)
        np.testing.assert_array_equal(sample.labels, drawn.labels)
        assert sample.size == SMALL["size"]
        image = cv2.imread(sample.image_path)[..., ::-1]
        assert image.shape == drawn.image.shape
        assert np.abs(image.astype(int) - drawn.image).mean() < 12  # JPEG
        boxes += len(sample.boxes)
    assert boxes > 10


def test_existing_dataset_is_kept_and_other_settings_are_refused(small):
    before = {name: os.stat(small / name).st_mtime_ns for name in files(small)}
    assert not make_shapes(small, **SMALL)
    with pytest.raises(DataError, match=r"seed 0\b.*seed 5\b"):
        make_shapes(small, **SMALL, seed=5)
    with pytest.raises(DataError, match=r"train 20\b.*train 21\b"):
        make_shapes(small, **{**SMALL, "train": 21})
    assert before == {name: os.stat(small / name).st_mtime_ns for name in files(small)}


def test_folder_with_other_content_is_refused_and_kept(tmp_path):
    mine = tmp_path / "photographs"
    mine.mkdir()
    (mine / "cat.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=MARKER):
        make_shapes(mine, **SMALL)
    (mine / MARKER).write_text(json.dumps(["what"]))
    with pytest.raises(DataError, match=MARKER):
        make_shapes(mine, **SMALL)
    assert files(mine) == ["cat.jpg", MARKER]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match=MARKER):
        make_shapes(file, **SMALL)


def test_empty_folder_and_missing_parents_are_accepted(tmp_path):
    (tmp_path / "empty").mkdir()
    assert make_shapes(tmp_path / "empty", 1, 1, (64, 64))
    assert make_shapes(tmp_path / "a" / "b" / "c", 1, 1, (64, 64))
    assert os.listdir(tmp_path / "a" / "b") == ["c"]


def test_full_disk_leaves_no_files(tmp_path, monkeypatch):
    render, calls = shapes._render_one, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        render(*arguments)

    monkeypatch.setattr(shapes, "_render_one", failing)
    with pytest.raises(DataError, match="No space left") as error:
        make_shapes(tmp_path / "shapes", **SMALL, workers=2)
    assert "shapes" in str(error.value)
    assert os.listdir(tmp_path) == []
    assert len(calls) < 20  # rendering stops


def test_interruption_leaves_no_files(tmp_path):
    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shapes(tmp_path / "shapes", **SMALL, progress=interrupt)
    assert os.listdir(tmp_path) == []


def test_concurrent_rendering_gives_one_dataset(tmp_path):
    """Another process finishes the same dataset meanwhile."""
    folder = tmp_path / "shapes"
    done = []

    def other(_):
        if not done:
            done.append(1)
            (tmp_path / "elsewhere").mkdir()
            make_shapes(tmp_path / "elsewhere" / "shapes", 2, 1, (64, 64))
            (tmp_path / "elsewhere" / "shapes").rename(folder)

    assert make_shapes(folder, 2, 1, (64, 64), workers=1, progress=other)
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "shapes"]
    assert not make_shapes(folder, 2, 1, (64, 64))


@pytest.mark.parametrize("values", [{"train": 0}, {"val": -1}, {"seed": -1}, {"size": (20, 320)}])
def test_invalid_settings_are_refused(tmp_path, values):
    with pytest.raises(OptionError, match="shapes"):
        make_shapes(tmp_path / "shapes", **{**SMALL, **values})
    assert os.listdir(tmp_path) == []


def test_shapes_command(tmp_path, capsys):
    arguments = ["shapes", "--output", str(tmp_path / "s"), "--train", "2", "--val", "1", "--size", "64"]
    for _ in range(2):  # the second time, the dataset exists
        assert main(arguments) == 0
        assert "2 + 1" in capsys.readouterr().out
    assert main([*arguments, "--seed", "3"]) == 1
    message = capsys.readouterr().err
    assert str(tmp_path / "s") in message
    assert "seed 0" in message
    assert "seed 3" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("label", range(len(SHAPE_CLASSES)), ids=SHAPE_CLASSES)
def test_coverage_matches_the_outline(label):
    rng = np.random.default_rng(label)
    for _ in range(20):
        side = rng.uniform(40, 150)
        contours = random_outline(rng, label, side)
        points = np.concatenate(contours)
        extent = points.max(axis=0) - points.min(axis=0)
        assert extent.max() == pytest.approx(side)
        center = rng.uniform(-20, 300, 2)
        mask, origin = coverage(contours, center)
        # The largest contour less the holes, from the shoelace formula.
        areas = sorted(cv2.contourArea(contour.astype(np.float32)) for contour in contours)
        border = sum(cv2.arcLength(contour.astype(np.float32), True) for contour in contours)
        assert mask.sum() / 255 == pytest.approx(areas[-1] - sum(areas[:-1]), abs=0.2 * border)
        rows, columns = np.nonzero(mask > 127)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) + np.tile(origin, 2)
        edges = np.concatenate([points.min(axis=0), points.max(axis=0)]) + np.tile(center, 2)
        # A sharp tip covers less than half of its last pixels.
        assert np.abs(seen - edges).max() < 2.6
        # Half a pixel, and up to two of the four samples a pixel has each way.
        assert (seen[:2] > edges[:2] - 1).all()
        assert (seen[2:] < edges[2:] + 1).all()


def test_boxes_are_tight_and_objects_remain_visible(monkeypatch):
    """Recount every pixel from what was painted, in the order it was painted."""
    painted = []
    take = scenes._Canvas._claim

    def recording(image, solid, origin, owner):
        painted.append((solid, origin, owner))
        take(image, solid, origin, owner)

    monkeypatch.setattr(scenes._Canvas, "_claim", recording)
    objects = 0
    for seed in range(40):
        painted.clear()
        scene = scenes.render_scene(np.random.default_rng([3, seed]), (320, 240))
        owner, full = np.zeros((240, 320), int), {}
        for solid, (left, top), number in painted:
            view = owner[top : top + solid.shape[0], left : left + solid.shape[1]]
            assert view.shape == solid.shape  # Inside the image.
            view[solid] = number
            if number:
                rows, columns = np.nonzero(solid)
                box = [columns.min() + left, rows.min() + top, columns.max() + left, rows.max() + top]
                np.testing.assert_array_equal(scene.boxes[number - 1], box)
                full[number] = solid.sum()
        assert len(full) == len(scene.boxes)
        for number, area in full.items():
            assert (owner == number).sum() >= 0.7 * area
            objects += 1
    assert objects > 80


def test_boxes_are_inside_the_image_and_have_a_threefold_range_of_sizes(many):
    boxes = np.concatenate([scene.boxes for scene in many])
    assert (boxes >= 0).all()
    assert (boxes <= 159).all()
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1) * 320 / 160
    # 60 to 180, less what a pixel, a tip or the image's border takes.
    assert sides.max() < 184
    assert sides.min() > 44
    assert np.quantile(sides, 0.95) / np.quantile(sides, 0.05) > 2.4


def test_distribution_of_object_counts_and_classes(many):
    counts = np.bincount([len(scene.boxes) for scene in many], minlength=7)
    assert len(counts) == 7
    assert (counts > 0).all()
    assert counts[0] < 25
    classes = np.bincount(np.concatenate([scene.labels for scene in many]), minlength=len(SHAPE_CLASSES))
    expected = classes.mean()
    # Chi-squared with 5 degrees of freedom: 20.5 has one chance in a thousand.
    assert ((classes - expected) ** 2 / expected).sum() < 20.5
    assert any(len(set(scene.labels)) < len(scene.labels) for scene in many)


def test_color_does_not_predict_the_class(many):
    """The nearest class mean of the colors in the box is no better than chance."""
    colors, labels = [], []
    for scene in many:
        whole = scene.image.reshape(-1, 3).mean(axis=0)
        for (xmin, ymin, xmax, ymax), label in zip(scene.boxes.astype(int), scene.labels):
            inside = scene.image[ymin : ymax + 1, xmin : xmax + 1].reshape(-1, 3).mean(axis=0)
            colors.append(np.concatenate([inside, inside - whole]))
            labels.append(label)
    colors, labels = np.array(colors), np.array(labels)
    half = len(labels) // 2
    means = np.array(
        [colors[:half][labels[:half] == label].mean(axis=0) for label in range(len(SHAPE_CLASSES))]
    )
    assert np.ptp(means[:, :3], axis=0).max() < 45
    predicted = ((colors[half:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    correct = (predicted == labels[half:]).mean()
    chance = 1 / len(SHAPE_CLASSES)
    assert correct < chance + 3.5 * np.sqrt(chance * (1 - chance) / (len(labels) - half))


def test_objects_contrast_with_their_surroundings(many):
    """Within nearly every box the colors spread more than noise alone makes them."""
    spreads = []
    for scene in many:
        for xmin, ymin, xmax, ymax in scene.boxes.astype(int):
            box = cv2.blur(scene.image, (5, 5))[ymin : ymax + 1, xmin : xmax + 1]
            spreads.append(box.reshape(-1, 3).std(axis=0).max())
    assert np.quantile(spreads, 0.02) > 12


def test_any_image_size():
    for size in ((64, 64), (640, 80), (90, 500)):
        scene = scenes.render_scene(np.random.default_rng(1), size)
        assert scene.image.shape == (size[1], size[0], 3)
        assert scene.image.dtype == np.uint8
        assert scene.boxes.dtype == np.float32
        assert scene.labels.dtype == np.int32
