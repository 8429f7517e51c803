"""Linear probe: the new last layer of a classifier, fitted before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.networks import values
from helpers.runs import read_log
from mxnet.gluon import nn

from mnssd.data.loader import Loader
from mnssd.nn import MobileNetV1, MobileNetV2
from mnssd.tasks import classification
from mnssd.tasks.classification import soften
from mnssd.tasks.linear_probe import extract_features, fit_linear_layer, fit_linear_probe, logistic_regression
from mnssd.tasks.run import train_classifier
from mnssd.train.freezing import layers

CLASSES = 3


class Labeled:
    """Sample with a label."""

    image_path = "none"

    def __init__(self, label: int) -> None:
        self.label = label


def targets_of(labels: np.ndarray) -> np.ndarray:
    return soften(labels, CLASSES, 0.0)


def clusters(count: int, width: int, spread: float) -> Tuple[np.ndarray, np.ndarray]:
    """Features of three classes on very different scales, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=count)
    centers = np.random.default_rng(1).uniform(0, 1, (CLASSES, width))
    features = np.abs(centers[labels] + rng.normal(0, spread, (count, width))) * np.logspace(-2, 2, width)
    return features.astype(np.float32), labels


@pytest.mark.parametrize("with_bias", [True, False])
def test_regression_minimizes_the_regularized_cross_entropy(with_bias: bool) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(0, 1, (200, 5)).astype(np.float32)
    features[:, -1] = 1
    targets = soften(rng.integers(CLASSES, size=200), CLASSES, 0.1)
    targets *= rng.uniform(0.5, 2, (200, 1)).astype(np.float32)
    weights = logistic_regression(features, targets, 0.1, with_bias, np.zeros((5, CLASSES)))

    x, y = mx.nd.array(features), mx.nd.array(targets)

    def loss(weights: np.ndarray) -> float:
        """The objective, computed by MXNet's operators."""
        w = mx.nd.array(weights)
        decayed = w[:-1] if with_bias else w
        entropy = -(mx.nd.log_softmax(mx.nd.dot(x, w)) * y).sum(axis=1).mean()
        return float((entropy + 0.05 * (decayed**2).sum()).asscalar())

    minimum = loss(weights)
    for _ in range(40):
        assert loss(weights + rng.normal(0, 0.05, weights.shape)) > minimum
    assert minimum < loss(np.zeros((5, CLASSES))) - 1e-3


@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_applies_to_unscaled_features(with_bias: bool) -> None:
    features, labels = clusters(300, 12, 0.05)
    weights, bias, decay, accuracy = fit_linear_layer(features[:, None], targets_of(labels), with_bias)
    assert (bias is not None) == with_bias
    logits = features @ weights + (bias if bias is not None else 0)
    assert (logits.argmax(axis=1) == labels).mean() > 0.98
    assert accuracy > 0.98
    assert decay < 0.3  # separable classes need little


def test_noise_selects_the_strongest_decay() -> None:
    rng = np.random.default_rng(3)
    features, labels = rng.uniform(0, 1, (100, 50)).astype(np.float32), rng.integers(CLASSES, size=100)
    _, _, decay, accuracy = fit_linear_layer(features[:, None], targets_of(labels), True)
    assert decay == 1.0
    assert accuracy < 0.6


@pytest.mark.parametrize("count", [1, 3, 9, 10])
def test_few_images_and_constant_features_give_finite_weights(count: int) -> None:
    features = np.zeros((count, 6), np.float32)
    features[:, 0] = np.arange(count)
    weights, bias, _, _ = fit_linear_layer(features[:, None], targets_of(np.arange(count) % CLASSES), True)
    assert bias is not None
    assert np.isfinite(weights).all()
    assert np.isfinite(bias).all()


def test_views_of_one_image_are_held_out_together() -> None:
    """Otherwise the layer would have been fitted to the held-out images, and noise would look predictable."""
    rng = np.random.default_rng(3)
    images, labels = rng.uniform(0, 1, (100, 50)).astype(np.float32), rng.integers(CLASSES, size=100)
    views = np.stack([images, images + 1e-3, images - 1e-3], axis=1)
    _, _, decay, accuracy = fit_linear_layer(views, targets_of(labels), True)
    assert decay == 1.0
    assert accuracy < 0.6


