"""A classifier as files that plain MXNet or ONNX Runtime runs; as `export.detector` for detectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..errors import ExportError
from ..graph.inference import fold, read_arrays
from ..graph.symbol_graph import Graph
from ..inference.classifier import Image, prepare
from ..zoo import ClassifierSpec
from .engines import MXNetEngine, OnnxEngine
from .folder import BATCH, Exported, PathLike, Writer, symbol_writer, write_export
from .formats.int8 import Calibration, int8_graph
from .formats.symbol import SymbolAndArrays, block_with, import_symbol, make_fast, take_pixels
from .options import SYMBOL, Formats, check_installed
from .packing import pack_float16
from .parity import HEADS_TOLERANCE, SCORE_TOLERANCE, ParityResult
from .quantization_check import FLOAT16, INT8, Floor, QuantizationCheck
from .sidecar import INPUT_NAME, PIXELS_NAME, describe_input, describe_own_input

LOGITS, PROBABILITIES = BOTH = ("logits", "probabilities")
"""Names of what the network says before the softmax, inside the graph, and of the graph's output."""

Answers = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Logits and probabilities for the pixels of a batch."""


@dataclass
class ClassifierParityCheck:
    """What was compared, and the largest differences.

    Attributes
    ----------
    images : int
    ambiguous : int
        Images whose first two classes change places because of rounding.
    logits_max_difference, probability_max_difference : float
    """

    images: int = 0
    ambiguous: int = 0
    logits_max_difference: float = 0.0
    probability_max_difference: float = 0.0

    def as_dict(self) -> Dict[str, Any]:
        """For the sidecar, with the tolerances."""
        return {**asdict(self), "tolerances": {LOGITS: HEADS_TOLERANCE, PROBABILITIES: SCORE_TOLERANCE}}

    def line(self) -> str:
        """For the user."""
        ambiguous = f" ({self.ambiguous} hang on rounding)" if self.ambiguous else ""
        return (
            f"answers to {self.images} images agree{ambiguous}; largest differences:"
            f" logits {self.logits_max_difference:.1e}, probabilities {self.probability_max_difference:.1e}"
        )

    def add(self, network: Sequence[np.ndarray], export: Sequence[np.ndarray], images: Sequence[str]) -> None:
        """Compare the answers to a batch: logits and probabilities, ``(B, C)`` each.

        Raises
        ------
        ExportError
            At the first image on which they differ.
        """
        for name, ours, theirs, our_p, their_p in zip(images, network[0], export[0], network[1], export[1]):
            if not np.isfinite(ours).all():
                raise ExportError(f"{name}: the network's own logits are not finite: its weights are broken")
            if ours.shape != theirs.shape:
                raise ExportError(f"the export's logits are {theirs.shape}, the network's {ours.shape}")
            logits, probability = (float(np.abs(a - b).max()) for a, b in ((ours, theirs), (our_p, their_p)))
            # So put, these refuse NaN too.
            if not logits <= HEADS_TOLERANCE * max(1.0, float(np.abs(ours).max())):
                raise ExportError(f"{name}: the export's logits differ from the network's by {logits:.3g}")
            if not probability <= SCORE_TOLERANCE:
                raise ExportError(
                    f"{name}: the export's probabilities differ from the network's by {probability:.3g}"
                )
            self.images += 1
            self.ambiguous += int(our_p.argmax() != their_p.argmax())
            self.logits_max_difference = max(self.logits_max_difference, logits)
            self.probability_max_difference = max(self.probability_max_difference, probability)


def export_classifier(
    net: Any,
    spec: ClassifierSpec,
    folder: PathLike,
    images: Sequence[Image],
    name: str = "classifier",
    formats: Formats = SYMBOL,
    progress: Optional[Callable[[int], Any]] = None,
    calibrate_on: Sequence[Image] = (),
) -> Exported:
    """Write a classifier as `export.detector.export_detector` writes a detector; it answers probabilities.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With its weights.
    spec : ClassifierSpec
        Of `net`.
    folder : str or Path
        To be made; an earlier export there is replaced. It appears only when the comparison has passed.
    images : sequence of str, Path, bytes or numpy.ndarray
        Images to compare on, as for `Classifier`.
    name : str
        Beginning of the file names.
    formats : Formats
    progress : callable, optional
        Called with the number of images compared, after each batch of each format.
    calibrate_on : sequence of str, Path, bytes or numpy.ndarray
        Images that decide the scales of 8-bit integers; by default `images`.

    Raises
    ------
    OptionError, ImageError, ExportError
        As `export_detector`.
    """
    if not images:
        raise ExportError("no images to compare the export on; give some, as the classifier will see them")
    check_installed(formats)
    count = len(spec.classes)
    sections = {
        "task": "classification",
        "input": describe_input(spec.size, spec.val_crop),
        "outputs": [
            {
                "name": f"{PROBABILITIES}_output",
                "shape": [None, count],
                "holds": "a probability for each class",
            }
        ],
        "heads": [{"name": f"{LOGITS}_output", "shape": [None, count], "holds": "before the softmax"}],
        "classes": list(spec.classes),
        "classifier": spec.as_dict(),
    }
    compare = _Comparing(net, spec, images, formats, progress)
    calibration = None
    if formats.int8:
        pixels = [prepare(image, spec.size, spec.val_crop) for image in calibrate_on or images]
        calibration = Calibration(formats.calibration, pixels)
    writers = {
        "symbol": lambda: _symbol_writer(net, spec, formats, compare),
        "int8": lambda: _int8_writer(net, spec, formats, compare, calibration),
        "onnx": lambda: _onnx_writer(net, spec, formats, compare),
        "onnx-int8": lambda: _onnx_writer(net, spec, formats, compare, calibration),
    }
    return write_export(folder, name, sections, [writers[format_name]() for format_name in formats.names])


def _symbol_writer(net: Any, spec: ClassifierSpec, formats: Formats, compare: _Comparing) -> Writer:
    symbol, parameters = classifier_graph(net)
    weights = "float32"
    if formats.fp16_weights:
        weights = "float16"
        large = [name for name, value in parameters.items() if value.ndim in (2, 4)]
        parameters = pack_float16(parameters, large)
    return _mxnet_writer((symbol, parameters), "symbol", {"weights": weights}, spec, formats, compare)


def _int8_writer(
    net: Any, spec: ClassifierSpec, formats: Formats, compare: _Comparing, calibration: Optional[Calibration]
) -> Writer:
    assert calibration
    graph = int8_graph(*classifier_graph(net), calibration, compare.ctx)
    section = {"weights": "int8", "calibration": calibration.as_dict()}
    return _mxnet_writer(graph, "int8", section, spec, formats, compare)


def _mxnet_writer(
    graph: SymbolAndArrays,
    kind: str,
    section: Dict[str, Any],
    spec: ClassifierSpec,
    formats: Formats,
    compare: _Comparing,
) -> Writer:
    described = describe_own_input(spec.size, formats.pixels)
    whole = {"input": described, "outputs": [f"{PROBABILITIES}_output"], **section}
    return symbol_writer(
        take_pixels(graph) if formats.pixels else graph, kind, whole, partial(compare.mxnet, kind)
    )


def _onnx_writer(
    net: Any,
    spec: ClassifierSpec,
    formats: Formats,
    compare: _Comparing,
    calibration: Optional[Calibration] = None,
) -> Writer:
    from .formats.onnx import append_softmax, onnx_writer, to_onnx
    from .formats.onnx_int8 import int8_onnx

    arrays = read_arrays(net)
    graph = Graph(net(mx.sym.var(INPUT_NAME)), {name: a.shape for name, a in arrays.items()})
    model = to_onnx(*fold(graph, arrays), spec.size, {LOGITS: (len(spec.classes),)})
    more: Dict[str, Any] = {}
    if calibration:
        model, more = int8_onnx(model, calibration), {"calibration": calibration.as_dict()}
    append_softmax(model, PROBABILITIES)
    kind = "onnx_int8" if calibration else "onnx"
    return onnx_writer(model, spec.size, formats.pixels, kind, more, partial(compare.onnx, kind))


def classifier_graph(net: Any) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """The graph of `net` for inference, and its arrays under the names of a parameter file."""
    arrays = read_arrays(net)
    logits = net(mx.sym.var(INPUT_NAME))
    graph = Graph(mx.sym.softmax(logits, name=PROBABILITIES), {name: a.shape for name, a in arrays.items()})
    for node in graph.nodes():
        if node.name == logits.name:
            node.name = LOGITS
    return fold(graph, arrays)


class _Comparing:
    """Compares files with the network that they were made of, as `export.detector` does for detectors."""

    def __init__(
        self,
        net: Any,
        spec: ClassifierSpec,
        images: Sequence[Image],
        formats: Formats,
        progress: Optional[Callable[[int], Any]] = None,
    ) -> None:
        self._net, self._spec, self._images, self._formats = net, spec, images, formats
        self._progress = progress
        self.ctx = next(iter(net.collect_params().values())).list_ctx()[0]

    def mxnet(self, kind: str, symbol_path: Path, params_path: Path) -> Mapping[str, ParityResult]:
        """``'plain'``, the files as they are, and ``'fused'``, as `Classifier` runs them; or ``'int8'``."""
        pixels = self._formats.pixels
        input_name = PIXELS_NAME if pixels else INPUT_NAME
        plain, fused = (
            block_with(import_symbol(symbol_path, params_path, self.ctx, input_name), BOTH, input_name)
            for _ in range(2)
        )
        make_fast(fused, self._spec.size, self.ctx, kind == "int8", pixels)
        as_run = MXNetEngine(fused, self.ctx, pixels)
        if kind == "int8":
            return self._compare({"int8": as_run}, INT8)
        rounded = FLOAT16 if self._formats.fp16_weights else None
        return self._compare({"plain": MXNetEngine(plain, self.ctx, pixels), "fused": as_run}, rounded)

    def onnx(self, kind: str, path: Path) -> Mapping[str, ParityResult]:
        """In ONNX Runtime, under the name `kind`."""
        from .formats.onnx import answering

        whole, inside = (OnnxEngine(m, self._formats.pixels) for m in (path, answering(path, [LOGITS])))
        rounded = INT8 if kind == "onnx_int8" else None
        return self._compare({kind: lambda pixels: [*inside(pixels), *whole(pixels)]}, rounded)

    def _compare(
        self, engines: Mapping[str, Answers], rounded: Optional[Floor]
    ) -> Mapping[str, ParityResult]:
        """Engines that answer logits and probabilities; `rounded`: what is asked for in place of equality."""
        exact = {how: ClassifierParityCheck() for how in engines}
        near = {how: QuantizationCheck(rounded) for how in engines} if rounded else {}
        for start in range(0, len(self._images), BATCH):
            batch = self._images[start : start + BATCH]
            pixels = [prepare(image, self._spec.size, self._spec.val_crop) for image in batch]
            logits = self._net(mx.nd.array(to_network_input(pixels), ctx=self.ctx))
            network = [logits.asnumpy(), mx.nd.softmax(logits).asnumpy()]
            names = [
                str(image) if isinstance(image, (str, Path)) else f"image {start + i + 1}"
                for i, image in enumerate(batch)
            ]
            for how, engine in engines.items():
                answer = engine(pixels)
                if near:
                    near[how].add_heads(network[:1], answer[:1], names)
                    near[how].add_probabilities(network[1], answer[1])
                else:
                    exact[how].add(network, answer, names)
            if self._progress:
                self._progress(len(batch))
        for agreement in near.values():
            agreement.check()
        return dict(near or exact)
