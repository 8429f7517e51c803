"""Re-estimation of BatchNorm statistics of pretrained weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mnssd.data.loader import Loader
from mnssd.nn import MobileNetV2
from mnssd.tasks import base
from mnssd.tasks.run import train_classifier
from mnssd.train.batchnorm import IMAGES, recalibrate_batchnorm
from mnssd.train.freezing import freeze, layers

SIZE = 32


class ImageSample:
    image_path = "none"


def make_image(rng: np.random.Generator) -> np.ndarray:
    """Patches of color; the first layers would average out noise, and all outputs would be alike."""
    patches = rng.normal(0, 1.5, (3, 4, 4)).astype(np.float32)
    return patches.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def loader(batch_size: int) -> Loader:
    """Images with other statistics than those of `network`."""

    def load(sample: Any, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        return (make_image(rng) * np.float32([[[0.4]], [[1]], [[1.5]]]) + np.float32(0.5),)

    return Loader([ImageSample() for _ in range(IMAGES)], load, batch_size, 0, 0)


def network(seed: int = 0) -> MobileNetV2:
    """A network with random gammas and betas and the statistics of some images."""
    mx.random.seed(seed)
    np.random.seed(seed)
    net = MobileNetV2(0.25, classes=5)
    net.initialize(mx.init.Xavier(magnitude=2))
    net(mx.nd.zeros((1, 3, SIZE, SIZE)))
    rng = np.random.default_rng(seed)
    for norm in norms(net):
        norm.gamma.set_data(mx.nd.array(rng.uniform(0.5, 1.5, norm.gamma.shape)))
        norm.beta.set_data(mx.nd.array(rng.uniform(-0.3, 0.3, norm.gamma.shape)))
    for _ in range(12):
        with mx.autograd.record():
            outputs = net(mx.nd.array(np.stack([make_image(rng) for _ in range(16)])))
        outputs.backward()  # here MXNet updates the statistics, not in the forward pass
    mx.nd.waitall()
    return net


def norms(net: Any) -> List[Any]:
    return [layer for layer in layers(net) if isinstance(layer, nn.BatchNorm)]


def values(layer: Any) -> List[np.ndarray]:
    mx.nd.waitall()
    return [parameter.data().asnumpy() for parameter in layer.params.values()]


def test_outputs_stay_the_same_and_training_mode_has_them_too() -> None:
    batches = loader(IMAGES)  # in one batch, so that its statistics are those of all images
    images = mx.nd.array(next(iter(batches.epoch(0))).arrays[0])
    net = network()
    before = net(images).asnumpy()
    with mx.autograd.train_mode():
        training = net(images).asnumpy()
    message = recalibrate_batchnorm(net, net.collect_params().values(), batches, mx.cpu())
    assert re.findall(r"\d+", message) == [str(len(norms(net))), str(IMAGES)]
    scale = np.abs(before).max()
    assert np.abs(net(images).asnumpy() - before).max() < 1e-4 * scale
    with mx.autograd.train_mode():
        assert np.abs(net(images).asnumpy() - before).max() < 1e-3 * scale
    assert np.abs(training - before).max() > 0.1 * scale  # it was different before


def test_statistics_are_those_of_all_batches() -> None:
    net = network()
    first, inputs_seen = norms(net)[0], []
    hook = first.register_forward_pre_hook(lambda layer, inputs: inputs_seen.append(inputs[0].asnumpy()))
    batches = loader(32)
    recalibrate_batchnorm(net, net.collect_params().values(), batches, mx.cpu())
    hook.detach()
    assert len(inputs_seen) == IMAGES / 32
    x = np.concatenate(inputs_seen).astype(np.float64)
    np.testing.assert_allclose(
        first.running_mean.data().asnumpy(), x.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(first.running_var.data().asnumpy(), x.var(axis=(0, 2, 3)), rtol=1e-4)


def test_frozen_and_new_batchnorms_do_not_change() -> None:
    net = network()
    freeze(net, r"^features\.[0-3]\.")
    frozen, new, pretrained = norms(net)[0], norms(net)[-1], norms(net)[-2]
    before = [values(layer) for layer in (frozen, new, pretrained)]
    loaded = [p for p in net.collect_params().values() if p not in list(new.params.values())]
    recalibrate_batchnorm(net, loaded, loader(32), mx.cpu())
    after = [values(layer) for layer in (frozen, new, pretrained)]
    for arrays, arrays_after in zip(before[:2], after[:2]):
        for a, b in zip(arrays, arrays_after):
            np.testing.assert_array_equal(a, b)
    assert all(not np.array_equal(a, b) for a, b in zip(before[2], after[2]))


def test_without_pretrained_batchnorms_nothing_changes() -> None:
    net = network()
    before = [values(layer) for layer in norms(net)]
    recalibrate_batchnorm(net, [], loader(32), mx.cpu())
    for arrays, layer in zip(before, norms(net)):
        for a, b in zip(arrays, values(layer)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("enabled", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_runs_recalibrate_only_when_they_start_from_weights(
    enabled: bool, shapes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: List[Any] = []
    monkeypatch.setattr(base, "recalibrate_batchnorm", lambda *arguments: calls.append(arguments) or "note")
    options = {
        "dataset": "shapes", "data_root": shapes, "network": "mobilenet_v1", "width": 0.25, "epochs": 1,
        "batch_size": 8, "workers": 0, "val_interval": 0, "recalibrate_batchnorm": enabled,
    }  # fmt: skip
    start = train_classifier({**options, "size": (32, 32), "output": str(tmp_path / "start")})
    assert not calls
    weights = str(start / "best.params")
    train_classifier(
        {**options, "size": (32, 32), "weights": weights, "output": str(tmp_path / "classifier")}
    )
    assert len(calls) == enabled
    train_classifier({"resume": str(tmp_path / "classifier")})  # its checkpoint has the statistics
    assert len(calls) == enabled
