"""Reader of PyTorch's pickles as inert data: nothing that a pickle names is imported, called or built."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any, Callable, ClassVar, Dict, List, NamedTuple, Tuple

import numpy as np

from .content import OtherContent

LARGEST_PICKLE = 16 << 20
"""Bytes. A MobileNetV2, names and shapes only, has 40,000; with its training script's state, 200,000."""


class StorageKind(NamedTuple):
    """Storage type: bytes per element, and the dtype with which NumPy reads it.

    The dtype is ``''`` if NumPy has none, and ``'bfloat16'`` for bfloat16.
    """

    name: str
    itemsize: int
    dtype: str = ""


_STORAGES = {
    kind.name: kind
    for kind in (
        StorageKind("FloatStorage", 4, "<f4"), StorageKind("DoubleStorage", 8, "<f8"),
        StorageKind("HalfStorage", 2, "<f2"), StorageKind("BFloat16Storage", 2, "bfloat16"),
        StorageKind("LongStorage", 8, "<i8"), StorageKind("IntStorage", 4, "<i4"),
        StorageKind("ShortStorage", 2, "<i2"), StorageKind("CharStorage", 1, "i1"),
        StorageKind("ByteStorage", 1, "u1"), StorageKind("BoolStorage", 1, "?"),
        StorageKind("UntypedStorage", 1, "u1"), StorageKind("ComplexFloatStorage", 8),
        StorageKind("ComplexDoubleStorage", 16), StorageKind("QInt8Storage", 1),
        StorageKind("QUInt8Storage", 1), StorageKind("QInt32Storage", 4), StorageKind("QUInt4x2Storage", 1),
        StorageKind("QUInt2x4Storage", 1),
    )
}  # fmt: skip


class Storage(NamedTuple):
    """Reference to a block of tensor data, with `length` elements."""

    kind: StorageKind
    key: str
    length: int


class Tensor(NamedTuple):
    """A tensor as pickled: a view of a storage, with offset and strides in elements."""

    storage: Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


class Name(NamedTuple):
    """A class or function that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Object:
    """An object that the pickle describes: its class or function, arguments, attributes and entries."""

    __slots__ = ("args", "entries", "factory", "state")

    def __init__(self, factory: Name, args: Tuple[Any, ...]) -> None:
        self.factory, self.args = factory, args
        self.state: Any = None
        self.entries: Dict[Any, Any] = {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, value: Any) -> None:
        """Ignore an element of a list or set; no weights are stored so."""

    add = extend = append


# Functions that a harmless checkpoint does not call. They are not called here either, but they would be by
# `torch.load`: a file with them is not worth keeping.
_HOSTILE_MODULES = {
    "os", "posix", "nt", "subprocess", "pty", "runpy", "shutil", "socket", "webbrowser", "ctypes",
    "importlib", "sys", "code", "commands",
}  # fmt: skip
_HOSTILE_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint"}


class InertUnpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Builds only dictionaries, lists, numbers, strings, and the classes of this file.

    Based on the unpickler in Python: the one in C allocates as much memory as a hostile pickle asks for.
    """

    # The base class's methods by opcode.
    dispatch: ClassVar[Dict[int, Callable[[Any], None]]] = dict(
        pickle._Unpickler.dispatch  # type: ignore[attr-defined]
    )
    stack: List[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # for bytes of Python 2
        self.storages: Dict[str, StorageKind] = {}

    def find_class(self, module: str, name: str) -> Any:
        if name in _STORAGES and module in ("torch", "torch.storage", "torch.cuda"):
            return _STORAGES[name]
        return Name(module, name)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("refers to Python's registry of extensions")

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # before PyTorch 1.6: a class with its source code
            return pid[1]
        tag, kind, key, _, length = pid[:5]
        if tag != "storage" or not isinstance(kind, StorageKind) or not isinstance(length, int):
            raise pickle.UnpicklingError("unknown persistent object")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("storage view of PyTorch before 0.4")
        if self.storages.setdefault(str(key), kind) != kind:
            raise pickle.UnpicklingError("storage of two types")
        return Storage(kind, str(key), length)

    def _instantiate(self, klass: Any, args: List[Any]) -> None:
        self.append(_describe_call(klass, tuple(args)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _describe_call(self.stack[-1], args)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # keyword arguments
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Object):
            self.stack[-1].state = state

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(self.read(min(length, LARGEST_PICKLE)))  # the original allocates `length` bytes first

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _describe_call(function: Any, args: Any) -> Any:
    """What the pickle asks to call, as data."""
    if not isinstance(function, Name) or not isinstance(args, tuple):
        raise pickle.UnpicklingError("calls something that is not a function")
    module, name = function
    root = module.split(".")[0]
    if root in _HOSTILE_MODULES or (root in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS):
        raise OtherContent(f"contains code that would call {function} when PyTorch loads it; delete the file")
    if function in _FUNCTIONS:
        return _FUNCTIONS[function](*args)
    if name == "_reconstructor" and module in ("copyreg", "copy_reg") and args:  # pickle protocols 0 and 1
        return _describe_call(args[0], ())
    return Object(function, args)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("tensor without a storage or a shape")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _dictionary(*args: Any) -> Dict[Any, Any]:
    """OrderedDict and defaultdict; Python 2 passes a list of pairs, defaultdict the class of its values."""
    pairs = args[0] if args and isinstance(args[0], list) else []
    return OrderedDict(pairs)


def _pickled_storage(*_: Any) -> None:
    """A storage within a pickle that Python's `pickle.dump` wrote, without `torch.save`."""
    raise OtherContent("tensors saved by pickle.dump; load them in PyTorch and save them by torch.save")


_FUNCTIONS: Dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _dictionary,
    Name("collections", "defaultdict"): _dictionary,
    Name("torch.storage", "_load_from_bytes"): _pickled_storage,
    Name("torch", "Size"): lambda extents=(): tuple(extents),
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    Name("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    Name("torch.nn.parameter", "Parameter"): lambda data, *_: data,
    Name("torch._tensor", "_rebuild_from_type_v2"): lambda function, _, args, *__: _describe_call(
        function, args
    ),
}


def numpy_dtype(kind: StorageKind) -> np.dtype:
    """Dtype of the stored elements; for bfloat16, which NumPy lacks, uint16."""
    if not kind.dtype:
        raise OtherContent(f"holds tensors of type {kind.name}; only floating-point weights can be loaded")
    return np.dtype("<u2" if kind.dtype == "bfloat16" else kind.dtype)
