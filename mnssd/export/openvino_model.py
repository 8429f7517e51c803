"""OpenVINO on the CPU: models in its intermediate representation (IR), and the engine that runs them."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence

import numpy as np

from ..errors import ExportError
from ..runtime import settings
from ..runtime.openvino import import_openvino, openvino_core
from .engines import Engine, last_line


def save_ir(onnx_model: bytes, paths: Sequence[Path]) -> None:
    """Convert a serialized ONNX model to IR, an XML file and a ``.bin`` file of its weights.

    OpenVINO takes only names in UTF-8 and chooses that of the second file; it writes to a temporary folder.

    Raises
    ------
    ExportError
        If OpenVINO is not installed, or cannot convert the model.
    """
    openvino = _openvino_for(paths[0])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.xml"
        try:
            model = openvino_core().read_model(onnx_model)
            openvino.save_model(model, str(written), compress_to_fp16=False)
        except RuntimeError as error:
            raise ExportError(f"{paths[0].name}: OpenVINO cannot write it ({last_line(error)})") from error
        for path in paths:
            shutil.copyfile(str(written.with_suffix(path.suffix)), str(path))


def read_ir(paths: Sequence[Path]) -> Any:
    """Read an XML file and its ``.bin`` file into an `openvino.Model`.

    Raises
    ------
    ExportError
        If OpenVINO is not installed, or cannot read them.
    """
    xml, weights = paths
    openvino = _openvino_for(xml)
    try:
        content = openvino.Tensor(np.fromfile(str(weights), np.uint8))
        return openvino_core().read_model(xml.read_bytes(), content)
    except Exception as error:  # RuntimeError, or UnicodeDecodeError where its text quotes damaged bytes
        raise ExportError(f"{xml}: OpenVINO cannot read it ({last_line(error)}); export it again") from error


def _openvino_for(path: Path) -> Any:
    """The module; ExportError that names a file if it cannot be imported."""
    try:
        return import_openvino()
    except ImportError as error:
        raise ExportError(
            f"{path}: OpenVINO cannot be imported ({last_line(error)}); install it with: pip install openvino"
        ) from error


def with_outputs(model: Any, names: Sequence[str], path: Path) -> Any:
    """The part of a model that computes some tensors, its outputs; ExportError if it has no such tensor."""
    outputs = {
        name: output for node in model.get_ordered_ops() for output in node.outputs()
        for name in output.get_names()
    }  # fmt: skip
    missing = [name for name in names if name not in outputs]
    if missing:
        raise ExportError(f"{path}: has no tensor {missing[0]!r}; export it again")
    return import_openvino().Model([outputs[name] for name in names], model.get_parameters())


def check_ports(model: Any, expected: Mapping[str, Sequence[Optional[int]]], path: Path) -> None:
    """Raise ExportError unless input and outputs have these names and shapes, None for any length."""
    actual = {port.any_name: port.partial_shape for port in (*model.inputs, *model.outputs) if port.names}
    for name, shape in expected.items():
        if name not in actual:
            raise ExportError(f"{path}: another network, without the tensor {name!r}; export it again")
        dims = actual[name]
        lengths = [dims[i] for i in range(len(dims))] if dims.rank.is_static else []
        found = [None if length.is_dynamic else length.get_length() for length in lengths]
        if len(found) != len(shape) or any(a is not None and a != b for a, b in zip(shape, found)):
            raise ExportError(
                f"{path}: another network, whose {name!r} has shape {dims} instead of"
                f" {['?' if length is None else length for length in shape]}; export it again"
            )


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_model(model: Any, precision: str = "f32") -> Any:
    """Compile an `openvino.Model` for the CPU.

    By default OpenVINO computes in bfloat16 where the processor can, and binds its threads to cores, which
    several processes would then share.

    Parameters
    ----------
    precision : str
        ``f32`` or ``bf16``. Convolutions of 8-bit models have 8 bits in either case.
    """
    return openvino_core().compile_model(
        model, "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": settings.engine_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        },
    )  # fmt: skip


class OpenVINOEngine(Engine):
    """An `openvino.Model`. Calls are serialized, because a request must not run in two threads at once.

    Raises
    ------
    ExportError
        If OpenVINO cannot compile the model, or, in a call, run it.
    """

    def __init__(self, model: Any, takes_pixels: bool, path: Path, precision: str = "f32") -> None:
        """`path` is the file of the model, for messages."""
        self.takes_pixels, self._path, self._lock = takes_pixels, path, threading.Lock()
        try:
            self._request = compile_model(model, precision).create_infer_request()
        except RuntimeError as error:
            raise self._failure(error) from error

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        with self._lock:
            try:
                return list(self._request.infer(x, share_inputs=True).values())
            except RuntimeError as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception) -> ExportError:
        return ExportError(f"{self._path}: OpenVINO cannot run it ({last_line(error)}); export it again")
