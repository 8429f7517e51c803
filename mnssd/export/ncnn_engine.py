"""ncnn on the CPU: the engine that runs its files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, List, Mapping, Sequence

import numpy as np

from ..errors import ExportError
from ..files import utf8_path
from ..options import Size
from ..runtime import settings
from .engines import Engine, last_line
from .ncnn_check import Dims, check_files
from .sidecar import PIXELS_NAME

ANCHORS = "anchors"
"""The output of a detector that does not depend on the image."""

HALF_OPTIONS = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"
)  # fmt: skip
"""Options of ncnn that round activations to 16 bits, on processors that can compute with them."""


def _import_ncnn(path: Path) -> Any:
    """The module; ExportError that names a file if it cannot be imported."""
    try:
        import ncnn
    except ImportError as error:
        raise ExportError(
            f"{path}: ncnn, which runs it, cannot be imported ({last_line(error)}); install it with:"
            " pip install ncnn"
        ) from error
    return ncnn


class NcnnEngine(Engine):
    """A network in ncnn, one image after the other. Calls are serialized, as threads share its memory.

    Raises
    ------
    ExportError
        If ncnn is not installed, a file is damaged or of another network, or, in a call, ncnn cannot run it.
    """

    takes_pixels = True

    def __init__(
        self,
        paths: Sequence[Path],
        weights: str,
        size: Size,
        outputs: Mapping[str, Dims],
        tensors: Sequence[str],
    ) -> None:
        """`paths` are the text and the weights; the other arguments as in `check_files`.

        `tensors` are those that a call returns, in the order of their computation.
        """
        self._path, self._size, self._tensors = paths[0], size, tensors
        self._ncnn, self._lock = _import_ncnn(paths[0]), threading.Lock()
        content = paths[1].read_bytes()
        try:
            text = paths[0].read_bytes().decode("ascii")
            shapes = check_files(text, content, weights, size, outputs)
        except ValueError as error:
            names = f"{paths[0]} and {paths[1].name}"
            raise ExportError(f"{names}: damaged or of another network ({error}); export it again") from error
        missing = [name for name in tensors if name not in shapes]
        if missing:
            raise ExportError(f"{paths[0]}: has no tensor {missing[0]!r}; export it again")
        self._net = self._ncnn.Net()
        options = self._net.opt
        options.num_threads, options.use_vulkan_compute = settings.engine_threads(), False
        if weights == "float32":
            for option in HALF_OPTIONS:
                setattr(options, option, False)
        with utf8_path(paths[1]) as file:
            if self._net.load_param_mem(text) or self._net.load_model(file):
                raise self._failure("it cannot be loaded")

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        with self._lock:
            images = [self._run_image(np.ascontiguousarray(image)) for image in x]
        return [np.stack(arrays) for arrays in zip(*images)]

    def _run_image(self, image: np.ndarray) -> List[np.ndarray]:
        mat, kind = self._ncnn.Mat, self._ncnn.Mat.PixelType.PIXEL_RGB
        if image.shape != (self._size[1], self._size[0], 3):
            raise ExportError(f"{self._path}: takes images of {self._size}, not {image.shape}")
        extractor = self._net.create_extractor()
        extractor.input(PIXELS_NAME, mat.from_pixels(image, kind, *self._size))
        arrays = []
        for name in self._tensors:
            status, tensor = extractor.extract(name)
            if status:
                raise self._failure(f"status {status} at {name}")
            arrays.append(np.array(tensor))
        return arrays

    def _failure(self, reason: str) -> ExportError:
        return ExportError(f"{self._path}: ncnn cannot run it ({reason}); export it again")
