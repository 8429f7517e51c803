"""What computes a network's answer: MXNet, or ONNX Runtime. Both take pixels and give arrays."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, List, Protocol, Sequence, Union

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..errors import ExportError
from ..runtime import processor

EXACTLY = "session.x64quantprecision"
"""ONNX Runtime's setting for integers that are never cut off."""


def network_input(images: Sequence[np.ndarray], takes_pixels: bool) -> np.ndarray:
    """A batch as a network takes it: pixels as they are, or normalised."""
    return np.stack(images) if takes_pixels else to_network_input(images)


class Engine(Protocol):
    """A network that may be called from several threads.

    Attributes
    ----------
    takes_pixels : bool
        Whether its input is uint8, else normalised float32.
    """

    takes_pixels: bool

    def __call__(self, images: Sequence[np.ndarray]) -> List[np.ndarray]:
        """The outputs for images ``(height, width, 3)`` RGB uint8 of the network's size, one batch."""

    def answer(self, x: np.ndarray) -> List[np.ndarray]:
        """The outputs for a batch as `network_input` makes it."""


class MXNetEngine:
    """A Gluon block; calls take turns, for a block is not made for several at the same time.

    Parameters
    ----------
    block : mxnet.gluon.Block
    ctx : mxnet.Context
    takes_pixels : bool
        Whether its input is uint8, else normalised float32.
    name : str
        Its file, for messages.

    Raises
    ------
    ExportError
        From a call, when MXNet cannot compute it: its graph and its arrays do not fit.
    """

    def __init__(self, block: Any, ctx: Any, takes_pixels: bool = False, name: str = "the network") -> None:
        self._block, self._ctx, self.takes_pixels, self._name = block, ctx, takes_pixels, name
        self._turn = threading.Lock()

    def __call__(self, images: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See `Engine`."""
        return self.answer(network_input(images, self.takes_pixels))

    def answer(self, x: np.ndarray) -> List[np.ndarray]:
        """See `Engine`."""
        with self._turn:
            try:
                outputs = self._block(self._as_input(x))
                several = isinstance(outputs, (list, tuple))
                return [output.asnumpy() for output in (outputs if several else [outputs])]
            except mx.MXNetError as error:
                raise ExportError(
                    f"{self._name}: MXNet cannot compute it ({last_line(error)}); export it again"
                ) from error

    def _as_input(self, x: np.ndarray) -> Any:
        """`x` as MXNet's array, on a CPU over the same memory.

        `mxnet.nd.array` copies twice, into memory that is new each time: a fifteenth of the time that 8 bits
        take for a batch of eight. `from_numpy` makes what it is given read-only; so it gets a view.
        """
        if self._ctx.device_type != "cpu":
            return mx.nd.array(x, ctx=self._ctx, dtype=x.dtype)
        return mx.nd.from_numpy(np.ascontiguousarray(x).view())


class OnnxEngine:
    """An ONNX file in ONNX Runtime, on the CPU, with a thread a core.

    Parameters
    ----------
    model : Path or bytes
        The file, or what is in one.
    takes_pixels : bool
        Whether its input is uint8, else normalised float32.

    Raises
    ------
    ExportError
        When ONNX Runtime is not installed, or cannot load the file.
    """

    def __init__(self, model: Union[Path, bytes], takes_pixels: bool) -> None:
        name = "the ONNX model" if isinstance(model, bytes) else str(model)
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                f"{name}: ONNX Runtime is not installed; install it with: pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = processor.usable_cores()
        options.log_severity_level = 3  # errors; its warnings are about its own optimizations
        _compute_exactly(options)
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the kinds it raises have no common base
            raise ExportError(f"{name}: ONNX Runtime cannot load it ({_first_line(error)})") from error
        self._input = self._session.get_inputs()[0].name
        self.takes_pixels = takes_pixels

    def __call__(self, images: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See `Engine`."""
        return self.answer(network_input(images, self.takes_pixels))

    def answer(self, x: np.ndarray) -> List[np.ndarray]:
        """See `Engine`."""
        outputs: List[np.ndarray] = self._session.run(None, {self._input: x})
        return outputs


def _compute_exactly(options: Any) -> None:
    """Let 8-bit convolutions answer on processors without VNNI as they do on others.

    ONNX Runtime's instructions for them there add two products of 8 bits in 16, which cuts off what is too
    large. It then multiplies in 16 bits. To see it: a QDQ convolution of large inputs and weights under
    ``qemu-x86_64 -cpu Haswell`` came out at 1890 for 2580. With VNNI it takes twice the time for nothing.
    """
    if not processor.has_vnni():
        options.add_session_config_entry(EXACTLY, "1")


def last_line(error: Exception) -> str:
    """Where MXNet says the reason, behind its C++ traceback."""
    return (str(error).strip().splitlines() or [repr(error)])[-1]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]
