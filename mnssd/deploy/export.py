"""A detector as files that plain MXNet or ONNX Runtime runs, and a JSON that says how to use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

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
from .engines import OnnxEngine
from .folder import BATCH, Exported, PathLike, Writer, symbol_writer, write_export
from .formats import SYMBOL, Formats, check_installed
from .sidecar import INPUT_NAME, describe_input
from .symbol import block_with, import_symbol

OUTPUTS = ("ids", "scores", "bboxes")
HEADS = ("cls_preds", "box_preds")


def export_detector(
    net: Any,
    folder: PathLike,
    images: Sequence[PathLike],
    name: str = "detector",
    spec: Optional[DetectorSpec] = None,
    formats: Formats = SYMBOL,
    progress: Optional[Callable[[int], Any]] = None,
) -> Exported:
    """Write a detector in one or more formats, checked against `net`, and ``NAME.json``.

    ``symbol``: ``NAME-symbol.json`` and ``NAME-0000.params``. The graph consists of MXNet's own operators,
    with BatchNorm folded into the convolutions, and ends after non-maximum suppression.
    ``mx.gluon.SymbolBlock.imports(symbol, ['data'], params)`` loads it, and the block's
    ``optimize_for(x, backend='MKLDNN')`` makes it twice as fast on a CPU.

    ``onnx``: ``NAME.onnx``, which does the same in ONNX Runtime; or ends with the heads.

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
    formats : Formats
    progress : callable, optional
        Called with the number of images compared, after each batch of each format.

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
    check_installed(formats)
    sections = {"task": "detection", **_describe(net), "detector": spec.as_dict() if spec else None}
    writers = []
    if "symbol" in formats.names:
        graph = inference_graph(net)
        writers.append(symbol_writer(graph, lambda s, p: compare_symbol(net, s, p, images, progress)))
    if "onnx" in formats.names:
        writers.append(_onnx_writer(net, images, formats, progress))
    return write_export(folder, name, sections, writers)


def _onnx_writer(net: Any, images: Sequence[PathLike], formats: Formats, progress: Any) -> Writer:
    from .onnx_model import append_detections, onnx_writer, to_onnx

    arrays = read_arrays(net.heads)
    heads = mx.sym.Group(list(net.heads(mx.sym.var(INPUT_NAME))))
    graph = Graph(heads, {name: value.shape for name, value in arrays.items()})
    shapes = {HEADS[0]: (len(net.anchors), len(net.classes) + 1), HEADS[1]: (len(net.anchors), 4)}
    model = to_onnx(*fold(graph, arrays), net.size, shapes)
    more: Dict[str, Any] = {}
    if formats.raw_heads:
        more["anchors"] = net.anchors.tolist()
    else:
        append_detections(model, net.anchors, _rules(net), OUTPUTS)
    return onnx_writer(
        model, net.size, formats.onnx_pixels, more,
        lambda path: compare_onnx(net, path, formats, images, progress),
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
    rules, compared = _rules(net), {"plain": Comparison(), "fused": Comparison()}
    for names, pixels in _batches(net, images):
        x = mx.nd.array(to_network_input(pixels), ctx=ctx)
        network = _answer(net, [*net.heads(x), *net(x)])
        compared["plain"].add(network, _answer(net, [*plain_heads(x), *plain(x)]), rules, names)
        compared["fused"].add(network, _answer(net, fused(x)), rules, names)
        if progress:
            progress(len(names))
    return compared


def compare_onnx(
    net: Any,
    path: Path,
    formats: Formats,
    images: Sequence[PathLike],
    progress: Optional[Callable[[int], Any]] = None,
) -> Dict[str, Comparison]:
    """Run the file in ONNX Runtime and compare its answers with those of `net`, under the name ``'onnx'``.

    Raises
    ------
    ExportError
        At the first image on which they differ; or when ONNX Runtime cannot load the file.
    """
    from .onnx_model import answering

    ctx = next(iter(net.collect_params().values())).list_ctx()[0]
    whole, compared = OnnxEngine(path, formats.onnx_pixels), Comparison()
    heads = whole if formats.raw_heads else OnnxEngine(answering(path, HEADS), formats.onnx_pixels)
    for names, pixels in _batches(net, images):
        x = mx.nd.array(to_network_input(pixels), ctx=ctx)
        outputs, answers = [*net.heads(x), *net(x)], heads(pixels)
        if formats.raw_heads:
            compared.add_heads([array.asnumpy() for array in outputs[:2]], answers, names)
        else:
            given = [mx.nd.array(array, ctx=ctx) for array in [*answers, *whole(pixels)]]
            compared.add(_answer(net, outputs), _answer(net, given), _rules(net), names)
        if progress:
            progress(len(names))
    return {"onnx": compared}


def _rules(net: Any) -> Rules:
    return Rules(SCORE_FLOOR, net.nms_thresh, net.nms_topk, net.post_nms)


def _batches(net: Any, images: Sequence[PathLike]) -> Iterator[Tuple[List[str], List[np.ndarray]]]:
    """Names, and pixels at the size of the network's input."""
    for start in range(0, len(images), BATCH):
        paths = images[start : start + BATCH]
        yield [str(path) for path in paths], [read_for_network(path, net.size)[0] for path in paths]


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
