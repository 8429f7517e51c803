"""``--pipeline gluoncv``: samples, loss, refused options, and a training that is stopped and resumed."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.gluon_datasets import make_copies
from helpers.runs import assert_same_run, stop_before_step, train

from mnssd.boxes import STDS
from mnssd.cli.main import main
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.errors import DataError, OptionError
from mnssd.nn.anchors import make_anchors
from mnssd.tasks.detection_loss import MultiBoxLoss
from mnssd.tasks.gluoncv_pipeline import GluoncvLoss, GluoncvSamples, batchify, training_items
from mnssd.tasks.run import resolve, train_detector
from mnssd.train.options import DetectionOptions, DetectionTraining

PIPELINE: Dict[str, Any] = {"pipeline": "gluoncv", "mosaic": 0.0, "epochs": 1}
ANCHORS = make_anchors([(3, 3)] * 6, (96, 96))
RNG = np.random.default_rng


class Net:
    """What the samples use of a network."""

    size, anchors = (96, 96), ANCHORS

    def __init__(self, dataset: Dataset) -> None:
        self.classes = dataset.classes


def items_of(name: str, root: Path, split: str) -> Any:
    dataset = open_dataset(name, root, split)
    data = DetectionOptions(dataset=name, data_root=str(root), train_splits=split)
    return (dataset, *training_items(dataset, data))


@pytest.mark.slow  # tests/train/test_checkpoints.py resumes the toolkit's own pipeline
def test_training_is_stopped_and_resumed(
    shapes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(shapes, tmp_path / "whole", **PIPELINE)
    with monkeypatch.context() as patch:
        stop_before_step(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(shapes, tmp_path / "stopped", **PIPELINE, save_minutes=1e-6)
    with pytest.raises(OptionError, match="pipeline"):
        train_detector({"resume": str(tmp_path / "stopped"), "pipeline": "mnssd"})
    run = train_detector({"resume": str(tmp_path / "stopped"), "save_minutes": 5.0, "workers": 2})
    assert_same_run(run, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"mosaic": 0.5}, {"hue": 5.0}, {"cls_loss": "focal"}, {"box_loss": "giou"}, {"match_iou": 0.4},
        {"label_smoothing": 0.1}, {"early_size": (64, 64), "early_epochs": 1}, {"overfit": 2},
        {"cache_images": "cache"},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_options_without_a_meaning_are_refused(options: Dict[str, Any]) -> None:
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(OptionError, match=f"--{name}"):
        resolve(DetectionTraining, {"pipeline": "gluoncv", **options})
    resolve(DetectionTraining, options)


def test_refusal_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    command = f"train-ssd --pipeline gluoncv --mosaic 0.5 --output {run}"
    assert main(command.split()) == 2
    assert "--mosaic" in capsys.readouterr().err
    assert not run.exists()


def test_defaults_may_be_given_and_nothing_unused_is_chosen() -> None:
    options, automatic = resolve(
        DetectionTraining, {"pipeline": "gluoncv", "dataset": "voc", "match_iou": 0.5}
    )
    assert options.data.match_iou == 0.5
    assert (automatic.given["match_iou"], automatic.given["expand_ratio"]) == (0.5, 4.0)


@pytest.fixture(scope="module")
def copies(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_copies(shapes, tmp_path_factory.mktemp("copies"))


@pytest.mark.parametrize(
    ("name", "folder", "source"),
    [("voc", "voc", "VOCDetection"), ("coco", "coco", "COCODetection"), ("recordio", "recordio", "as_gluon")],
)
def test_samples_come_from_gluoncvs_dataset(copies: Path, name: str, folder: str, source: str) -> None:
    dataset, item, note = items_of(name, copies / folder, "val")
    assert source in note
    load = GluoncvSamples(item, Net(dataset))
    samples = [load(sample, RNG(number)) for number, sample in enumerate(dataset)]
    assert all(cls_target.any() for _, cls_target, _ in samples)
    for sample, (pixels, cls_target, box_target) in zip(dataset, samples):
        image, label = item(sample)
        assert (image.shape[1], image.shape[0]) == sample.size
        np.testing.assert_allclose(np.array(label)[:, :4], sample.boxes, atol=1e-3)
        assert (pixels.shape, cls_target.shape) == ((3, 96, 96), (len(ANCHORS),))
        assert set(cls_target) <= {0, *(sample.labels + 1)}
        assert np.isfinite(box_target).all()
    for part, arrays in zip(batchify(samples), zip(*samples)):
        np.testing.assert_array_equal(part, np.stack(arrays))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change an XML file."""
    tree = ET.fromstring(path.read_text())
    change(tree)
    path.write_text(ET.tostring(tree, encoding="unicode"))


