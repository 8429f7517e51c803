"""PyTorch checkpoints, written without PyTorch byte for byte as it writes them."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint16": "BFloat16Storage",
}


def install_torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the modules and names that PyTorch's pickles refer to, so that such pickles can be written."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(module, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*args: Any) -> None:
        raise AssertionError("functions named in a file must not be called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class Storage:
    def __init__(self, key: str, values: np.ndarray) -> None:
        self.key, self.values = key, values


class Tensor:
    """Pickles as a PyTorch tensor does."""

    def __init__(
        self, storage: Storage, offset: int, shape: Tuple[int, ...], strides: Tuple[int, ...]
    ) -> None:
        self.parts = (storage, offset, shape, strides)

    def __reduce__(self) -> Any:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        return rebuild, (*self.parts, False, OrderedDict())


def tensors(arrays: Dict[str, np.ndarray]) -> OrderedDict[str, Tensor]:
    result: OrderedDict[str, Tensor] = OrderedDict()
    for number, (name, array) in enumerate(arrays.items()):
        array = array.copy()  # contiguous
        strides = tuple(step // array.itemsize for step in array.strides)
        result[name] = Tensor(Storage(str(number), array), 0, array.shape, strides)
    return result


def pickled(value: Any, legacy: bool = False) -> bytes:
    target = io.BytesIO()
    pickler = pickle.Pickler(target, protocol=2)

    def persistent_id(item: Any) -> Any:
        if not isinstance(item, Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[str(item.values.dtype)])
        rest = (None,) if legacy else ()
        return ("storage", kind, item.key, "cpu", item.values.size, *rest)

    pickler.persistent_id = persistent_id  # type: ignore[method-assign]
    pickler.dump(value)
    return target.getvalue()


def storages_of(value: Any) -> List[Storage]:
    if isinstance(value, Tensor):
        return [value.parts[0]]
    if not isinstance(value, dict):
        return []
    return list({s.key: s for item in value.values() for s in storages_of(item)}.values())


def write_zip(path: Path, value: Any, compression: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value))
        archive.writestr("archive/byteorder", "little")
        for storage in storages_of(value):
            archive.writestr(f"archive/data/{storage.key}", storage.values.tobytes())
        archive.writestr("archive/version", "3\n")
    return str(path)


def write_legacy(path: Path, value: Any) -> str:
    storages = storages_of(value)
    parts = [pickled(item) for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [pickled(value, legacy=True), pickled([storage.key for storage in storages])]
    parts += [struct.pack("<q", s.values.size) + s.values.tobytes() for s in storages]
    path.write_bytes(b"".join(parts))
    return str(path)
