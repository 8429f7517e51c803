"""TensorFlow Lite on the CPU: the engine that runs its files, in LiteRT."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ..errors import ExportError
from ..runtime import settings
from .engines import Engine, last_line
from .formats.tflite import RUNTIME

Shape = Sequence[Optional[int]]
"""Of a tensor; None for any number of images."""


class Ports(NamedTuple):
    """Names and shapes of the input and of the outputs of a file."""

    input: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def load_interpreter(content: bytes, path: Path, threads: int = 1, **options: Any) -> Any:
    """An interpreter of a file that was read from `path`.

    Raises
    ------
    ExportError
        If no runtime is installed, or it cannot load the file.
    """
    interpreter = _import_interpreter(path)
    try:
        return interpreter.Interpreter(model_content=content, num_threads=threads, **options)
    except (ValueError, RuntimeError) as error:
        raise _failure(path, error) from error


def _import_interpreter(path: Path) -> Any:
    """The module ``interpreter`` of LiteRT, or of its predecessor."""
    try:
        try:
            from ai_edge_litert import interpreter
        except ImportError:
            from tflite_runtime import interpreter
    except ImportError as error:
        raise ExportError(
            f"{path}: LiteRT, which runs it, is not installed; install it with: pip install {RUNTIME[1]}"
        ) from error
    return interpreter


def _failure(path: Path, error: Exception) -> ExportError:
    return ExportError(f"{path}: LiteRT cannot run it ({last_line(error)}); export it again")


class TFLiteEngine(Engine):
    """A file of TensorFlow Lite. Calls are serialized, because an interpreter has one input.

    Raises
    ------
    ExportError
        If LiteRT is not installed, cannot run the file, or the file has other inputs or outputs than `ports`.
    """

    def __init__(self, content: bytes, takes_pixels: bool, path: Path, ports: Ports) -> None:
        """`path` is the file of the content, for messages."""
        self.takes_pixels, self._path, self._lock = takes_pixels, path, threading.Lock()
        self._interpreter = load_interpreter(content, path, settings.engine_threads())
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _check_ports(path, inputs, ports.input)
        _check_ports(path, outputs, ports.outputs)
        kinds = [detail["dtype"] for detail in (*inputs, *outputs)]
        if kinds != [np.uint8 if takes_pixels else np.float32] + [np.float32] * len(outputs):
            raise ExportError(f"{path}: another network, with other types of numbers; export it again")
        places = {detail["name"]: detail["index"] for detail in outputs}
        self._input, self._outputs = inputs[0]["index"], [places[name] for name in ports.outputs]
        self._shape: Sequence[int] = ()

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        if not self.takes_pixels:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        with self._lock:
            try:
                if x.shape != self._shape:
                    self._shape = ()  # if resizing fails
                    self._interpreter.resize_tensor_input(self._input, list(x.shape), strict=True)
                    self._interpreter.allocate_tensors()
                    self._shape = x.shape
                self._interpreter.set_tensor(self._input, x)
                self._interpreter.invoke()
                return [self._interpreter.get_tensor(index) for index in self._outputs]
            except (ValueError, RuntimeError) as error:
                raise _failure(self._path, error) from error


def _check_ports(path: Path, details: Sequence[Mapping[str, Any]], expected: Mapping[str, Shape]) -> None:
    """Raise ExportError unless tensors have these names and shapes."""
    shapes = {detail["name"]: detail["shape_signature"].tolist() for detail in details}
    wanted = {name: [-1 if side is None else side for side in shape] for name, shape in expected.items()}
    if shapes != wanted:
        raise ExportError(f"{path}: another network, with {shapes} instead of {wanted}; export it again")


def with_output(content: bytes, name: str) -> bytes:
    """A file with one output that has another tensor as its output; ValueError if it has no such tensor."""
    import tflite

    changed = bytearray(content)
    graph = tflite.Model.GetRootAsModel(changed, 0).Subgraphs(0)
    names = [graph.Tensors(i).Name() for i in range(graph.TensorsLength())]
    graph.OutputsAsNumpy()[0] = names.index(name.encode())
    return bytes(changed)
