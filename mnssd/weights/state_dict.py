"""Reader of PyTorch checkpoints and safetensors that needs no PyTorch and executes nothing in the file.

A ``.pth`` file contains a pickle, which could call any function: `pickles` reads it as data. Tensor data are
raw bytes next to the pickle.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from math import prod
from typing import Callable, Dict, List, NamedTuple, Tuple, Union

import numpy as np
from safetensors import SafetensorError, deserialize

from ..errors import WeightsError
from .checkpoint_tree import FoundTensors, find_tensors
from .content import OtherContent, as_float32, list_names, require_floats, widen_bfloat16
from .pickles import LARGEST_PICKLE, InertUnpickler, Storage, Tensor, numpy_dtype

# torch/serialization.py of PyTorch 2: MAGIC_NUMBER and PROTOCOL_VERSION of the format before 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

MOST_EXPANSION = 4
"""Bytes of arrays per byte of file: tied weights share storages, and bfloat16 is widened."""

# docs of safetensors, "Format"; bfloat16, which NumPy lacks, as its bits.
SAFETENSORS_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip

_BAD = (
    pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, struct.error, ValueError, TypeError,
    KeyError, AttributeError, IndexError, EOFError, ImportError, OverflowError, RecursionError, MemoryError,
    NotImplementedError, AssertionError,
)  # fmt: skip
"""Exceptions that damaged or hostile bytes can raise."""


class StateDict(NamedTuple):
    """Arrays by name, and notes for the user about where in the file they were."""

    arrays: Dict[str, np.ndarray]
    notes: List[str]


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is safetensors: the length of a header, and a header in JSON.

    The length is a number of 8 bytes; its first bytes can look like those of any other format.
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins so is a pickle, as PyTorch before 1.6 writes it."""
    return start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def read_state_dict(path: str) -> Dict[str, np.ndarray]:
    """Read the network in a ``.safetensors`` file, or in a ``.pth`` file of any PyTorch version.

    Floating-point tensors become float32. The network may be within a training script's checkpoint, see
    `checkpoint_tree`.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or incomplete, or holds something else.
    """
    return read_checkpoint(path).arrays


def read_checkpoint(path: str) -> StateDict:
    """`read_state_dict` with notes."""
    kind = "PyTorch or safetensors"
    try:
        with open(path, "rb") as file:
            data = file.read()
        if is_safetensors(data[:9]):
            kind = "safetensors"
            arrays, notes = _read_safetensors(data), []
        else:
            kind = "PyTorch"
            read = _read_zip if data[:2] == b"PK" else _read_legacy
            arrays, found = read(data)
            notes = _notes(found)
        require_floats(arrays)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); expected a state dict") from error
    except OtherContent as error:
        raise WeightsError(f"{path}: {error}") from error
    except _BAD as error:
        problem = f"not a {kind} file, or an incomplete or damaged one ({error}); use another copy"
        raise WeightsError(f"{path}: {problem}") from error
    return StateDict(as_float32(arrays), notes)


def _notes(found: FoundTensors) -> List[str]:
    if not found.keys:
        return []
    others = f"; the file also has {list_names(list(found.others))}" if found.others else ""
    return [f"read from {'.'.join(found.keys)}{others}"]


def _read_safetensors(data: bytes) -> Dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in sorted(deserialize(data), key=lambda item: item[0]):  # else in a random order
        dtype = tensor["dtype"]
        if dtype not in SAFETENSORS_DTYPES:
            raise OtherContent(f"{name} has type {dtype}; give float32, float16 or bfloat16 weights")
        values = np.frombuffer(tensor["data"], SAFETENSORS_DTYPES[dtype]).reshape(tensor["shape"])
        arrays[name] = widen_bfloat16(values) if dtype == "BF16" else values.copy()
    if not arrays:
        raise OtherContent("holds no tensors")
    return arrays


