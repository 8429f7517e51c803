"""A detector as files that plain MXNet runs: graph, parameters, and a JSON that says how to use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..data.network_io import read_for_network
from ..errors import ExportError
from ..graph.inference import fold, fuse, read_arrays
from ..graph.symbol_graph import Graph
from ..nn.ssd import SCORE_FLOOR, STDS
from ..zoo import DetectorSpec
from .compare import Answer, Comparison, Rules
from .folder import BATCH, Exported, PathLike, write_symbol_export
from .sidecar import INPUT_NAME, describe_input
from .symbol import block_with, import_symbol

OUTPUTS = ("ids", "scores", "bboxes")
HEADS = ("cls_preds", "box_preds")


def export_symbol(
    net: Any,
    folder: PathLike,
    images: Sequence[PathLike],
    name: str = "detector",
    spec: Optional[DetectorSpec] = None,
    progress: Optional[Callable[[int], Any]] = None,
) -> Exported:
    """Write ``NAME-symbol.json``, ``NAME-0000.params`` and ``NAME.json``, checked against `net`.

    The graph consists of MXNet's own operators, with BatchNorm folded into the convolutions, and ends
    after non-maximum suppression. ``mx.gluon.SymbolBlock.imports(symbol, ['data'], params)`` loads it, and
    the block's ``optimize_for(x, backend='MKLDNN')`` makes it twice as fast on a CPU.

    Parameters
    ----------
    net : mnssd.nn.SSD
        With its weights.
    folder : str or Path
        To be made; an earlier export there is replaced. It appears only when the comparison has passed.
    images : sequence of str or Path
        Photographs to compare on.
    name : str
        Beginning of the file names.
    spec : DetectorSpec, optional
        Kept in the JSON file.
    progress : callable, optional
        Called with the number of images compared, after each batch.

    Returns
    -------
    Exported

    Raises
    ------
    OptionError
        For a name that is none for a file, or a folder that holds something else.
    ImageError
        For an image that cannot be read.
    ExportError
        When the files do not answer as the network does; nothing is left of them.
    """
    if not images:
        raise ExportError("no images to compare the export on; give some, as the detector will see them")
    sections = {"task": "detection", **_describe(net), "detector": spec.as_dict() if spec else None}
    return write_symbol_export(
        folder, name, inference_graph(net), sections,
        lambda symbol, params: compare_symbol(net, symbol, params, images, progress),
    )  # fmt: skip


def inference_graph(net: Any) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """The graph of `net` for inference, and its arrays under the names of a parameter file.

    Its outputs are called `OUTPUTS`, and what the heads say, inside, `HEADS`; MXNet appends ``_output``.
    """
    arrays = read_arrays(net)
    data = mx.sym.var(INPUT_NAME)
    graph = Graph(mx.sym.Group(list(net(data))), {name: value.shape for name, value in arrays.items()})
    # Traced a second time, the heads' nodes have the same names: a block counts them anew on each call.
    traced = {symbol.name: new_name for symbol, new_name in zip(net.heads(data), HEADS)}
    for node in graph.nodes():
        node.name = traced.get(node.name, node.name)
    for (node, _), new_name in zip(graph.outputs, OUTPUTS):
        node.name = new_name
    return fold(graph, arrays)


def compare_symbol(
    net: Any,
    symbol_path: Path,
    params_path: Path,
    images: Sequence[PathLike],
    progress: Optional[Callable[[int], Any]] = None,
) -> Dict[str, Comparison]:
    """Load the files as anybody would and compare their answers with those of `net`.

    Returns
    -------
    dict of str to Comparison
        ``'plain'``: the files as they are; ``'fused'``: as `Detector` runs them.

    Raises
    ------
    ExportError
        At the first image on which they differ.
    """
    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    plain, fused = import_symbol(symbol_path, params_path, ctx), import_symbol(symbol_path, params_path, ctx)
    plain_heads, fused = block_with(plain, HEADS), block_with(fused, (*HEADS, *OUTPUTS))
    fuse(fused, net.size, ctx)
    rules = Rules(SCORE_FLOOR, net.nms_thresh, net.nms_topk, net.post_nms)
    compared = {"plain": Comparison(), "fused": Comparison()}
    for start in range(0, len(images), BATCH):
        paths = images[start : start + BATCH]
        x = mx.nd.array(to_network_input([read_for_network(path, net.size)[0] for path in paths]), ctx=ctx)
        network = _answer(net, [*net.heads(x), *net(x)])
        names = [str(path) for path in paths]
        compared["plain"].add(network, _answer(net, [*plain_heads(x), *plain(x)]), rules, names)
        compared["fused"].add(network, _answer(net, fused(x)), rules, names)
        if progress:
            progress(len(paths))
    return compared


def _answer(net: Any, outputs: Sequence[Any]) -> Answer:
    """Outputs of any network, heads first, as arrays; decoded by the objects with which `net` does it."""
    cls_preds, box_preds = outputs[:2]
    corners = net.bbox_decoder(box_preds, net.anchor_boxes.data(box_preds.context))
    decoded = [mx.nd.softmax(cls_preds, axis=-1)[:, :, 1:], corners]
    return Answer(*(array.asnumpy() for array in [*outputs, *decoded]))


def _describe(net: Any) -> Dict[str, Any]:
    """The sections of the sidecar that say how to use the files."""
    width, height = net.size
    count, anchors = len(net.classes), len(net.anchors)
    return {
        "input": describe_input(net.size),
        "outputs": [
            {
                "name": "ids_output",
                "shape": [None, net.post_nms, 1],
                "holds": "index into classes, -1: no detection",
            },
            {"name": "scores_output", "shape": [None, net.post_nms, 1], "holds": "probability, best first"},
            {"name": "bboxes_output", "shape": [None, net.post_nms, 4], "holds": "xmin, ymin, xmax, ymax"},
        ],
        "heads": [
            {
                "name": "cls_preds_output",
                "shape": [None, anchors, count + 1],
                "holds": "class scores before the softmax, background first",
            },
            {
                "name": "box_preds_output",
                "shape": [None, anchors, 4],
                "holds": "offsets of centre and log size from the anchors, divided by stds",
                "stds": list(STDS),
            },
        ],
        "boxes": (
            f"pixels of the {width}x{height} input, from 0, not clipped; multiply x by image width / {width}"
            f" and y by image height / {height}"
        ),
        "classes": list(net.classes),
        "thresholds": {
            "score": SCORE_FLOOR,
            "nms_iou": net.nms_thresh,
            "nms_candidates": net.nms_topk,
            "max_detections": net.post_nms,
        },
    }
