"""A classifier as files that plain MXNet or ONNX Runtime runs; as `deploy.export` for detectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..errors import ExportError
from ..graph.inference import fold, fuse, read_arrays
from ..graph.symbol_graph import Graph
from ..zoo import ClassifierSpec
from .classifier import Image, prepare
from .compare import HEADS_TOLERANCE, SCORE_TOLERANCE
from .engines import Engine, MXNetEngine, OnnxEngine
from .folder import BATCH, Exported, PathLike, Writer, symbol_writer, write_export
from .formats import SYMBOL, Formats, check_installed
from .sidecar import INPUT_NAME, describe_input
from .symbol import block_with, import_symbol

LOGITS, PROBABILITIES = "logits", "probabilities"
"""Names of what the network says before the softmax, inside the graph, and of the graph's output."""


@dataclass
class ClassComparison:
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
) -> Exported:
    """Write a classifier as `deploy.export.export_detector` writes a detector; it answers probabilities.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With its weights.
    spec : ClassifierSpec
        Of `net`.
    folder : str or Path
        To be made; an earlier export there is replaced. It appears only when the comparison has passed.
    images : sequence of str, Path, bytes or numpy.ndarray
        Photographs to compare on, as for `Classifier`.
    name : str
        Beginning of the file names.
    formats : Formats
    progress : callable, optional
        Called with the number of images compared, after each batch of each format.

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
    writers: List[Writer] = []
    if "symbol" in formats.names:
        graph = classifier_graph(net)
        writers.append(symbol_writer(graph, lambda s, p: _compare_symbol(net, spec, s, p, images, progress)))
    if "onnx" in formats.names:
        writers.append(_onnx_writer(net, spec, images, formats.onnx_pixels, progress))
    return write_export(folder, name, sections, writers)


def _onnx_writer(
    net: Any, spec: ClassifierSpec, images: Sequence[Image], takes_pixels: bool, progress: Any
) -> Writer:
    from .onnx_model import answering, append_softmax, onnx_writer, to_onnx

    arrays = read_arrays(net)
    graph = Graph(net(mx.sym.var(INPUT_NAME)), {name: a.shape for name, a in arrays.items()})
    model = to_onnx(*fold(graph, arrays), spec.size, {LOGITS: (len(spec.classes),)})
    append_softmax(model, PROBABILITIES)

    def compare(path: Path) -> Mapping[str, ClassComparison]:
        whole, inside = (OnnxEngine(m, takes_pixels) for m in (path, answering(path, [LOGITS])))
        return _compare(
            net, spec, {"onnx": lambda pixels: [*inside(pixels), *whole(pixels)]}, images, progress
        )

    return onnx_writer(model, spec.size, takes_pixels, {}, compare)


def classifier_graph(net: Any) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """The graph of `net` for inference, and its arrays under the names of a parameter file."""
    arrays = read_arrays(net)
    logits = net(mx.sym.var(INPUT_NAME))
    graph = Graph(mx.sym.softmax(logits, name=PROBABILITIES), {name: a.shape for name, a in arrays.items()})
    for node in graph.nodes():
        if node.name == logits.name:
            node.name = LOGITS
    return fold(graph, arrays)


def _compare_symbol(
    net: Any, spec: ClassifierSpec, symbol: Path, params: Path, images: Sequence[Image], progress: Any
) -> Mapping[str, ClassComparison]:
    """``'plain'``: the files as anybody would load them; ``'fused'``: as `Classifier` runs them."""
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    plain, fused = (block_with(import_symbol(symbol, params, ctx), (LOGITS, PROBABILITIES)) for _ in range(2))
    fuse(fused, spec.size, ctx)
    engines = {"plain": MXNetEngine(plain, ctx), "fused": MXNetEngine(fused, ctx)}
    return _compare(net, spec, engines, images, progress)


def _compare(
    net: Any, spec: ClassifierSpec, engines: Mapping[str, Engine], images: Sequence[Image], progress: Any
) -> Mapping[str, ClassComparison]:
    """Engines that answer logits and probabilities, by name."""
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    compared = {how: ClassComparison() for how in engines}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        pixels = [prepare(image, spec.size, spec.val_crop) for image in batch]
        logits = net(mx.nd.array(to_network_input(pixels), ctx=ctx))
        network = [logits.asnumpy(), mx.nd.softmax(logits).asnumpy()]
        names = [
            str(image) if isinstance(image, (str, Path)) else f"image {start + i + 1}"
            for i, image in enumerate(batch)
        ]
        for how, engine in engines.items():
            compared[how].add(network, engine(pixels), names)
        if progress:
            progress(len(batch))
    return compared
