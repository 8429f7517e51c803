"""SavedModels of TensorFlow 1, with their weights in the graph or in variables beside it."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict

import mxnet as mx
import numpy as np
import pytest

pytest.importorskip("google.protobuf")
pytest.importorskip("tflite")

from helpers.bundle_files import MAGIC, write_bundle
from helpers.frozen_files import write_classifier, write_ssd

import mnssd
from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.errors import ImportedFileError
from mnssd.importers.proof import unrotated
from mnssd.importers.tensor_bundle import read_bundle

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)


def assert_close(own: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(own, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("variables", ["", "VarHandleOp"])
def test_detector_has_the_heads_of_the_file(variables: str, tmp_path: Path) -> None:
    logits, boxes = write_ssd(tmp_path / "saved_model.pb", IMAGE, saved=True, variables=variables)
    net = zoo.load_detector(str(mnssd.import_model(tmp_path, output=tmp_path / "run").path))
    heads = net.heads(mx.nd.array(to_network_input(list(IMAGE))))
    own_logits, own_boxes = (unrotated(net, part.asnumpy())[0] for part in heads)
    assert_close(own_logits, logits)
    assert_close(own_boxes, boxes[:, [1, 0, 3, 2]])  # ty, tx, th, tw in the file


def test_classifier_has_the_logits_of_the_file(tmp_path: Path) -> None:
    logits = write_classifier(tmp_path / "saved_model.pb", IMAGE, saved=True, variables="VariableV2")
    path = mnssd.import_model(tmp_path / "saved_model.pb", output=tmp_path / "run").path
    net, _ = zoo.load_classifier(str(path))
    assert_close(net(mx.nd.array(to_network_input(list(IMAGE)))).asnumpy()[0], logits)


def cut(name: str, share: float) -> Callable[[Path], None]:
    """Keep the first part of a file."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return damage


def another(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Replace bytes of a file."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        (folder / name).write_bytes(data.replace(old, new, 1))

    return damage


INDEX, DATA = "variables.index", "variables.data-00000-of-00001"
DAMAGES: Dict[str, Any] = {
    "no index": (lambda folder: (folder / INDEX).unlink(), "saved_model.pb"),
    "half an index": (cut(INDEX, 0.5), INDEX),
    "empty index": (cut(INDEX, 0), INDEX),
    "another file as index": (another(INDEX, MAGIC, b"\0" * 8), INDEX),
    "no values": (lambda folder: (folder / DATA).unlink(), DATA),
    "half of the values": (cut(DATA, 0.5), DATA),
    "two files of values": (
        lambda folder: write_bundle(folder / "variables", {"w": np.zeros(3, "float32")}, shards=2), INDEX
    ),
    "other variables": (
        lambda folder: write_bundle(folder / "variables", {"w": np.zeros(3, "float32")}), "saved_model.pb"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_missing_and_damaged_variables_are_refused(kind: str, tmp_path: Path, capsys: Any) -> None:
    write_classifier(tmp_path / "saved_model.pb", IMAGE, saved=True, variables="VarHandleOp")
    damage, file = DAMAGES[kind]
    damage(tmp_path / "variables")
    assert main(["import", str(tmp_path), "--output", str(tmp_path / "run")]) == 1
    assert file in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bundle_has_all_variables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {f"layer_{i % 7}/{i}/weights": rng.normal(size=(i % 3, 2)).astype("float32") for i in range(50)}
    values["step"] = np.array(7, "int64")
    write_bundle(tmp_path / "variables", values)
    read = read_bundle(tmp_path / "variables")
    assert read.keys() == values.keys()
    for name, variable in read.items():
        assert (variable.shape, variable.content) == (values[name].shape, values[name].tobytes())


@pytest.mark.parametrize("count", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_random_damage_of_an_index_is_refused_or_read(count: int, tmp_path: Path) -> None:
    write_bundle(tmp_path / "variables", {f"w{i}": np.full(3, i, "float32") for i in range(20)})
    index = tmp_path / INDEX
    data, rng, accepted = index.read_bytes(), random.Random(count), 0
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 3, 20))):
            changed[rng.randrange(len(changed))] = rng.choice((0, 1, 127, 128, 255))
        if rng.random() < 0.2:
            at = rng.randrange(len(changed))
            del changed[at : at + rng.choice((1, 9, 100))]
        index.write_bytes(changed)
        with suppress(ImportedFileError):
            read_bundle(tmp_path / "variables")
            accepted += 1
    assert accepted < count / 2
