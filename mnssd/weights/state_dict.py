"""Reader of PyTorch state dicts that needs no PyTorch and executes nothing in the file.

A ``.pth`` file contains a pickle, which can call any function. The unpickler here knows OrderedDict, the
functions that rebuild a tensor or parameter, and the storage types; any other name is refused. Tensor data
are raw bytes next to the pickle.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from math import prod
from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from ..errors import WeightsError

# torch/serialization.py of PyTorch 2: MAGIC_NUMBER and PROTOCOL_VERSION of the format before 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

LARGEST_PICKLE = 16 << 20
"""Bytes. A MobileNetV2, names and shapes only, has 40,000."""

WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model")
"""Keys under which training scripts store a state dict; the first one present is used."""


class _Kind(NamedTuple):
    """Storage type: the dtype with which NumPy reads it (for bfloat16, which NumPy lacks, its bits)."""

    dtype: str
    is_bfloat16: bool = False

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize


_STORAGES = {
    "FloatStorage": _Kind("<f4"), "DoubleStorage": _Kind("<f8"), "HalfStorage": _Kind("<f2"),
    "BFloat16Storage": _Kind("<u2", True), "LongStorage": _Kind("<i8"), "IntStorage": _Kind("<i4"),
    "ShortStorage": _Kind("<i2"), "CharStorage": _Kind("i1"), "ByteStorage": _Kind("u1"),
    "BoolStorage": _Kind("?"),
}  # fmt: skip


class _Storage(NamedTuple):
    kind: _Kind
    key: str
    length: int


class _Tensor(NamedTuple):
    """A tensor as pickled: a view of a storage."""

    storage: _Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


_BAD = (
    pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, struct.error, ValueError, TypeError,
    KeyError, AttributeError, IndexError, EOFError, ImportError, OverflowError, RecursionError, MemoryError,
    NotImplementedError, AssertionError,
)  # fmt: skip
"""Exceptions that damaged or hostile bytes can raise."""


def read_state_dict(path: str) -> Dict[str, np.ndarray]:
    """Read a state dict from ``.safetensors``, or from ``.pth`` of any PyTorch version.

    Floating-point tensors become float32.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, has another format, or refers to anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
        if data[:2] == b"PK":
            arrays = _read_zip(data)
        elif data[:1] == b"\x80":
            arrays = _read_legacy(data)
        else:
            arrays = load_tensors(data)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); expected a state dict") from error
    except _BAD as error:
        problem = f"not a PyTorch state dict or safetensors file, or damaged ({error}); use another copy"
        raise WeightsError(f"{path}: {problem}") from error
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Builds only dictionaries, numbers, strings and `_Tensor`s.

    Based on the unpickler in Python: the one in C allocates as much memory as a hostile pickle asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        try:
            return _FUNCTIONS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refers to {module}.{name}, which no state dict needs") from None

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, length = pid[:5]
        if tag != "storage" or not isinstance(kind, _Kind) or not isinstance(length, int):
            raise pickle.UnpicklingError("unknown persistent object")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("storage view of PyTorch before 0.4")
        return _Storage(kind, str(key), length)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("tensor without a storage or a shape")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_FUNCTIONS: Dict[Tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
}


def _read_zip(data: bytes) -> Dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        names = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1 or entries[names[0]].file_size > LARGEST_PICKLE:
            raise ValueError("a zip file, but not from PyTorch")
        folder = names[0][: -len("data.pkl")]
        order = entries.get(f"{folder}byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
            raise ValueError("big-endian")

        def content(storage: _Storage) -> bytes:
            info = entries[f"{folder}data/{storage.key}"]
            if info.compress_type != zipfile.ZIP_STORED:  # a small compressed file could expand to any size
                raise ValueError(f"{info.filename} is compressed; PyTorch does not compress")
            return archive.read(info)

        return _arrays(_Unpickler(io.BytesIO(archive.read(names[0]))).load(), content)


def _read_legacy(data: bytes) -> Dict[str, np.ndarray]:
    """Read the format before PyTorch 1.6: five pickles, the fourth the dictionary, then the storages."""
    file = io.BytesIO(data)
    if _Unpickler(file).load() != LEGACY_MAGIC or _Unpickler(file).load() != LEGACY_PROTOCOL:
        raise ValueError("a pickle, but not from PyTorch")
    _Unpickler(file).load()
    dictionary = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    sizes = {t.storage.key: t.storage.kind.itemsize for t in _state_dict(dictionary).values()}
    stored: Dict[str, bytes] = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        if key not in sizes:
            raise ValueError(f"storage {key} belongs to no tensor")
        stored[key] = file.read(max(0, length) * sizes[key])
        if len(stored[key]) != length * sizes[key]:
            raise ValueError("truncated")
    return _arrays(dictionary, lambda storage: stored[storage.key])


def _state_dict(dictionary: Any) -> Dict[str, _Tensor]:
    """The tensors by name, without the prefix of PyTorch's DataParallel."""
    if not isinstance(dictionary, dict):
        raise ValueError("not a dictionary")
    for key in WRAPPERS:
        if isinstance(dictionary.get(key), dict):
            dictionary = dictionary[key]
            break
    tensors = {str(name): value for name, value in dictionary.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise ValueError("no tensors")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name[len("module.") :]: value for name, value in tensors.items()}
    return tensors


def _arrays(dictionary: Any, content: Callable[[_Storage], bytes]) -> Dict[str, np.ndarray]:
    return {name: _array(t, content(t.storage)) for name, t in _state_dict(dictionary).items()}


def _array(tensor: _Tensor, data: bytes) -> np.ndarray:
    kind, _, length = tensor.storage
    shape, strides = tensor.shape, tensor.strides
    if len(data) != length * kind.itemsize or len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("tensor and storage do not match")
    flat = np.frombuffer(data, kind.dtype)
    if kind.is_bfloat16:
        flat = (flat.astype("<u4") << 16).view("<f4")
    last = tensor.offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides))
    if prod(shape) > length or (0 not in shape and last >= length):
        raise ValueError("tensor exceeds its storage")
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False).copy()
