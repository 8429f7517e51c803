"""PyTorch's SSD files that helpers.torch_ssd and helpers.torch_files write, without PyTorch."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.imports import outcome
from helpers.torch_files import install_torch_names, tensors, write_legacy, write_zip
from helpers.torch_ssd import make, priors

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.errors import ImportedFileError
from mnssd.importers.families import family_of
from mnssd.importers.network import build
from mnssd.importers.torch_graph import read_network

KINDS = {"mb1-ssd": 300, "mb1-ssd-lite": 300, "mb2-ssd-lite": 300, "lufficc": 320}

Arrays = Dict[str, np.ndarray]


def image_of(side: int) -> np.ndarray:
    """``(1, side, side, 3)`` uint8 RGB."""
    return np.random.default_rng(1).integers(0, 256, (1, side, side, 3), dtype=np.uint8)


def imported(arrays: Arrays) -> Any:
    """The network of a state dict, and its structure."""
    read = read_network("net.pth", arrays)
    read.check("net.pth")
    return build(read, ["cat", "dog", "cow"], [1, 2, 3], "net.pth")


@pytest.fixture(scope="module")
def network() -> Tuple[Arrays, Any]:
    return make("mb2-ssd-lite", image_of(300))


@pytest.mark.parametrize("kind", KINDS)
def test_detector_has_heads_and_anchors_of_the_family(kind: str) -> None:
    side = KINDS[kind]
    image = image_of(side)
    arrays, (logits, boxes) = make(kind, image)
    net, spec = imported(arrays)
    assert spec.size == (side, side)
    outputs = net.heads(mx.nd.array(to_network_input(list(image))))
    for own, other in zip(outputs, (logits, boxes)):
        np.testing.assert_allclose(own.asnumpy()[0], other, atol=1e-4 * np.abs(other).max())
    cells = [-(-side // stride) for stride in (16, 32, 64, 128, 256, 512)]
    np.testing.assert_allclose(net.anchors / side, priors(kind, cells), atol=1e-6)
    assert net.anchors.max() <= side  # clamped


@pytest.mark.parametrize(("write", "key"), [(write_zip, "model"), (write_legacy, "")])
def test_file_becomes_a_run(
    write: Callable[..., str], key: str, network: Tuple[Arrays, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    install_torch_names(monkeypatch)
    arrays, (logits, _) = network
    content: Any = tensors(arrays)
    path = write(tmp_path / "net.pth", {key: content, "iteration": 7} if key else content)
    image = str(tmp_path / "image.png")
    cv2.imwrite(image, image_of(300)[0, ..., ::-1])
    (tmp_path / "labels.txt").write_text("BACKGROUND\ncat\ndog\ncow\n", encoding="utf-8")
    arguments = ["--labels", str(tmp_path / "labels.txt"), "--images", image]
    assert main(["import", path, *arguments, "--output", str(tmp_path / "run")]) == 0
    net = zoo.load_detector(str(tmp_path / "run"))
    assert net.classes == ("cat", "dog", "cow")
    own = net.heads(mx.nd.array(to_network_input(list(image_of(300)))))[0].asnumpy()[0]
    np.testing.assert_allclose(own, logits, atol=1e-4 * np.abs(logits).max())


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


CHANGES: Dict[str, Callable[[Arrays], Arrays]] = {
    "missing convolution": without("base_net.3.conv.3.weight"),
    "missing norm": without("base_net.3.conv.1.running_mean"),
    "missing head": without("classification_headers.5.weight"),
    "missing extra layer": lambda arrays: {k: v for k, v in arrays.items() if not k.startswith("extras.3.")},
    "fewer layers": lambda arrays: {k: v for k, v in arrays.items() if not k.startswith("base_net.18.")},
    "one more": lambda arrays: {**arrays, "source_layer_add_ons.0.weight": np.ones(4, np.float32)},
    "kernel": changed("base_net.0.0.weight", lambda w: np.pad(w, ((0, 0), (0, 0), (1, 1), (1, 1)))),
    "channels": changed("base_net.5.conv.0.weight", lambda w: w[:-1]),
    "inputs": changed("base_net.5.conv.0.weight", lambda w: w[:, :-1]),
    "norm of another size": changed("base_net.5.conv.1.weight", lambda w: w[:-1]),
    "not finite": changed("base_net.5.conv.1.weight", lambda w: w * np.nan),
    "negative variance": changed("base_net.5.conv.1.running_var", lambda w: -w),
    "anchors": changed("regression_headers.5.weight", lambda w: w[:20]),
    "no detector": lambda arrays: {k: v for k, v in arrays.items() if "headers" not in k},
    "another network": lambda arrays: {"conv1.weight": np.ones((4, 3, 3, 3), np.float32)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_arrays_are_refused_by_name(change: str, network: Tuple[Arrays, Any]) -> None:
    arrays = CHANGES[change](network[0])
    with pytest.raises(ImportedFileError, match=r"^net\.pth: "):
        imported(arrays)


BAD: List[bytes] = [
    b"PK\3\4",
    b"PK\3\4" + bytes(1000),
    b"\x80\x02",
    b"\x80\x02cos\nsystem\nX\2\0\0\0ls\x85R.",
]


@pytest.mark.parametrize("data", BAD)
def test_damaged_and_hostile_files_are_refused_by_name(data: bytes, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    assert main(["import", str(path), "--output", str(tmp_path / "run")]) == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert family_of(str(path)).name == "torch_ssd"


@pytest.mark.parametrize(
    "count", [30, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_random_damage_is_refused_or_read(
    write: Callable[..., str], count: int, network: Tuple[Arrays, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    install_torch_names(monkeypatch)
    path, rng = Path(write(tmp_path / "net.pth", tensors(network[0]))), random.Random(count)
    data, outcomes = path.read_bytes(), []
    start = data.find(b"\x80\x02")  # of the pickled names and shapes
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 3, 20))):
            places = (rng.randrange(len(data)), start + rng.randrange(20_000), -rng.randrange(1, 9000))
            damaged[rng.choice(places)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        if rng.random() < 0.1:
            del damaged[rng.randrange(len(damaged)) :]
        path.write_bytes(damaged)
        outcomes.append(outcome(path))
    assert set(outcomes) <= {None, True}
    assert True in outcomes
