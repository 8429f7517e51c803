"""Starting from weights with the statistics of other images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mnssd.data.loader import Loader
from mnssd.data.shapes.dataset import make_shapes
from mnssd.nn import MobileNetV2
from mnssd.tasks.run import train_classifier, train_detector
from mnssd.train.batchnorm import IMAGES, recalibrate_batchnorm
from mnssd.train.freezing import freeze, layers

SIZE = 32


class Picture:
    image_path = "none"


def picture(rng: np.random.Generator) -> np.ndarray:
    """Patches of colour: noise alone is averaged out by the first layers, and all images answered alike."""
    return (
        rng.normal(0, 1.5, (3, 4, 4)).repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2).astype(np.float32)
    )


def loader(batch_size: int) -> Loader:
    """Images unlike those that `network` has seen."""

    def load(sample: Any, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        return (picture(rng) * np.float32([[[0.4]], [[1]], [[1.5]]]) + np.float32(0.5),)

    return Loader([Picture() for _ in range(IMAGES)], load, batch_size, 0, 0)


def network(seed: int = 0) -> MobileNetV2:
    """With gammas and betas that are all different, and the statistics of images of another kind."""
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
            answers = net(mx.nd.array(np.stack([picture(rng) for _ in range(16)])))
        answers.backward()  # here MXNet moves the statistics, not in the forward pass
    mx.nd.waitall()
    return net


def norms(net: Any) -> List[Any]:
    return [layer for layer in layers(net) if isinstance(layer, nn.BatchNorm)]


def values(layer: Any) -> List[np.ndarray]:
    mx.nd.waitall()
    return [parameter.data().asnumpy() for parameter in layer.params.values()]


def test_the_answers_stay_and_training_batches_give_them_too() -> None:
    batches = loader(IMAGES)  # all in one batch, so that its statistics are the pooled ones
    images = mx.nd.array(next(iter(batches.epoch(0))).arrays[0])
    net = network()
    before = net(images).asnumpy()
    with mx.autograd.train_mode():
        unlike = net(images).asnumpy()
    said = recalibrate_batchnorm(net, net.collect_params().values(), batches, mx.cpu())
    assert f"of {len(norms(net))} BatchNorms taken from {IMAGES} training images" in said
    scale = np.abs(before).max()
    assert np.abs(net(images).asnumpy() - before).max() < 1e-4 * scale
    with mx.autograd.train_mode():
        assert np.abs(net(images).asnumpy() - before).max() < 1e-3 * scale
    assert np.abs(unlike - before).max() > 0.1 * scale  # what it is for


def test_statistics_are_those_of_all_batches_together() -> None:
    net = network()
    first, seen = norms(net)[0], []
    hook = first.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].asnumpy()))
    batches = loader(32)
    recalibrate_batchnorm(net, net.collect_params().values(), batches, mx.cpu())
    hook.detach()
    assert len(seen) == IMAGES / 32
    x = np.concatenate(seen).astype(np.float64)
    np.testing.assert_allclose(
        first.running_mean.data().asnumpy(), x.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(first.running_var.data().asnumpy(), x.var(axis=(0, 2, 3)), rtol=1e-4)


def test_what_is_frozen_or_not_of_the_weights_stays() -> None:
    net = network()
    freeze(net, r"^features\.[0-3]\.")
    frozen, foreign, other = norms(net)[0], norms(net)[-1], norms(net)[-2]
    before = [values(layer) for layer in (frozen, foreign, other)]
    loaded = [p for p in net.collect_params().values() if p not in list(foreign.params.values())]
    recalibrate_batchnorm(net, loaded, loader(32), mx.cpu())
    after = [values(layer) for layer in (frozen, foreign, other)]
    for was, now in zip(before[:2], after[:2]):
        for a, b in zip(was, now):
            np.testing.assert_array_equal(a, b)
    assert all(not np.array_equal(a, b) for a, b in zip(before[2], after[2]))
    assert "no BatchNorm" in recalibrate_batchnorm(net, [], loader(32), mx.cpu())


@pytest.mark.parametrize("adopt", [True, False])
def test_runs_of_both_tasks_take_them_with_weights_only(
    adopt: bool, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_shapes(tmp_path / "shapes", train=12, val=4, size=(64, 64))
    options = {
        "dataset": "shapes", "data_root": str(tmp_path / "shapes"), "width": 0.25, "epochs": 1,
        "batch_size": 8, "workers": 0, "recalibrate_batchnorm": adopt,
    }  # fmt: skip
    start = train_classifier({**options, "size": (32, 32), "output": str(tmp_path / "a")})
    assert "statistics of" not in capsys.readouterr().out
    weights = str(start / "best.params")
    train_classifier({**options, "size": (32, 32), "weights": weights, "output": str(tmp_path / "b")})
    assert ("statistics of" in capsys.readouterr().out) == adopt
    train_detector({**options, "size": (96, 96), "weights": weights, "output": str(tmp_path / "c")})
    assert ("statistics of" in capsys.readouterr().out) == adopt
    train_classifier({"resume": str(tmp_path / "b")})
    assert "statistics of" not in capsys.readouterr().out  # they are in the checkpoint
