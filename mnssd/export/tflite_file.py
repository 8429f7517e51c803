"""TensorFlow Lite's flatbuffers, written with the schema classes of the package ``tflite``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

SCHEMA_VERSION, IDENTIFIER = 3, b"TFL3"
"""Version of the schema, and the bytes that follow the first four."""

ALIGNMENT = 16
"""Of a buffer's data in bytes; kernels read it in place."""

KINDS = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}
"""``TensorType`` of the schema by NumPy's name."""


@dataclass
class FlatTensor:
    """A tensor; `data` is that of a constant.

    A `batched` tensor has any number of images; its shape is that for one. `scale` and `zero` make numbers of
    its integers, ``(q - zero) * scale``, for the whole tensor or along `axis`.
    """

    name: str
    shape: Tuple[int, ...]
    dtype: str = "float32"
    data: Optional[np.ndarray] = None
    scale: Optional[np.ndarray] = None
    zero: Optional[np.ndarray] = None
    axis: int = 0
    batched: bool = False


@dataclass
class FlatOperator:
    """An operator: its name and version in the schema, tensors by index, and its options."""

    code: Tuple[str, int]
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


class FlatModel:
    """Tensors and operators of a file, in the order in which they were added."""

    def __init__(self) -> None:
        self.tensors: List[FlatTensor] = []
        self.operators: List[FlatOperator] = []

    def tensor(self, tensor: FlatTensor) -> int:
        """Add a tensor; returns its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: Any, dtype: str = "float32", **quantization: Any) -> int:
        """Add a constant tensor; returns its index."""
        data = np.ascontiguousarray(values, dtype)
        return self.tensor(FlatTensor(name, data.shape, dtype, data, **quantization))

    def add(
        self, code: str, inputs: Sequence[int], output: FlatTensor, options: str = "", **values: float
    ) -> int:
        """Append an operator, with `values` for its options; returns the index of its output.

        A number after a colon in `code` is the operator's version.
        """
        name, _, version = code.partition(":")
        index = self.tensor(output)
        operator = FlatOperator((name, int(version or 1)), inputs, [index], options, values)
        self.operators.append(operator)
        return index

    def to_bytes(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The file."""
        return _Serializer(self).finish(inputs, outputs, description)


class _Serializer:
    def __init__(self, model: FlatModel) -> None:
        import flatbuffers
        import tflite

        data = sum(tensor.data.nbytes for tensor in model.tensors if tensor.data is not None)
        self._model, self._schema = model, tflite
        self._builder = flatbuffers.Builder(data + (1 << 20))

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        builder = self._builder
        codes = sorted({operator.code for operator in self._model.operators})
        # Flatbuffers are written from the end; the weights come last in the file.
        buffers = [self._buffer(None)]  # the first is empty by convention
        places: List[int] = []
        for tensor in self._model.tensors:
            places.append(len(buffers) if tensor.data is not None else 0)
            if tensor.data is not None:
                buffers.append(self._buffer(tensor.data))
        tensors = [self._tensor(tensor, place) for tensor, place in zip(self._model.tensors, places)]
        operators = [self._operator(operator, codes) for operator in self._model.operators]
        parts = {
            "Tensors": self._offsets(tensors), "Operators": self._offsets(operators),
            "Inputs": self._integers(inputs), "Outputs": self._integers(outputs),
        }  # fmt: skip
        graph = self._table("SubGraph", parts)
        model = self._table(
            "Model",
            {
                "Version": SCHEMA_VERSION,
                "OperatorCodes": self._offsets([self._code(*code) for code in codes]),
                "Subgraphs": self._offsets([graph]),
                "Description": builder.CreateString(description),
                "Buffers": self._offsets(buffers),
            },
        )
        builder.Finish(model, IDENTIFIER)
        return bytes(builder.Output())

    def _table(self, name: str, fields: Mapping[str, Any]) -> int:
        builder = self._builder
        getattr(self._schema, f"{name}Start")(builder)
        for key, value in fields.items():
            getattr(self._schema, f"{name}Add{key}")(builder, value)
        return int(getattr(self._schema, f"{name}End")(builder))

    def _buffer(self, data: Optional[np.ndarray]) -> int:
        if data is None:
            return self._table("Buffer", {})
        builder, content = self._builder, data.astype(data.dtype.newbyteorder("<")).tobytes()
        builder.StartVector(1, len(content), ALIGNMENT)
        builder.head -= len(content)
        builder.Bytes[builder.head : builder.head + len(content)] = content
        return self._table("Buffer", {"Data": builder.EndVector()})

    def _tensor(self, tensor: FlatTensor, buffer: int) -> int:
        fields: Dict[str, Any] = {
            "Shape": self._integers(tensor.shape), "Type": KINDS[tensor.dtype], "Buffer": buffer,
            "Name": self._builder.CreateString(tensor.name),
        }  # fmt: skip
        if tensor.batched:
            fields["ShapeSignature"] = self._integers((-1, *tensor.shape[1:]))
        if tensor.scale is not None and tensor.zero is not None:
            scale = self._builder.CreateNumpyVector(np.atleast_1d(tensor.scale).astype("<f4"))
            zero = self._builder.CreateNumpyVector(np.atleast_1d(tensor.zero).astype("<i8"))
            quantization = {"Scale": scale, "ZeroPoint": zero, "QuantizedDimension": tensor.axis}
            fields["Quantization"] = self._table("QuantizationParameters", quantization)
        return self._table("Tensor", fields)

    def _operator(self, operator: FlatOperator, codes: Sequence[Tuple[str, int]]) -> int:
        fields: Dict[str, Any] = {
            "OpcodeIndex": codes.index(operator.code),
            "Inputs": self._integers(operator.inputs),
            "Outputs": self._integers(operator.outputs),
        }
        if operator.options:
            fields["BuiltinOptionsType"] = getattr(self._schema.BuiltinOptions, operator.options)
            fields["BuiltinOptions"] = self._table(operator.options, operator.values)
        return self._table("Operator", fields)

    def _code(self, name: str, version: int) -> int:
        number = getattr(self._schema.BuiltinOperator, name)
        fields = {"DeprecatedBuiltinCode": min(number, 127), "Version": version, "BuiltinCode": number}
        return self._table("OperatorCode", fields)

    def _integers(self, values: Sequence[int]) -> int:
        return int(self._builder.CreateNumpyVector(np.array(values, "<i4")))

    def _offsets(self, offsets: Sequence[int]) -> int:
        builder = self._builder
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
