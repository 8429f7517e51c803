"""Channel pruning, and the command that prunes a run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import write_images
from helpers.networks import fill, images

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.compress.cost import count_block
from mnssd.compress.prune import MIN_SHARE, Group, Pruned, _first_order_change, prune
from mnssd.errors import OptionError, WeightsError
from mnssd.nn.resize import set_channels
from mnssd.tasks.run import train_classifier
from mnssd.weights import assign, infer_shapes

NETWORKS = [
    "mobilenet_v1_0.5",
    "mobilenet_v2_0.5",
    "ssd_96_mobilenet_v1_0.5",
    "ssdlite_96_mobilenet_v2_0.5",
    "ssdfpn_96_mobilenet_v2_0.5",
]


def initialized(name: str, **options: Any) -> Any:
    net = zoo.get_model(name, **options)
    block = net.heads if hasattr(net, "heads") else net
    block.initialize()
    block(images(1, 96, 96))
    fill(block)
    return block


def build_pruned(name: str, pruned: Pruned, **options: Any) -> Any:
    net = zoo.get_model(name, **options)
    block = net.heads if hasattr(net, "heads") else net
    set_channels(block, pruned.channels)
    infer_shapes(block)
    report = assign(block, pruned.arrays, name)
    assert report.missing == report.mismatched == report.unused == []
    return block


def outputs_of(block: Any, x: Any) -> Any:
    outputs = block(x)
    return [out.asnumpy() for out in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("keep", [0.6, pytest.param(0.9, marks=pytest.mark.slow)])
def test_multiply_adds_fall_to_the_share(name: str, keep: float) -> None:
    block = initialized(name)
    pruned = prune(block, (1, 3, 96, 96), keep)
    smaller = build_pruned(name, pruned)
    assert pruned.before == count_block(block, (1, 3, 96, 96)).multiply_adds
    assert pruned.after == count_block(smaller, (1, 3, 96, 96)).multiply_adds
    assert keep - 0.05 < pruned.after / pruned.before <= keep
    full = {name: p.shape[0] for name, p in block._collect_params_with_prefix().items()}
    for weight, count in pruned.channels.items():
        assert count % 8 == 0
        assert MIN_SHARE * full[weight] <= count < full[weight]


@pytest.mark.parametrize(
    "name",
    [
        *NETWORKS,
        "mobilenet_v2_0.5 projection-all",
        pytest.param("ssdfactorized_96_mobilenet_v2_0.5", marks=pytest.mark.slow),
    ],
)
def test_zero_channels_are_removed_without_effect(name: str) -> None:
    """Channels whose gammas and betas are zero do not affect the outputs."""
    name, _, shortcut = name.partition(" ")
    options = {"shortcut": shortcut} if shortcut else {}
    block = initialized(name, **options)
    first = prune(block, (1, 3, 96, 96), 0.7)
    removed = removed_channels(block, first)
    arrays = block._collect_params_with_prefix()
    for norm, indices in removed.items():
        for what in ("gamma", "beta"):
            value = arrays[f"{norm}{what}"].data().asnumpy()
            value[indices] = 0
            arrays[f"{norm}{what}"].set_data(mx.nd.array(value))
    mx.nd.waitall()
    again = prune(block, (1, 3, 96, 96), 0.7)
    smaller = build_pruned(name, again, **options)
    x = images(2, 96, 96)
    assert again.after < 0.75 * again.before
    for actual, expected in zip(outputs_of(smaller, x), outputs_of(block, x)):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def removed_channels(block: Any, pruned: Pruned) -> Dict[str, np.ndarray]:
    """Removed channels of each BatchNorm: their gammas are not in the pruned arrays."""
    removed = {}
    for name, parameter in block._collect_params_with_prefix().items():
        if name.endswith("gamma"):
            before, after = parameter.data().asnumpy(), pruned.arrays[name]
            indices = np.flatnonzero(~np.isin(before, after))
            assert len(indices) == len(before) - len(after)  # random gammas differ
            if len(indices):
                removed[name[: -len("gamma")]] = indices
    assert removed
    return removed


def two_halves() -> Any:
    """A block whose even hidden channels are read only by the second half of the outputs, and whose odd ones
    only by the first half, with far larger weights."""
    block = mx.gluon.nn.HybridSequential()
    block.add(
        mx.gluon.nn.Conv2D(16, 1, use_bias=False), mx.gluon.nn.BatchNorm(),
        mx.gluon.nn.Activation("relu"), mx.gluon.nn.Conv2D(8, 1),
    )  # fmt: skip
    block.initialize(mx.init.Normal(1))
    block(images(1, 8, 8))
    rng = np.random.default_rng(0)
    weight = np.zeros((8, 16, 1, 1), np.float32)
    weight[:4, 1::2] = rng.normal(0, 30, (4, 8, 1, 1))
    weight[4:, 0::2] = rng.normal(0, 1, (4, 8, 1, 1))
    block[3].weight.set_data(mx.nd.array(weight))
    mx.nd.waitall()
    return block


def loss_of_second_half(block: Any, x: Any) -> Any:
    return mx.nd.slice_axis(block(x), axis=1, begin=4, end=None).square().mean()


def test_gradients_keep_the_channels_that_the_loss_uses() -> None:
    block, x = two_halves(), images(4, 8, 8)

    def gradients() -> Iterator[None]:
        for index in range(4):
            with mx.autograd.record():
                loss = loss_of_second_half(block, x[index : index + 1])
            loss.backward()
            yield

    by_loss = prune(block, (1, 3, 8, 8), 0.6, gradients())
    by_magnitude = prune(block, (1, 3, 8, 8), 0.6)
    kept = [np.flatnonzero(np.abs(a.arrays["3.weight"]).sum(axis=(1, 2, 3))) for a in (by_loss, by_magnitude)]
    assert kept[0].tolist() == [4, 5, 6, 7]
    assert kept[1].tolist() == [0, 1, 2, 3]


def test_importance_matches_a_finite_difference() -> None:
    """Scale the weights of each channel by 1.001 and 0.999."""
    block, x = two_halves(), images(4, 8, 8)
    group = Group(16, readers=["3.weight"])
    parameters = block._collect_params_with_prefix()
    weight = parameters["3.weight"].data().asnumpy()

    def backward() -> Iterator[None]:
        with mx.autograd.record():
            loss = loss_of_second_half(block, x)
        loss.backward()
        yield

    (importance,) = _first_order_change([group], {"3.weight": weight}, parameters, backward())
    slopes = []
    for channel in range(16):
        losses = []
        for factor in (1.001, 0.999):
            changed = weight.copy()
            changed[:, channel] *= factor
            block[3].weight.set_data(mx.nd.array(changed))
            with mx.autograd.train_mode():
                losses.append(float(loss_of_second_half(block, x).asscalar()))
        slopes.append((losses[0] - losses[1]) / 0.002)
    np.testing.assert_allclose(importance, np.square(slopes), rtol=2e-2, atol=1e-3 * importance.max())


def test_prune_does_not_change_the_block() -> None:
    block = initialized("mobilenet_v2_0.5")
    x = images(1, 96, 96)
    before = outputs_of(block, x)
    prune(block, (1, 3, 96, 96), 0.6)
    np.testing.assert_array_equal(outputs_of(block, x)[0], before[0])


def test_share_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\d\.\d"):
        prune(initialized("mobilenet_v2_0.5"), (1, 3, 96, 96), 0.01)


@pytest.mark.parametrize("channels", [{"features.0.bias": 8}, {"nothing": 8}, {"features.0.weight": 0}])
def test_invalid_channel_counts_are_named(channels: Dict[str, int]) -> None:
    with pytest.raises(OptionError, match=next(iter(channels))):
        zoo.build_classifier(zoo.ClassifierSpec(("a", "b"), width=0.25, channels=channels))


def test_pruned_detector_is_evaluated_exported_and_pruned_again(
    tiny_run: Path, shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    assert main(["prune", str(run), "--keep", "0.8", "--epochs", "1"]) == 0
    smaller, start = tmp_path / "run-pruned", tmp_path / "run-pruned-start"
    costs = {
        path: count_block(zoo.load_detector(str(path)).heads, (1, 3, 96, 96)).multiply_adds
        for path in (run, start, smaller)
    }
    assert costs[start] == costs[smaller] <= 0.8 * costs[run]
    with open(smaller / "log.csv", newline="") as file:
        # 0: before fine-tuning
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    image = write_images(tmp_path, 1)[0]
    assert main(["eval", str(smaller), "--data-root", shapes]) == 0
    assert main(["export", str(smaller), "--output", str(tmp_path / "export")]) == 0
    assert main(["detect", str(tmp_path / "export"), image]) == 0
    capsys.readouterr()
    assert main(["summary", str(smaller), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["multiply_adds"] == costs[smaller]
    again = ["--epochs", "0", "--output", str(tmp_path / "again")]
    assert main(["prune", str(smaller), "--keep", "0.9", *again]) == 0
    assert (tmp_path / "again-start" / "best.params").exists()
    assert main(["prune", str(run), "--keep", "0.8"]) == 2
    assert str(smaller) in capsys.readouterr().err


@pytest.mark.slow
def test_pruned_classifier(shapes: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    options = {
        "dataset": "shapes", "data_root": shapes, "width": 0.25, "size": (64, 64), "batch_size": 8,
        "lr": 0.05,
    }  # fmt: skip
    run = train_classifier({**options, "epochs": 1, "output": str(tmp_path / "run")})
    command = ["prune", str(run), "--keep", "0.7"]
    assert main([*command, "--epochs", "1"]) == 0
    # Pruning by magnitude needs no images.
    (tmp_path / "nowhere").touch()
    no_images = ["--data-root", str(tmp_path / "nowhere"), "--epochs", "0"]
    command += [*no_images, "--output", str(tmp_path / "pruned")]
    assert main(command) == 1
    assert not (tmp_path / "pruned-start").exists()
    assert main([*command, "--importance", "magnitude"]) == 0
    assert main(["eval-cls", str(tmp_path / "run-pruned")]) == 0
    counts = []
    for folder in (run, tmp_path / "run-pruned"):
        capfd.readouterr()
        assert main(["summary", str(folder), "--json"]) == 0
        counts.append(json.loads(capfd.readouterr().out))
    assert counts[0]["network"].endswith("mobilenet_v2 x0.25 at 64x64")
    assert 0.65 < counts[1]["multiply_adds"] / counts[0]["multiply_adds"] <= 0.7
    with pytest.raises(WeightsError, match="detector"):
        zoo.read_channels(str(run), zoo.DetectorSpec)
