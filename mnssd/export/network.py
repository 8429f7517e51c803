"""A network as export formats see it; `export.detector` and `export.classifier` adapt the two kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterator, List, Mapping, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..graph.inference import fold, read_arrays
from ..graph.symbol_graph import Graph
from .calibrate import Calibration
from .options import ExportOptions
from .parity import ParityCheck
from .sidecar import INPUT_NAME, describe_format_input

if TYPE_CHECKING:
    from onnx import ModelProto

Image = Union[str, Path, bytes, np.ndarray]
"""An image file, its content, or pixels as ``(height, width, 3)`` uint8 RGB."""

SymbolAndArrays = Tuple[mx.sym.Symbol, Mapping[str, np.ndarray]]
"""A graph and its arrays under the names of a parameter file, ``arg:NAME`` and ``aux:NAME``."""

BATCH = 8
"""Images per batch of the parity check."""


class ExportedNetwork(ABC):
    """A trained network and the images to check its export on.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With its weights.
    spec : zoo.DetectorSpec or zoo.ClassifierSpec
    options : ExportOptions
    images, calibration_images : sequence of Image
        Images for the parity check; images that choose the ranges of 8-bit integers.

    Attributes
    ----------
    ctx : mxnet.Context
        Device of the weights.
    size : (int, int)
        ``(width, height)`` of the input.
    heads, outputs : tuple of str
        Tensors before decoding or softmax, and after it. In MXNet's graphs ``_output`` follows these names.
    raw_heads : bool
        Whether the export ends with the heads.
    """

    heads: ClassVar[Tuple[str, ...]]
    outputs: ClassVar[Tuple[str, ...]]
    large_axes: ClassVar[Tuple[int, ...]]
    """Number of axes of the parameters that ``--fp16-weights`` rounds."""

    def __init__(
        self,
        net: Any,
        spec: Any,
        options: ExportOptions,
        images: Sequence[Image],
        calibration_images: Sequence[Image] = (),
    ) -> None:
        self.net, self.spec, self.options = net, spec, options
        self.size: Tuple[int, int] = spec.size
        self.raw_heads = options.raw_heads
        self.ctx = next(iter(net.collect_params().values())).list_ctx()[0]
        self._images, self._calibration_images = images, calibration_images or images

    @property
    def tensors(self) -> Tuple[str, ...]:
        """Names of what the parity check compares: the heads and, unless `raw_heads`, the outputs."""
        return self.heads if self.raw_heads else (*self.heads, *self.outputs)

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration method and pixels."""
        pixels = [self.read(image) for image in self._calibration_images]
        return Calibration(self.options.calibration, pixels)

    def large_parameters(self, parameters: Mapping[str, np.ndarray]) -> List[str]:
        """Names of the parameters that ``--fp16-weights`` rounds."""
        return [name for name, value in parameters.items() if value.ndim in self.large_axes]

    def describe_format(self, suffix: str = "", **details: Any) -> Dict[str, Any]:
        """A format's section of the sidecar: its input, its outputs with `suffix`, `details`."""
        names = self.heads if self.raw_heads else self.outputs
        return {
            "input": describe_format_input(self.size, self.options.pixels),
            "outputs": [f"{name}{suffix}" for name in names],
            **details,
        }

    def batches(self) -> Iterator[Tuple[List[str], List[np.ndarray]]]:
        """Names and input pixels of the images of the parity check."""
        for start in range(0, len(self._images), BATCH):
            images = self._images[start : start + BATCH]
            names = [
                str(image) if isinstance(image, (str, Path)) else f"image {number}"
                for number, image in enumerate(images, start + 1)
            ]
            yield names, [self.read(image) for image in images]

    def network_input(self, pixels: Sequence[np.ndarray]) -> Any:
        """A batch on the network's device."""
        return mx.nd.array(to_network_input(pixels), ctx=self.ctx)

    @abstractmethod
    def describe(self) -> Dict[str, Any]:
        """Sections of the sidecar that hold for all formats."""

    @abstractmethod
    def graph(self, raw_heads: bool = False) -> SymbolAndArrays:
        """The inference graph, ending with the outputs or with the heads."""

    @abstractmethod
    def head_shapes(self) -> Dict[str, Sequence[int]]:
        """Shapes of the heads, without the batch axis."""

    @abstractmethod
    def append_onnx_outputs(self, model: ModelProto) -> None:
        """Append what turns heads into outputs to an ONNX model that ends with the heads."""

    @abstractmethod
    def read(self, image: Image) -> np.ndarray:
        """Pixels of an image at the size of the input, ``(height, width, 3)`` uint8 RGB."""

    @abstractmethod
    def run(self, pixels: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Heads and outputs of the network itself."""

    @abstractmethod
    def exact_check(self) -> ParityCheck:
        """A parity check for formats that compute in float32."""


def folded(outputs: mx.sym.Symbol, block: Any, names: Mapping[str, str]) -> SymbolAndArrays:
    """An inference graph with BatchNorm folded into the convolutions; nodes in `names` are renamed."""
    arrays = read_arrays(block)
    graph = Graph(outputs, {name: value.shape for name, value in arrays.items()})
    for node in graph.nodes():
        node.name = names.get(node.name, node.name)
    return fold(graph, arrays)


def trace(block: Any) -> List[mx.sym.Symbol]:
    """Outputs of a block as symbols."""
    outputs = block(mx.sym.var(INPUT_NAME))
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
