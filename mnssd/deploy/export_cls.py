"""A classifier as files that plain MXNet runs; as `deploy.export` for detectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..errors import ExportError
from ..graph.inference import fold, fuse, read_arrays
from ..graph.symbol_graph import Graph
from ..zoo import ClassifierSpec
from .classifier import Image, prepare
from .compare import HEADS_TOLERANCE, SCORE_TOLERANCE
from .folder import BATCH, Exported, PathLike, write_symbol_export
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
    progress: Optional[Callable[[int], Any]] = None,
) -> Exported:
    """Write a classifier as `deploy.export.export_symbol` writes a detector; the graph answers probabilities.

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
    progress : callable, optional
        Called with the number of images compared, after each batch.

    Raises
    ------
    OptionError, ImageError, ExportError
        As `export_symbol`.
    """
    if not images:
        raise ExportError("no images to compare the export on; give some, as the classifier will see them")
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
    return write_symbol_export(
        folder, name, classifier_graph(net), sections,
        lambda symbol, params: _compare(net, spec, symbol, params, images, progress),
    )  # fmt: skip


def classifier_graph(net: Any) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """The graph of `net` for inference, and its arrays under the names of a parameter file."""
    arrays = read_arrays(net)
    logits = net(mx.sym.var(INPUT_NAME))
    graph = Graph(mx.sym.softmax(logits, name=PROBABILITIES), {name: a.shape for name, a in arrays.items()})
    for node in graph.nodes():
        if node.name == logits.name:
            node.name = LOGITS
    return fold(graph, arrays)


def _compare(
    net: Any, spec: ClassifierSpec, symbol: Path, params: Path, images: Sequence[Image], progress: Any
) -> Mapping[str, ClassComparison]:
    """``'plain'``: the files as anybody would load them; ``'fused'``: as `Classifier` runs them."""
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    plain, fused = import_symbol(symbol, params, ctx), import_symbol(symbol, params, ctx)
    blocks = {"plain": block_with(plain, (LOGITS, PROBABILITIES))}
    blocks["fused"] = block_with(fused, (LOGITS, PROBABILITIES))
    fuse(blocks["fused"], spec.size, ctx)
    compared = {how: ClassComparison() for how in blocks}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        pixels = [prepare(image, spec.size, spec.val_crop) for image in batch]
        x = mx.nd.array(to_network_input(pixels), ctx=ctx)
        logits = net(x)
        network = [logits.asnumpy(), mx.nd.softmax(logits).asnumpy()]
        names = [
            str(image) if isinstance(image, (str, Path)) else f"image {start + i + 1}"
            for i, image in enumerate(batch)
        ]
        for how, block in blocks.items():
            compared[how].add(network, [output.asnumpy() for output in block(x)], names)
        if progress:
            progress(len(batch))
    return compared
