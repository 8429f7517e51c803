"""A classifier's new last layer, fitted before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import values
from mxnet.gluon import nn

from mnssd.data.loader import Loader
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import OptionError
from mnssd.nn import MobileNetV1, MobileNetV2
from mnssd.tasks.classification import soften
from mnssd.tasks.linear_probe import choose, fit_linear_probe, look, regress
from mnssd.tasks.run import train_classifier
from mnssd.train.freezing import layers

CLASSES = 3


def targets_of(labels: np.ndarray) -> np.ndarray:
    return soften(labels, CLASSES, 0.0)


def clusters(count: int, width: int, spread: float) -> Tuple[np.ndarray, np.ndarray]:
    """Features of three classes, on very different scales, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=count)
    centres = np.random.default_rng(1).uniform(0, 1, (CLASSES, width))
    features = np.abs(centres[labels] + rng.normal(0, spread, (count, width))) * np.logspace(-2, 2, width)
    return features.astype(np.float32), labels


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_regression_is_the_best_there_is(with_bias: bool) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(0, 1, (200, 5)).astype(np.float32)
    features[:, -1] = 1
    targets = soften(rng.integers(CLASSES, size=200), CLASSES, 0.1)
    targets *= rng.uniform(0.5, 2, (200, 1)).astype(np.float32)
    found = regress(features, targets, 0.1, with_bias, np.zeros((5, CLASSES)))

    x, y = mx.nd.array(features), mx.nd.array(targets)

    def loss(weights: np.ndarray) -> float:
        """The same quantity said by MXNet's operators."""
        w = mx.nd.array(weights)
        learned = w[:-1] if with_bias else w
        entropy = -(mx.nd.log_softmax(mx.nd.dot(x, w)) * y).sum(axis=1).mean()
        return float((entropy + 0.05 * (learned**2).sum()).asscalar())

    least = loss(found)
    for _ in range(40):
        assert loss(found + rng.normal(0, 0.05, found.shape)) > least
    assert least < loss(np.zeros((5, CLASSES))) - 1e-3


@pytest.mark.parametrize("with_bias", [True, False])
def test_weights_are_for_the_features_as_they_come(with_bias: bool) -> None:
    features, labels = clusters(300, 12, 0.05)
    weights, bias, decay, right = choose(features[:, None], targets_of(labels), with_bias)
    assert (bias is not None) == with_bias
    answers = features @ weights + (bias if bias is not None else 0)
    assert (answers.argmax(axis=1) == labels).mean() > 0.98
    assert right > 0.98
    assert decay < 0.3  # clear classes need little of it


def test_noise_is_answered_with_the_strongest_decay() -> None:
    rng = np.random.default_rng(3)
    features, labels = rng.uniform(0, 1, (100, 50)).astype(np.float32), rng.integers(CLASSES, size=100)
    _, _, decay, right = choose(features[:, None], targets_of(labels), True)
    assert decay == 1.0
    assert right < 0.6


@pytest.mark.parametrize("count", [1, 3, 9, 10])
def test_few_images_and_features_that_are_always_zero_give_finite_weights(count: int) -> None:
    features = np.zeros((count, 6), np.float32)
    features[:, 0] = np.arange(count)
    weights, bias, _, _ = choose(features[:, None], targets_of(np.arange(count) % CLASSES), True)
    assert bias is not None
    assert np.isfinite(weights).all()
    assert np.isfinite(bias).all()


def test_views_of_one_image_are_held_out_together() -> None:
    """Else the layer would have seen all of what it is asked, and noise would look like knowledge."""
    rng = np.random.default_rng(3)
    images, labels = rng.uniform(0, 1, (100, 50)).astype(np.float32), rng.integers(CLASSES, size=100)
    iter_frames = np.stack([images, images + 1e-3, images - 1e-3], axis=1)
    _, _, decay, right = choose(iter_frames, targets_of(labels), True)
    assert decay == 1.0
    assert right < 0.6