def test_faults_of_gluoncv(copies: Path, tmp_path: Path) -> None:
    """An image without objects, a box at column 0, and a truncated image."""
    root = Path(shutil.copytree(copies / "voc", tmp_path / "voc"))
    ids = (root / "ImageSets" / "Main" / "val.txt").read_text().split()
    xml = [root / "Annotations" / f"{image_id}.xml" for image_id in ids]
    edit(xml[0], lambda tree: [tree.remove(found) for found in tree.findall("object")])
    edit(xml[1], lambda tree: setattr(tree.find("object/bndbox/xmin"), "text", "0"))
    image = root / "JPEGImages" / f"{ids[2]}.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    dataset, item, note = items_of("voc", root, "val")
    assert ids[1] in note
    by_id = {sample.image_id: sample for sample in dataset}
    load = GluoncvSamples(item, Net(dataset))
    for seed in range(3):
        pixels, cls_target, _ = load(by_id[ids[0]], RNG(seed))
        assert np.isfinite(pixels).all()
        assert not cls_target.any()
    assert len(item(by_id[ids[1]])[1]) == len(by_id[ids[1]].boxes)
    with pytest.raises(DataError, match=ids[2]):
        load(by_id[ids[2]], RNG(0))


@pytest.mark.parametrize("fault", ["difficult", "upper case", "png"])
def test_folders_that_gluoncv_cannot_read(copies: Path, tmp_path: Path, fault: str) -> None:
    """They are read by the toolkit."""
    root = Path(shutil.copytree(copies / "voc", tmp_path / "voc"))
    ids = (root / "ImageSets" / "Main" / "val.txt").read_text().split()
    path = root / "Annotations" / f"{ids[0]}.xml"
    if fault == "difficult":
        edit(path, lambda tree: tree.find("object").remove(tree.find("object/difficult")))
    elif fault == "upper case":
        for path in (root / "Annotations").iterdir():
            path.write_text(path.read_text().replace("<name>star<", "<name>Star<"))
        for path in root.glob("classes.txt"):
            path.write_text(path.read_text().replace("star", "Star"))
    else:
        image = root / "JPEGImages" / f"{ids[0]}.jpg"
        assert cv2.imwrite(str(image.with_suffix(".png")), cv2.imread(str(image)))
        image.unlink()
    dataset, item, note = items_of("voc", root, "val")
    assert "as_gluon" in note
    for sample in dataset:
        image, label = item(sample)
        assert (image.shape[1], image.shape[0]) == sample.size
        np.testing.assert_array_equal(label[:, 4], sample.labels)


@pytest.mark.parametrize("objects", [3, 0])
def test_the_loss_is_that_of_the_toolkit(objects: int) -> None:
    rng = RNG(objects)
    preds = [mx.nd.array(rng.normal(0, 1, (2, len(ANCHORS), size))) for size in (4, 4)]
    cls_target = np.zeros((2, len(ANCHORS)), np.int32)
    cls_target[0, :objects] = 1 + np.arange(objects)
    box_target = np.where(cls_target[..., None] > 0, rng.normal(0, 1, (2, len(ANCHORS), 4)), 0) / STDS[0]
    values, gradients = [], []
    for loss in (GluoncvLoss(), MultiBoxLoss("ohem", "smooth_l1", 0.0, ANCHORS)):
        for pred in preds:
            pred.attach_grad()
        with mx.autograd.record():
            parts = loss(*preds, cls_target, box_target.astype(np.float32))
        parts.total.backward()
        values.append([float(part.asscalar()) for part in parts])
        gradients.append([pred.grad.asnumpy() for pred in preds])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5, atol=1e-6)
    for theirs, ours in zip(*gradients):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
