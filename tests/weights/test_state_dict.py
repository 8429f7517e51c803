"""PyTorch state dicts: both formats, all types, and hostile or damaged files."""

from __future__ import annotations

import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from helpers.torch_files import Storage, Tensor, as_module, tensors, write_legacy, write_zip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mnssd.errors import WeightsError
from mnssd.weights.state_dict import read_state_dict

pytestmark = pytest.mark.usefixtures("torch_names")


def arrays_of(seed: int = 0) -> Dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b.weight": rng.normal(size=5).astype(np.float32),
    }


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_both_formats_are_read(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    arrays = arrays_of()
    plain = read_state_dict(write(tmp_path / "plain.pth", tensors(arrays)))
    wrapped = {"epoch": 3, "lr": 0.1, "state_dict": tensors({f"module.{k}": v for k, v in arrays.items()})}
    for result in (plain, read_state_dict(write(tmp_path / "wrapped.pth", wrapped))):
        assert list(result) == list(arrays)
        for name, value in arrays.items():
            np.testing.assert_array_equal(result[name], value)


def test_views_dtypes_and_safetensors(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32)
    shared = Storage("0", values)
    result = read_state_dict(write_zip(tmp_path / "views.pth", OrderedDict(
        row=Tensor(shared, 4, (4,), (1,)), transposed=Tensor(shared, 0, (4, 3), (1, 4)),
        empty=Tensor(shared, 0, (0,), (1,)), one=Tensor(shared, 11, (), ()),
    )))  # fmt: skip
    np.testing.assert_array_equal(result["row"], values[4:8])
    np.testing.assert_array_equal(result["transposed"], values.reshape(3, 4).T)
    assert result["empty"].shape == (0,)
    assert result["one"] == 11
    brain = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    many = {"half": np.array([0.5], np.float16), "count": np.array(7, np.int64), "brain": brain}
    result = read_state_dict(write_zip(tmp_path / "types.pth", tensors(many)))
    assert [result[name].dtype for name in many] == [np.float32, np.int64, np.float32]
    np.testing.assert_array_equal(result["brain"], [1.5, -2.0])
    save_file(arrays_of(), str(tmp_path / "x.safetensors"))
    np.testing.assert_array_equal(read_state_dict(str(tmp_path / "x.safetensors"))["a"], arrays_of()["a"])


class Attack:
    """Runs a command when `pickle.loads` reads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_code_in_a_file_is_not_executed(write: Callable[[Path, Any], str], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for value in ({"a": Attack(marker)}, {"state_dict": tensors(arrays_of()), "epoch": Attack(marker)}):
        pickle.loads(pickle.dumps(value["a"] if "a" in value else value["epoch"]))
        assert marker.exists()  # the attack works
        marker.unlink()
        with pytest.raises(WeightsError, match=r"bad\.pth.* \w+\.system"):
            read_state_dict(write(tmp_path / "bad.pth", value))
        assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of two billion entries
        b"\x80\x02]\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02K\x01.",
        b"\x80\x02}.",
        b"\x80\x02cgetattr\n__builtins__\n.",
        b"",
    ],
)
def test_hostile_pickle_is_refused(program: bytes, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"bad\.pth"):
        read_state_dict(write_zip(tmp_path / "bad.pth", program))
    (tmp_path / "legacy.pth").write_bytes(program)
    with pytest.raises(WeightsError, match=r"legacy\.pth"):
        read_state_dict(str(tmp_path / "legacy.pth"))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(9, (4,), (1,)), (0, (3, 5), (5, 1)), (0, (13,), (0,)), (-1, (2,), (1,)), (0, (2,), (-1,)),
     (0, (2, 2), (1,)), (0, (10**9, 10**9), (0, 0)), (0, (1,) * 40, (1,) * 40)],
)  # fmt: skip
def test_tensor_outside_its_storage_is_refused(offset: int, shape: Any, strides: Any, tmp_path: Path) -> None:
    tensor = Tensor(Storage("0", np.arange(12, dtype=np.float32)), offset, shape, strides)
    with pytest.raises(WeightsError, match=r"bad\.pth"):
        read_state_dict(write_zip(tmp_path / "bad.pth", {"a": tensor}))


def test_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bomb.pth", tensors({"a": np.zeros(10**6, np.float32)}), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"bomb\.pth.*archive/data/0"):
        read_state_dict(path)
    with pytest.raises(WeightsError, match=r"none\.pth"):
        read_state_dict(str(tmp_path / "none.pth"))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_file_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    kind = data.draw(st.sampled_from(["zip", "legacy", "safetensors"]))
    path = tmp_path / kind
    if kind == "safetensors":
        save_file(arrays_of(), str(path))
    else:
        network = tensors(arrays_of())
        contents = [
            network,
            as_module(network),
            {"args": Namespace(lr=0.1), "loss": np.float64(1), "model": network},
        ]
        (write_zip if kind == "zip" else write_legacy)(path, data.draw(st.sampled_from(contents)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        result = read_state_dict(str(path))
    except WeightsError:
        return
    assert all(isinstance(value, np.ndarray) for value in result.values())
