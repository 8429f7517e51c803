"""Inference engines: MXNet and ONNX Runtime. Both take pixels and return arrays."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, List, Sequence, Union

import numpy as np

from ..data.image import to_network_input
from ..errors import ExportError
from ..files import utf8_path
from ..runtime import processor, settings

EXACT_SUMS = "session.x64quantprecision"
"""ONNX Runtime's option for 8-bit products whose sums never saturate."""


def network_input(images: Sequence[np.ndarray], takes_pixels: bool) -> np.ndarray:
    """A batch for a network that takes uint8 pixels, or normalized float32."""
    return np.stack(images) if takes_pixels else to_network_input(images)


class Engine(ABC):
    """A loaded network. Several threads may call it."""

    takes_pixels: bool
    """Whether its input is uint8 pixels; otherwise normalized float32."""

    def __call__(self, images: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Outputs for a batch of images ``(height, width, 3)`` RGB uint8 of the network's input size."""
        return self.run(network_input(images, self.takes_pixels))

    @abstractmethod
    def run(self, x: np.ndarray) -> List[np.ndarray]:
        """Outputs for a batch from `network_input`."""


class MXNetEngine(Engine):
    """A Gluon block. Calls are serialized, because a block must not run in two threads at once.

    A call raises ExportError if MXNet cannot run the graph, for example because its parameters do not fit.
    """

    def __init__(self, block: Any, ctx: Any, takes_pixels: bool = False, name: str = "the network") -> None:
        """`name` is the file of the block, for messages."""
        import mxnet

        self._mxnet = mxnet
        self._block, self._ctx, self.takes_pixels, self._name = block, ctx, takes_pixels, name
        self._lock = threading.Lock()

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        with self._lock:
            try:
                return [output.asnumpy() for output in outputs_of(self._block, self._as_input(x))]
            except self._mxnet.MXNetError as error:
                raise ExportError(
                    f"{self._name}: MXNet cannot run it ({last_line(error)}); export it again"
                ) from error

    def _as_input(self, x: np.ndarray) -> Any:
        """`x` as an MXNet array, sharing its memory on a CPU.

        `mxnet.nd.array` copies twice into newly allocated memory, 7 % of the time of an int8 batch of eight.
        `from_numpy` makes its argument read-only, so it gets a view.
        """
        if self._ctx.device_type != "cpu":
            return self._mxnet.nd.array(x, ctx=self._ctx, dtype=x.dtype)
        return self._mxnet.nd.from_numpy(np.ascontiguousarray(x).view())


class OnnxEngine(Engine):
    """An ONNX model, a file or serialized, in ONNX Runtime on the CPU, with `settings.engine_threads`.

    `may_saturate`: see `sidecar.may_saturate`.

    Raises
    ------
    ExportError
        If ONNX Runtime is not installed or cannot load the model.
    """

    def __init__(self, model: Union[Path, bytes], takes_pixels: bool, may_saturate: bool = True) -> None:
        name = "the ONNX model" if isinstance(model, bytes) else str(model)
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                f"{name}: ONNX Runtime is not installed; install it with: pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.engine_threads()
        options.log_severity_level = 3  # errors; warnings concern its own optimizations
        if may_saturate:
            _require_exact_sums(options)
        try:
            with contextlib.ExitStack() as stack:
                source = model if isinstance(model, bytes) else stack.enter_context(utf8_path(model))
                self._session = onnxruntime.InferenceSession(
                    source, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # its exceptions have no common base class
            reason = (str(error).strip().splitlines() or [repr(error)])[0]
            raise ExportError(f"{name}: ONNX Runtime cannot load it ({reason})") from error
        self._input = self._session.get_inputs()[0].name
        self.takes_pixels = takes_pixels

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        outputs: List[np.ndarray] = self._session.run(None, {self._input: x})
        return outputs


class JoinedEngine(Engine):
    """The outputs of several engines with the same input, one after the other."""

    def __init__(self, *engines: Engine) -> None:
        self._engines, self.takes_pixels = engines, engines[0].takes_pixels

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        return [output for engine in self._engines for output in engine.run(x)]


def _require_exact_sums(options: Any) -> None:
    """Make 8-bit convolutions compute the same on processors without VNNI as on others.

    Without VNNI, ONNX Runtime adds two 8-bit products in 16 bits, which saturates: under ``qemu-x86_64 -cpu
    Haswell`` a QDQ convolution of large inputs and weights gave 1890 instead of 2580. With the option it
    multiplies in 16 bits. On processors with VNNI the option would only double the time.
    """
    if not processor.has_vnni():
        options.add_session_config_entry(EXACT_SUMS, "1")


def outputs_of(block: Any, x: Any) -> List[Any]:
    """The outputs of a Gluon block, also if it has only one; for an array or a symbol."""
    outputs = block(x)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def last_line(error: Exception) -> str:
    """The reason in an MXNet error, which follows its C++ traceback."""
    return (str(error).strip().splitlines() or [repr(error)])[-1]
