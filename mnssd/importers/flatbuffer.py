"""TFLite flatbuffers as plain values; every length is checked before it is used.

The schema classes are those of the ``tflite`` package. They follow any offset in the file: reading past its
end raises an error of `struct` or NumPy, which becomes one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..errors import ImportedFileError, OptionError
from .refusal import refusing

MOST_OPERATORS, MOST_TENSORS, MOST_AXES = 1_000, 5_000, 8
"""More come from a damaged file: these networks have a hundred."""

DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 9: "i1"}
"""NumPy's types by ``TensorType``."""


@dataclass
class Tensor:
    """A tensor: `data` is None unless it is constant; `scale` and `zero` are per tensor or per channel."""

    index: int
    name: str
    shape: Tuple[int, ...]
    kind: int
    data: Optional[Any] = None
    scale: Optional[np.ndarray] = None
    zero: Optional[np.ndarray] = None
    axis: int = 0

    @property
    def is_quantized(self) -> bool:
        return self.scale is not None

    def values(self) -> np.ndarray:
        """The constant as real numbers, exactly: ``(q - zero) * scale`` in float64, rounded to float32."""
        if self.kind not in DTYPES or self.data is None:
            raise ImportedFileError(f"tensor {self.name!r}: expected a constant of numbers")
        dtype = np.dtype(DTYPES[self.kind])
        count = int(np.prod(self.shape, dtype=np.float64))
        if count * dtype.itemsize != len(self.data):
            raise ImportedFileError(
                f"tensor {self.name!r}: {len(self.data)} bytes for shape {self.shape} of {dtype}"
            )
        stored = np.frombuffer(self.data, dtype).reshape(self.shape)
        if self.scale is None or self.zero is None:
            return stored.astype(np.float32) if stored.dtype.kind == "f" else stored
        sides = [1] * len(self.shape)
        if len(self.scale) > 1:
            sides[self.axis] = len(self.scale)
        scale, zero = (value.reshape(sides) for value in (self.scale, self.zero))
        return ((stored - zero) * scale).astype(np.float32)


@dataclass
class Op:
    """An operator: its builtin or custom name, tensors, and its flatbuffer options."""

    index: int
    name: str
    inputs: List[int]
    outputs: List[int]
    table: Any
    custom: bytes = b""

    def options(self, kind: str) -> Any:
        """The builtin options as a class of the schema."""
        found = getattr(_schema(), kind)()
        table = self.table.BuiltinOptions()
        if table is None:
            raise ImportedFileError(f"operator {self.index} {self.name}: has no options")
        found.Init(table.Bytes, table.Pos)
        return found


@dataclass
class FlatGraph:
    """The main subgraph of a file."""

    tensors: List[Tensor]
    operators: List[Op]
    inputs: List[int]
    outputs: List[int]

    def tensor(self, index: int) -> Tensor:
        """A tensor by its index; ImportedFileError if there is none."""
        if not 0 <= index < len(self.tensors):
            raise ImportedFileError(f"tensor {index}: the file has {len(self.tensors)}")
        return self.tensors[index]


def _schema() -> Any:
    try:
        import tflite
    except ImportError as error:
        raise OptionError(
            "reading .tflite files needs the package tflite; install it with: pip install 'mnssd[import]'"
        ) from error
    return tflite


def read_flatbuffer(path: str, data: bytes) -> FlatGraph:
    """Parse a file; raises ImportedFileError that names the part that is damaged."""
    tflite = _schema()
    with refusing(path, "the header"):
        model = tflite.Model.GetRootAsModel(data, 0)
        if model.SubgraphsLength() != 1:
            raise ImportedFileError(f"{model.SubgraphsLength()} subgraphs, expected 1")
        graph = model.Subgraphs(0)
        counts = graph.TensorsLength(), graph.OperatorsLength()
        if counts[0] > MOST_TENSORS or not 0 < counts[1] <= MOST_OPERATORS:
            raise ImportedFileError(
                f"{counts[0]} tensors and {counts[1]} operators; damaged or another network"
            )
        inputs, outputs = (_indices(graph, which) for which in ("Inputs", "Outputs"))
    tensors = []
    for index in range(counts[0]):
        with refusing(path, f"tensor {index}"):
            tensors.append(_tensor(model, graph.Tensors(index), index))
    operators = []
    names = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    for index in range(counts[1]):
        with refusing(path, f"operator {index}"):
            operators.append(_operator(model, graph.Operators(index), index, names))
    return FlatGraph(tensors, operators, inputs, outputs)


def _indices(table: Any, which: str) -> List[int]:
    count = getattr(table, f"{which}Length")()
    if count > MOST_TENSORS:
        raise ImportedFileError(f"{count} {which.lower()}")
    return [int(getattr(table, which)(i)) for i in range(count)]


def _tensor(model: Any, table: Any, index: int) -> Tensor:
    axes = table.ShapeLength()
    if axes > MOST_AXES:
        raise ImportedFileError(f"{axes} axes")
    shape = tuple(int(table.Shape(i)) for i in range(axes))
    name = (table.Name() or b"").decode("utf-8", "replace")
    result = Tensor(index, name, shape, int(table.Type()))
    buffer = table.Buffer()
    if buffer >= model.BuffersLength():
        raise ImportedFileError(f"buffer {buffer} of {model.BuffersLength()}")
    content = model.Buffers(buffer)
    if content is not None and content.DataLength():
        if min(shape, default=1) < 0:
            raise ImportedFileError(f"shape {shape}")
        result.data = content.DataAsNumpy()  # a view: many tensors may share it
    _read_quantization(table.Quantization(), result)
    return result


def _read_quantization(quantization: Any, tensor: Tensor) -> None:
    count = 0 if quantization is None else quantization.ScaleLength()
    if not count:
        return
    tensor.axis = int(quantization.QuantizedDimension())
    is_per_channel = count > 1
    if is_per_channel and (not 0 <= tensor.axis < len(tensor.shape) or tensor.shape[tensor.axis] != count):
        raise ImportedFileError(f"{count} scales for shape {tensor.shape}")
    tensor.scale = np.asarray(quantization.ScaleAsNumpy(), np.float64)
    zeros = quantization.ZeroPointLength()
    if zeros not in (0, count):
        raise ImportedFileError(f"{zeros} zero points for {count} scales")
    tensor.zero = np.asarray(quantization.ZeroPointAsNumpy() if zeros else np.zeros(count), np.float64)
    if not np.isfinite(tensor.scale).all() or tensor.scale.min() <= 0:
        raise ImportedFileError("a scale that is not above 0")


def _operator(model: Any, table: Any, index: int, names: Dict[int, str]) -> Op:
    position = table.OpcodeIndex()
    if position >= model.OperatorCodesLength():
        raise ImportedFileError(f"code {position} of {model.OperatorCodesLength()}")
    code = model.OperatorCodes(position)
    # Files before 2020 have only the first, a byte; later ones both.
    number = max(int(code.DeprecatedBuiltinCode()), int(code.BuiltinCode()))
    name, custom = names.get(number, str(number)), b""
    if name == "CUSTOM":
        name = (code.CustomCode() or b"").decode("utf-8", "replace")
        custom = table.CustomOptionsAsNumpy().tobytes() if table.CustomOptionsLength() else b""
    inputs, outputs = (_indices(table, which) for which in ("Inputs", "Outputs"))
    return Op(index, name, inputs, outputs, table, custom)
