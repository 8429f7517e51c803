"""Files that hold no weights, or not only weights: each is refused with the name of its kind."""

from __future__ import annotations

import argparse
import bz2
import gzip
import lzma
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from helpers.checkpoint_files import (
    few_arrays,
    prefixed,
    training_state,
    write_params,
    write_safetensors,
)  # fmt: skip
from helpers.torch_files import Module, tensors, write_legacy, write_zip
from safetensors.numpy import save_file

from mnssd.errors import WeightsError
from mnssd.weights import read_weights

pytestmark = pytest.mark.usefixtures("torch_names")


def other_files(folder: Path) -> Dict[str, bytes]:
    """Sound files of other kinds, and what the message must name."""
    plain = tensors(few_arrays())
    contents = {
        "optimizer.pth": training_state()["optimizer"],
        "no_network.pth": {"epoch": 3, "args": argparse.Namespace(lr=1)},
        "list.pth": list(plain.values()),
        "numpy.pth": few_arrays(),
        "number.pth": 3,
        "two.pth": {"generator": plain, "discriminator": tensors(few_arrays(1), first_key=50)},
        "int8.pth": tensors({"features.0.0.weight": np.ones((4, 3, 3, 3), np.int8)}),
    }
    for name, content in contents.items():
        write_zip(folder / name, content)
        write_legacy(folder / f"old_{name}", content)
    for name, member in (
        ("script.pt", "script/code/__torch__.py"),
        ("exported.pt2", "e/models/model.json"),
        ("model.keras", "model.weights.h5"),
        ("package.pt", "p/.data/extern_modules"),
        ("arrays.npz", "a.npy"),
        ("other.zip", "b.txt"),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, "x")
    with tarfile.open(folder / "x.tar", "w") as archive:
        archive.add(folder / "list.pth", "list.pth")
    for name, data in {
        "weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(99), "empty.pth": b"", "x.pth.gz": gzip.compress(b"x"),
        "page.pth": b"\n<!DOCTYPE html>", "pointer.pth": b"version https://git-lfs.github.com/spec/v1\n",
        "model.ckpt.index": bytes(99), "model.ckpt.data-00000-of-00001": bytes(99),
        "net.onnx": b"\x08\x07", "net.pb": b"\n", "net.tflite": b"\x1c\0\0\0TFL3",
        "net.caffemodel": b"\n\x03net", "net.xml": b'<?xml version="1.0"?><net/>', "net.mlmodel": b"\x08\x01",
        "yolo.weights": bytes(20), "x.bz2": bz2.compress(b"x"), "x.xz": lzma.compress(b"x"),
        "x.7z": b"7z\xbc\xaf\x27\x1c\0\4", "x.zst": b"\x28\xb5\x2f\xfd\0",
        "net.json": b'{"nodes": []}', "checkpoint": b"model_checkpoint_path: x",
        "last.ckpt": b"mnssd checkpoint 1\n" + bytes(99), "x.pkl": b"\x80\x03}.",
        "dumped.pkl": b"\x80\x03}X\x03\0\0\0a.bctorch.storage\n_load_from_bytes\nC\x01x\x85Rs.",
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_other_files_are_refused_by_kind(tmp_path: Path) -> None:
    """Each is named, no two kinds with the same words, and none is called damaged."""
    messages = {}
    for name in other_files(tmp_path):
        with pytest.raises(WeightsError, match=re.escape(str(tmp_path / name))) as caught:
            read_weights(str(tmp_path / name))
        messages[name] = str(caught.value).replace(str(tmp_path / name), "")
        assert "damaged" not in messages[name], name
    assert len({m for name, m in messages.items() if not name.startswith("old_")}) >= len(messages) / 2
    for name in [name for name in messages if name.startswith("old_")]:
        assert messages[name] == messages[name[len("old_") :]]


@pytest.mark.parametrize(
    "function",
    [
        "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_tensor_v3", "_rebuild_meta_tensor_no_storage",
    ],
)  # fmt: skip
def test_other_tensors_are_refused_by_kind(function: str, tmp_path: Path) -> None:
    pickled = b"\x80\x02}X\x08\0\0\0f.weightctorch._utils\n" + function.encode() + b"\n)Rs."
    path = tmp_path / "other.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other/data.pkl", pickled)
    with pytest.raises(WeightsError, match=re.escape(str(path))) as caught:
        read_weights(str(path))
    assert "damaged" not in str(caught.value)
    assert "f.weight" in str(caught.value)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.params").write_bytes(b"")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "model.ckpt.index").write_bytes(b"")
    for name, way_out in (("run", "best.params"), ("saved", ""), ("model.ckpt", ""), ("absent", "")):
        with pytest.raises(WeightsError, match=f"{re.escape(str(tmp_path / name))}.*{way_out}"):
            read_weights(str(tmp_path / name))


def test_incomplete_files_are_refused(tmp_path: Path) -> None:
    paths = [
        write_zip(tmp_path / "a.pth", tensors(few_arrays())),
        write_legacy(tmp_path / "b.pth", tensors(few_arrays())),
        write_safetensors(tmp_path / "c.safetensors", few_arrays()),
        write_params(tmp_path / "d.params", few_arrays()),
    ]
    for path in paths:
        whole = Path(path).read_bytes()
        for length in (10, 100, len(whole) // 2, len(whole) - 1):
            Path(path).write_bytes(whole[:length])
            with pytest.raises(WeightsError, match=re.escape(path)):
                read_weights(path)


def test_deep_and_shared_structures_end(tmp_path: Path) -> None:
    """Small files whose content refers to itself many times over."""
    shared: Any = {}
    for _ in range(40):
        shared = {"a": shared, "b": shared, "c": shared}
    module = Module()
    for _ in range(40):
        parent = Module()
        parent._modules.update(a=module, b=module)
        module = parent
    loop: Dict[str, Any] = {}
    loop["model"] = loop
    for content in (shared, module, loop, {"model": module, "x": shared}):
        with pytest.raises(WeightsError, match=r"deep\.pth"):
            read_weights(write_zip(tmp_path / "deep.pth", content))


def test_views_of_one_storage_are_limited(tmp_path: Path) -> None:
    """Thousands of views would take far more memory than the file has bytes."""
    tensor = tensors({"w": np.ones(100_000, np.float32)})["w"]
    tied = {f"layer{i}.weight": tensor for i in range(3)}
    assert len(read_weights(write_zip(tmp_path / "tied.pth", tied)).arrays) == 3
    many = {f"layer{i}.weight": tensor for i in range(3000)}
    with pytest.raises(WeightsError, match=r"many\.pth"):
        read_weights(write_zip(tmp_path / "many.pth", many))


def test_other_arrays_of_a_file_are_noted(tmp_path: Path) -> None:
    arrays = {**prefixed(few_arrays(), "model."), "criterion.weight": np.ones(3, np.float32)}
    save_file(arrays, str(tmp_path / "x.safetensors"))
    weights = read_weights(str(tmp_path / "x.safetensors"))
    assert "criterion.weight" not in weights.arrays
    assert "criterion.weight" in weights.notes[0]


def test_blocks_of_other_networks_are_not_selected(tmp_path: Path) -> None:
    """In ResNet of Gluon each block begins as a network here does."""
    one = np.ones(3, np.float32)
    blocks = ("features.4.0.body.", "features.4.1.body.", "stage1.")
    arrays = {f"{block}{name}": one for block in blocks for name in ("0.weight", "1.gamma", "3.weight")}
    assert read_weights(write_params(tmp_path / "resnet.params", arrays)).arrays.keys() == arrays.keys()