@pytest.mark.parametrize("kind", [MobileNetV1, MobileNetV2])
def test_probe_changes_only_the_last_layer_and_classifies_the_images(kind: Any) -> None:
    def load(sample: Labeled, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        """Load an image of stripes whose width is that of the class."""
        line = np.arange(32) // (1, 3, 8)[sample.label] % 2 * 2.0 - 1
        noise = rng.normal(0, 0.2, (3, 32, 32))
        return (line + noise).astype(np.float32), np.array(sample.label)

    batches = Loader([Labeled(n % CLASSES) for n in range(60)], load, 20, 0, 0)
    mx.random.seed(0)
    net = kind(0.25, classes=CLASSES)
    net.initialize(mx.init.Xavier(magnitude=2))
    images, labels = next(iter(batches.epoch(0))).arrays
    net(mx.nd.array(images))
    for layer in layers(net):  # statistics of these images; with others, no feature would vary
        if isinstance(layer, nn.BatchNorm):
            layer._kwargs["momentum"] = 0
    with mx.autograd.record():
        outputs = net(mx.nd.array(images))
    outputs.backward()
    before = values(net)
    assert " 60 " in fit_linear_probe(net, batches, targets_of, mx.cpu(), False)
    for name, parameter in net._collect_params_with_prefix().items():
        assert np.array_equal(parameter.data().asnumpy(), before[name]) != name.startswith("output"), name
    assert (net(mx.nd.array(images)).asnumpy().argmax(axis=1) == labels).mean() > 0.9


def test_each_image_has_features_once_with_its_mirror_image() -> None:
    def load(sample: Labeled, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        return np.full((3, 4, 4), sample.label, np.float32) * np.arange(4), np.array(sample.label)

    features = nn.HybridSequential()
    features.add(nn.HybridLambda(lambda F, x: F.slice_axis(x, axis=3, begin=0, end=1)))
    batches = Loader([Labeled(label) for label in (5, 3, 8)], load, 7, 0, 0)  # each is repeated
    outputs, labels = extract_features(features, batches, mx.cpu(), True)
    assert labels.tolist() == [5, 3, 8]
    assert outputs.shape == (3, 2, 12)
    assert (outputs[:, 0] == 0).all()
    assert outputs[:, 1, 0].tolist() == [15, 9, 24]
    assert extract_features(features, batches, mx.cpu(), False)[0].shape == (3, 1, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image folder of two uniform colors, with both splits."""
    root, rng = tmp_path_factory.mktemp("data") / "images", np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, color in (("0", 60), ("1", 190)):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = np.full((40, 40, 3), color) + rng.integers(-20, 20, (40, 40, 3))
                cv2.imwrite(str(root / split / name / f"{number}.png"), image.astype(np.uint8))
    return root


TINY = {"width": 0.25, "epochs": 1, "batch_size": 8, "workers": 0, "size": (32, 32)}


@pytest.fixture(scope="module")
def weights(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a classifier of the built-in dataset."""
    output = tmp_path_factory.mktemp("runs") / "shapes"
    run = train_classifier({"dataset": "shapes", "data_root": shapes, **TINY, "output": str(output)})
    return str(run / "best.params")


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The messages of the linear probes of a test."""
    messages: List[str] = []

    def recorded(*arguments: Any) -> str:
        messages.append(fit_linear_probe(*arguments))
        return messages[-1]

    monkeypatch.setattr(classification, "fit_linear_probe", recorded)
    return messages


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"class_weights": True}, 1),
        ({"linear_probe": False}, 0),
        pytest.param({"freeze": "^output"}, 0, marks=pytest.mark.slow),
        pytest.param({"weights": None}, 0, marks=pytest.mark.slow),
    ],
)
def test_runs_with_new_classes_fit_the_last_layer(
    folder: Path, weights: str, tmp_path: Path, probes: List[str], changes: Dict[str, Any], count: int
) -> None:
    options = {"dataset": "folder", "data_root": str(folder), "weights": weights, **TINY, **changes}
    run = train_classifier({**options, "output": str(tmp_path / "run")})
    assert len(probes) == count
    train_classifier({"resume": str(run)})  # its checkpoint has the layer
    assert len(probes) == count


def test_runs_with_the_same_classes_keep_the_last_layer(
    shapes: str, weights: str, tmp_path: Path, probes: List[str]
) -> None:
    options = {"dataset": "shapes", "data_root": shapes, "weights": weights, **TINY}
    train_classifier({**options, "output": str(tmp_path / "run")})
    assert not probes


def test_pretrained_network_is_validated_before_training_and_may_stay_the_best(
    folder: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    options = {
        "dataset": "folder", "data_root": str(folder), "weights": weights, **TINY, "epochs": 2,
        "val_interval": 1, "seed": 1, "lr": 0.5, "output": str(run),
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("mnssd.train.loop.check_finite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(options)
    before = (run / "best.params").read_bytes()
    train_classifier({"resume": str(run)})  # the first epoch had not ended
    assert (run / "best.params").read_bytes() == before
    rows = read_log(run)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["top1"]) == 1.0


def test_without_validation_a_pretrained_network_is_not_validated(
    folder: Path, weights: str, tmp_path: Path
) -> None:
    options = {"dataset": "folder", "data_root": str(folder), "weights": weights, **TINY, "val_interval": 0}
    run = train_classifier({**options, "output": str(tmp_path / "run")})
    assert [row["epoch"] for row in read_log(run)] == ["1"]


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