def _read_zip(data: bytes) -> Tuple[Dict[str, np.ndarray], FoundTensors]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        folder = _pytorch_folder(list(entries))
        if entries[f"{folder}data.pkl"].file_size > LARGEST_PICKLE:
            raise OtherContent("holds far more than the weights of a MobileNet; save the state dict alone")
        order = entries.get(f"{folder}byteorder")
        if order is not None and (order.file_size > 16 or _entry(archive, order) != b"little"):
            raise OtherContent("written on a big-endian computer; save it on another one")

        def content(storage: Storage) -> bytes:
            info = entries[f"{folder}data/{storage.key}"]
            if info.compress_type != zipfile.ZIP_STORED:  # a small compressed file could expand to any size
                raise OtherContent(f"{info.filename} is compressed; unpack it, PyTorch does not compress")
            return _entry(archive, info)

        unpickler = InertUnpickler(io.BytesIO(_entry(archive, entries[f"{folder}data.pkl"])))
        found = find_tensors(unpickler.load())
        return _arrays(found, content, len(data)), found


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Content of a file in the archive, with its checksum verified if there is one.

    PyTorch writes 0 after `torch.serialization.set_crc32_options(False)`.
    """
    if getattr(info, "CRC", None) == 0:
        del info.CRC
    return archive.read(info)


def _pytorch_folder(names: List[str]) -> str:
    """Folder in the archive that holds ``data.pkl``; raises OtherContent if PyTorch did not save weights."""
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise OtherContent("a TorchScript archive; save torch.jit.load(FILE).state_dict() instead")
    if any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        raise OtherContent("an exported program of torch.export; save the state dict instead")
    if any(name.endswith("/.data/extern_modules") for name in names):
        raise OtherContent("a package of torch.package; save the state dict instead")
    if any(name.endswith("model.weights.h5") for name in names):
        raise OtherContent("a Keras model; it cannot be converted")
    if names and all(name.endswith(".npy") for name in names):
        raise OtherContent("an .npz file of NumPy arrays; save them as .safetensors or .params")
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise OtherContent(f"a zip archive that PyTorch did not write ({list_names(names, 3)}); unpack it")
    return pickles[0][: -len("data.pkl")]


def _read_legacy(data: bytes) -> Tuple[Dict[str, np.ndarray], FoundTensors]:
    """Read the format before PyTorch 1.6: five pickles, the fourth the content, then the storages."""
    file = io.BytesIO(data)
    first = InertUnpickler(file).load()
    if first != LEGACY_MAGIC:
        find_tensors(first)  # says what the pickle holds instead
        raise ValueError("a pickle, but not from PyTorch")
    if InertUnpickler(file).load() != LEGACY_PROTOCOL:
        raise ValueError("unknown protocol")
    system = InertUnpickler(file).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise OtherContent("written on a big-endian computer; save it on another one")
    unpickler = InertUnpickler(file)
    found = find_tensors(unpickler.load())
    keys = InertUnpickler(file).load()
    stored: Dict[str, memoryview] = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        if key not in unpickler.storages:
            raise ValueError(f"storage {key} belongs to no tensor")
        start, size = file.tell(), length * unpickler.storages[key].itemsize
        if length < 0 or start + size > len(data):
            raise ValueError("truncated")
        stored[key] = memoryview(data)[start : start + size]
        file.seek(start + size)
    return _arrays(found, lambda storage: stored[storage.key], len(data)), found


def _arrays(
    found: FoundTensors, content: Callable[[Storage], Union[bytes, memoryview]], size: int
) -> Dict[str, np.ndarray]:
    """Arrays of the tensors; `size` is that of the file and limits their total size."""
    storages: Dict[str, np.ndarray] = {}
    arrays, total = {}, 0
    for name, tensor in found.tensors.items():
        storage = tensor.storage
        if storage.key not in storages:
            values = np.frombuffer(content(storage), numpy_dtype(storage.kind))
            if len(values) != storage.length:
                raise ValueError("tensor and storage do not match")
            storages[storage.key] = values
        total += prod(tensor.shape) * 4
        if total > MOST_EXPANSION * size:
            raise ValueError("tensors larger than the file")
        arrays[name] = _array(tensor, storages[storage.key])
    return arrays


def _array(tensor: Tensor, flat: np.ndarray) -> np.ndarray:
    (kind, _, length), shape, strides = tensor.storage, tensor.shape, tensor.strides
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError("tensor of a wrong shape")
    last = tensor.offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides))
    if prod(shape) > length or (0 not in shape and last >= length):
        raise ValueError("tensor exceeds its storage")
    steps = [stride * flat.itemsize for stride in strides]
    values = np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)
    return widen_bfloat16(values) if kind.dtype == "bfloat16" else values.copy()