@pytest.mark.parametrize("kind", [MobileNetV1, MobileNetV2])
def test_only_the_last_layer_changes_and_the_network_knows_the_classes(kind: Any) -> None:
    class Picture:
        def __init__(self, label: int) -> None:
            self.label, self.image_path = label, "none"

    def load(picture: Picture, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        """Stripes of one of three widths."""
        line = np.arange(32) // (1, 3, 8)[picture.label] % 2 * 2.0 - 1
        noise = rng.normal(0, 0.2, (3, 32, 32))
        return (line + noise).astype(np.float32), np.array(picture.label)

    batches = Loader([Picture(n % CLASSES) for n in range(60)], load, 20, 0, 0)
    mx.random.seed(0)
    net = kind(0.25, classes=CLASSES)
    net.initialize(mx.init.Xavier(magnitude=2))
    images, labels = next(iter(batches.epoch(0))).arrays
    net(mx.nd.array(images))
    for layer in layers(net):  # statistics of these images, or nothing of them comes through
        if isinstance(layer, nn.BatchNorm):
            layer._kwargs["momentum"] = 0
    with mx.autograd.record():
        answers = net(mx.nd.array(images))
    answers.backward()
    before = values(net)
    said = fit_linear_probe(net, batches, targets_of, mx.cpu(), False)
    assert said.startswith("last layer fitted to 60 training images")
    for name, parameter in net._collect_params_with_prefix().items():
        assert np.array_equal(parameter.data().asnumpy(), before[name]) != name.startswith("output"), name
    assert (net(mx.nd.array(images)).asnumpy().argmax(axis=1) == labels).mean() > 0.9


def test_mirror_images_are_views_of_the_same_image_and_every_image_counts_once() -> None:
    class Picture:
        image_path = "none"

        def __init__(self, label: int) -> None:
            self.label = label

    def load(picture: Picture, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        return np.full((3, 4, 4), picture.label, np.float32) * np.arange(4), np.array(picture.label)

    features = nn.HybridSequential()
    features.add(nn.HybridLambda(lambda F, x: F.slice_axis(x, axis=3, begin=0, end=1)))
    batches = Loader([Picture(label) for label in (5, 3, 8)], load, 7, 0, 0)  # each comes twice or more
    seen, labels = look(features, batches, mx.cpu(), True)
    assert labels.tolist() == [5, 3, 8]
    assert seen.shape == (3, 2, 12)
    assert (seen[:, 0] == 0).all()
    assert seen[:, 1, 0].tolist() == [15, 9, 24]
    assert look(features, batches, mx.cpu(), False)[0].shape == (3, 1, 12)


def test_a_run_fits_it_where_the_classes_are_new(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_shapes(tmp_path / "shapes", train=12, val=4, size=(64, 64))
    make_folder(tmp_path / "images")
    options = {"width": 0.25, "epochs": 1, "batch_size": 8, "workers": 0, "size": (32, 32)}
    shapes = {"dataset": "shapes", "data_root": str(tmp_path / "shapes"), **options}
    folder = {"dataset": "folder", "data_root": str(tmp_path / "images"), **options}

    first = train_classifier({**shapes, "output": str(tmp_path / "a")})
    assert "last layer fitted" not in capsys.readouterr().out  # no weights to learn from
    weights = str(first / "best.params")
    train_classifier({**shapes, "weights": weights, "output": str(tmp_path / "b")})
    assert "last layer fitted" not in capsys.readouterr().out  # it came with the weights
    other = {**folder, "weights": weights}
    train_classifier({**other, "output": str(tmp_path / "c"), "class_weights": True})
    assert "last layer fitted to 8 training images" in capsys.readouterr().out
    config = tmp_path / "c" / "config.yaml"
    assert "pretrained_lr: 0.1" in config.read_text()
    config.write_text(
        config.read_text().replace("  pretrained_lr: 0.1\n", "")
    )  # as written before it existed
    with pytest.raises(OptionError, match="--pretrained-lr 0.1 differs"):
        train_classifier({"resume": str(tmp_path / "c"), "pretrained_lr": 0.1})
    train_classifier({"resume": str(tmp_path / "c")})
    assert "last layer fitted" not in capsys.readouterr().out  # it is in the checkpoint
    train_classifier({**other, "output": str(tmp_path / "d"), "linear_probe": False})
    assert "last layer fitted" not in capsys.readouterr().out
    train_classifier({**other, "output": str(tmp_path / "e"), "freeze": "^output"})
    assert "last layer fitted" not in capsys.readouterr().out  # asked to stay as it is


def test_what_a_run_begins_with_is_measured_and_kept_where_training_spoils_it(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shapes(tmp_path / "shapes", train=12, val=4, size=(64, 64))
    make_folder(tmp_path / "images")
    options = {"width": 0.25, "epochs": 2, "batch_size": 8, "workers": 0, "size": (32, 32)}
    shapes = {"dataset": "shapes", "data_root": str(tmp_path / "shapes"), **options}
    weights = str(train_classifier({**shapes, "epochs": 1, "output": str(tmp_path / "a")}) / "best.params")
    assert "before training" not in capsys.readouterr().out  # random weights say nothing

    folder = {"dataset": "folder", "data_root": str(tmp_path / "images"), "weights": weights, **options}
    output = {"output": str(tmp_path / "b"), "val_interval": 1, "seed": 1}
    with monkeypatch.context() as patched:
        patched.setattr("mnssd.train.loop.check_finite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_classifier({**folder, **output, "lr": 0.5})
    said = capsys.readouterr().out
    assert "before training: top-1 1.0000" in said, said
    start = (tmp_path / "b" / "best.params").read_bytes()

    train_classifier({"resume": str(tmp_path / "b")})  # the first epoch had not ended
    said = capsys.readouterr().out
    assert "last layer fitted" not in said
    assert "before training" not in said
    assert (tmp_path / "b" / "best.params").read_bytes() == start  # nothing is better than 1
    assert [line.split(",")[0] for line in (tmp_path / "b" / "log.csv").read_text().splitlines()] == [
        "epoch", "0", "1", "2",
    ]  # fmt: skip

    train_classifier({**folder, "output": str(tmp_path / "c"), "val_interval": 0})
    assert "before training" not in capsys.readouterr().out


def interrupt(*_: Any) -> None:
    """Stand in for somebody who presses Ctrl-C."""
    raise KeyboardInterrupt


def make_folder(root: Path) -> None:
    """Two classes of plain colour, in both splits."""
    import cv2

    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in (("0", 60), ("1", 190)):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = np.full((40, 40, 3), colour) + rng.integers(-20, 20, (40, 40, 3))
                cv2.imwrite(str(root / split / name / f"{number}.png"), image.astype(np.uint8))
