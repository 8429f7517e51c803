"""Weights in PyTorch's files, read without PyTorch, and without running anything that stands in them.

A ``.pth`` file is a pickle, and a pickle is a program. It is run here by an unpickler that knows five names:
the ordered dictionary, PyTorch's functions that make a tensor or a parameter of a storage, and the types of
storages. Any other name ends the reading. The tensors themselves are bytes beside the pickle.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from math import prod
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from ..errors import WeightsError

# torch/serialization.py of PyTorch 2: MAGIC_NUMBER and PROTOCOL_VERSION of the form before 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

LARGEST_PICKLE = 16 << 20
"""Bytes. That of a MobileNetV2 has 40,000: names and shapes only."""

WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model")
"""Keys under which training scripts put a state dict beside other things; the first that is there."""


class _Kind(NamedTuple):
    """Type of a storage: how NumPy reads it."""

    dtype: str


_BFLOAT16 = _Kind("<u2 bfloat16")
_STORAGES = {
    "FloatStorage": _Kind("<f4"),
    "DoubleStorage": _Kind("<f8"),
    "HalfStorage": _Kind("<f2"),
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": _Kind("<i8"),
    "IntStorage": _Kind("<i4"),
    "ShortStorage": _Kind("<i2"),
    "CharStorage": _Kind("i1"),
    "ByteStorage": _Kind("u1"),
    "BoolStorage": _Kind("?"),
}


class _Storage(NamedTuple):
    kind: _Kind
    key: str
    length: int


class _Tensor(NamedTuple):
    """What the pickle says of a tensor: its storage, and where in it."""

    storage: _Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


_BAD = (
    pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, struct.error, ValueError, TypeError,
    KeyError, AttributeError, IndexError, EOFError, ImportError, OverflowError, RecursionError, MemoryError,
    NotImplementedError, AssertionError,
)  # fmt: skip
"""What reading damaged or hostile bytes raises."""


def read_state_dict(path: str) -> Dict[str, np.ndarray]:
    """Read a state dict: ``.safetensors``, or ``.pth`` of any version of PyTorch.

    Half and bfloat16 become float32.

    Raises
    ------
    WeightsError
        When the file is missing, damaged, of another form, or asks for anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        if data[:2] == b"PK":
            found = _read_zip(data)
        elif data[:1] == b"\x80":
            found = _read_legacy(data)
        else:
            found = load_tensors(data)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); give the path of a file") from error
    except _BAD as error:
        raise WeightsError(
            f"{path}: no PyTorch state dict or safetensors file, or damaged ({error}); load another copy"
        ) from error
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype.kind == "f" else value


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Makes dictionaries, numbers, texts and `_Tensor`s, and nothing else.

    The unpickler written in Python: the one in C makes room for as many memories as a hostile pickle names.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs") from None

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _, length = pid[:5]
        if what != "storage" or not isinstance(kind, _Kind) or not isinstance(length, int):
            raise pickle.UnpicklingError("it holds something that is no storage")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("it holds a view of a storage, as PyTorch before 0.4 wrote them")
        return _Storage(kind, str(key), length)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("it holds a tensor without a storage or a shape")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


_KNOWN: Dict[Tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def _read_zip(data: bytes) -> Dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        names = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1 or entries[names[0]].file_size > LARGEST_PICKLE:
            raise ValueError("a zip file, but not of PyTorch")
        folder = names[0][: -len("data.pkl")]
        order = entries.get(f"{folder}byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
            raise ValueError("of a big-endian machine")

        def content(storage: _Storage) -> bytes:
            info = entries[f"{folder}data/{storage.key}"]
            if info.compress_type != zipfile.ZIP_STORED:  # else a small file may hold any amount
                raise ValueError(f"{info.filename} is compressed; PyTorch stores plainly")
            return archive.read(info)

        return _arrays(_Unpickler(io.BytesIO(archive.read(names[0]))).load(), content)


def _read_legacy(data: bytes) -> Dict[str, np.ndarray]:
    """Four pickles (magic, version, system, the dictionary), one of the storages' keys, and their bytes."""
    file = io.BytesIO(data)
    if _Unpickler(file).load() != LEGACY_MAGIC or _Unpickler(file).load() != LEGACY_PROTOCOL:
        raise ValueError("a pickle, but not of PyTorch")
    _Unpickler(file).load()
    found = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    sizes = {t.storage.key: _itemsize(t.storage.kind) for t in _state_dict(found).values()}
    stored: Dict[str, bytes] = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        if key not in sizes:
            raise ValueError(f"storage {key} is of no tensor")
        stored[key] = file.read(max(0, length) * sizes[key])
        if len(stored[key]) != length * sizes[key]:
            raise ValueError("it ends too early")
    return _arrays(found, lambda storage: stored[storage.key])


def _state_dict(found: Any) -> Dict[str, _Tensor]:
    """The tensors by name, without the prefix that PyTorch's DataParallel puts before them."""
    if not isinstance(found, dict):
        raise ValueError("it holds no dictionary")
    for key in WRAPPERS:
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    tensors = {str(name): value for name, value in found.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise ValueError("it holds no tensor")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name[len("module.") :]: value for name, value in tensors.items()}
    return tensors


def _arrays(found: Any, content: Callable[[_Storage], bytes]) -> Dict[str, np.ndarray]:
    return {name: _array(tensor, content(tensor.storage)) for name, tensor in _state_dict(found).items()}


def _array(tensor: _Tensor, data: bytes) -> np.ndarray:
    kind, _, length = tensor.storage
    shape, strides = tensor.shape, tensor.strides
    if len(data) != length * _itemsize(kind) or len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("a tensor and its storage do not fit")
    flat = np.frombuffer(data, kind.dtype.split()[0])
    if kind is _BFLOAT16:
        flat = (flat.astype("<u4") << 16).view("<f4")
    last = tensor.offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides))
    if prod(shape) > length or (0 not in shape and last >= length):
        raise ValueError("a tensor reaches beyond its storage")
    steps: List[int] = [stride * flat.itemsize for stride in strides]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)
    return view.copy()


def _itemsize(kind: _Kind) -> int:
    return np.dtype(kind.dtype.split()[0]).itemsize
