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
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int8": "CharStorage",
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
    nn, vision = types.ModuleType("torch.nn"), types.ModuleType("torchvision")
    nn.Module, vision.MobileNetV2 = Module, MobileNetV2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.nn", nn)
    monkeypatch.setitem(sys.modules, "torchvision", vision)


class Module:
    """Pickles as a module of PyTorch does: its attributes, of which three are dictionaries."""

    __module__ = "torch.nn"

    def __init__(self) -> None:
        self.training = False
        self._parameters: Dict[str, Any] = OrderedDict()
        self._buffers: Dict[str, Any] = OrderedDict()
        self._modules: Dict[str, Any] = OrderedDict()

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("methods named in a file must not be called")


class MobileNetV2(Module):
    __module__ = "torchvision"


def as_module(state_dict: Dict[str, Tensor]) -> Module:
    """A module whose `state_dict` would be this one."""
    root = MobileNetV2()
    for name, tensor in state_dict.items():
        module, *parts = root, *name.split(".")
        for part in parts[:-1]:
            module = module._modules.setdefault(part, Module())
        kind = module._parameters if parts[-1] in ("weight", "bias") else module._buffers
        kind[parts[-1]] = tensor
    return root


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


def tensors(arrays: Dict[str, np.ndarray], first_key: int = 0) -> OrderedDict[str, Tensor]:
    """Tensors in storages of their own, whose keys are numbers from `first_key` on."""
    result: OrderedDict[str, Tensor] = OrderedDict()
    for number, (name, array) in enumerate(arrays.items(), start=first_key):
        array = array.copy()  # contiguous
        strides = tuple(step // array.itemsize for step in array.strides)
        result[name] = Tensor(Storage(str(number), array), 0, array.shape, strides)
    return result


def pickled(
    value: Any, legacy: bool = False, found: Optional[Dict[str, Storage]] = None, protocol: int = 2
) -> bytes:
    """The pickle; storages by key are added to `found`."""
    target = io.BytesIO()
    pickler = pickle.Pickler(target, protocol=protocol)

    def persistent_id(item: Any) -> Any:
        if not isinstance(item, Storage):
            return None
        if found is not None:
            found[item.key] = item
        kind = getattr(sys.modules["torch"], STORAGES[str(item.values.dtype)])
        rest = (None,) if legacy else ()
        return ("storage", kind, item.key, "cpu", item.values.size, *rest)

    pickler.persistent_id = persistent_id  # type: ignore[method-assign]
    pickler.dump(value)
    return target.getvalue()


def storages_of(value: Any) -> List[Storage]:
    found: Dict[str, Storage] = {}
    if not isinstance(value, bytes):
        pickled(value, found=found)
    return list(found.values())


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
