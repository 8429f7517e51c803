"""A detector as files that plain MXNet or ONNX Runtime runs, and a JSON that says how to use them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..data.image import to_network_input
from ..data.preprocess import read_for_network
from ..errors import ExportError
from ..graph.inference import fold, read_arrays
from ..graph.symbol_graph import Graph
from ..nn.ssd import SCORE_FLOOR, STDS
from ..zoo import DetectorSpec
from .engines import MXNetEngine, OnnxEngine
from .folder import BATCH, Exported, PathLike, Writer, symbol_writer, write_export
from .formats.int8 import Calibration, int8_graph
from .formats.symbol import SymbolAndArrays, block_with, import_symbol, make_fast, take_pixels
from .options import SYMBOL, Formats, check_installed
from .packing import pack_float16
from .parity import Answer, ParityCheck, ParityResult, Rules
from .quantization_check import FLOAT16, INT8, Floor, QuantizationCheck
from .sidecar import INPUT_NAME, PIXELS_NAME, describe_input, describe_own_input

OUTPUTS = ("ids", "scores", "bboxes")
HEADS = ("cls_preds", "box_preds")

Answers = Callable[[List[np.ndarray]], Sequence[Any]]
"""Class scores and offsets for the pixels of a batch, and, unless these are all that an export answers, ids,
scores and boxes."""


def export_detector(
    net: Any,
    folder: PathLike,
    images: Sequence[PathLike],
    name: str = "detector",
    spec: Optional[DetectorSpec] = None,
    formats: Formats = SYMBOL,
    progress: Optional[Callable[[int], Any]] = None,
    calibrate_on: Sequence[PathLike] = (),
) -> Exported:
    """Write a detector in one or more formats, checked against `net`, and ``NAME.json``.

    ``symbol``: ``NAME-symbol.json`` and ``NAME-0000.params``. The graph consists of MXNet's own operators,
    with BatchNorm folded into the convolutions, and ends after non-maximum suppression.
    ``mx.gluon.SymbolBlock.imports(symbol, ['data'], params)`` loads it, and the block's
    ``optimize_for(x, backend='MKLDNN')`` makes it twice as fast on a CPU.

    ``onnx``: ``NAME.onnx``, which does the same in ONNX Runtime.

    ``int8`` and ``onnx-int8``: ``NAME-int8-symbol.json``, ``NAME-int8-0000.params`` (to be unpacked, see
    `export.packing`) and ``NAME-int8.onnx``, with convolutions in 8-bit integers.

    Parameters
    ----------
    net : mnssd.nn.SSD
        With its weights.
    folder : str or Path
        To be made; an earlier export there is replaced. It appears only when the comparison has passed.
    images : sequence of str or Path
        Images to compare on.
    name : str
        Beginning of the file names.
    spec : DetectorSpec, optional
        Kept in the JSON file.
    formats : Formats
    progress : callable, optional
        Called with the number of images compared, after each batch of each format.
    calibrate_on : sequence of str or Path
        Images that decide the scales of 8-bit integers; by default `images`.

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
    compare = _Comparing(net, images, formats, progress)
    calibration = None
    if formats.int8:
        pixels = [read_for_network(path, net.size)[0] for path in calibrate_on or images]
        calibration = Calibration(formats.calibration, pixels)
    writers = {
        "symbol": lambda: _symbol_writer(net, formats, compare),
        "int8": lambda: _int8_writer(net, formats, compare, calibration),
        "onnx": lambda: _onnx_writer(net, formats, compare),
        "onnx-int8": lambda: _onnx_writer(net, formats, compare, calibration),
    }
    return write_export(folder, name, sections, [writers[format_name]() for format_name in formats.names])


def _symbol_writer(net: Any, formats: Formats, compare: _Comparing) -> Writer:
    symbol, parameters = inference_graph(net, formats.raw_heads)
    weights = "float32"
    if formats.fp16_weights:
        weights = "float16"
        large = [name for name, value in parameters.items() if value.ndim == 4]
        parameters = pack_float16(parameters, large)
    return _mxnet_writer((symbol, parameters), "symbol", {"weights": weights}, net, formats, compare)


def _int8_writer(
    net: Any, formats: Formats, compare: _Comparing, calibration: Optional[Calibration]
) -> Writer:
    assert calibration
    graph = int8_graph(*inference_graph(net, formats.raw_heads), calibration, compare.ctx)
    section = {"weights": "int8", "calibration": calibration.as_dict()}
    return _mxnet_writer(graph, "int8", section, net, formats, compare)


def _mxnet_writer(
    graph: SymbolAndArrays,
    kind: str,
    section: Dict[str, Any],
    net: Any,
    formats: Formats,
    compare: _Comparing,
) -> Writer:
    outputs = [f"{name}_output" for name in (HEADS if formats.raw_heads else OUTPUTS)]
    whole = {"input": describe_own_input(net.size, formats.pixels), "outputs": outputs, **section}
    if formats.raw_heads:
        whole["anchors"] = net.anchors.tolist()
    return symbol_writer(
        take_pixels(graph) if formats.pixels else graph, kind, whole, partial(compare.mxnet, kind)
    )


def _onnx_writer(
    net: Any, formats: Formats, compare: _Comparing, calibration: Optional[Calibration] = None
) -> Writer:
    from .formats.onnx import append_detections, onnx_writer, to_onnx
    from .formats.onnx_int8 import int8_onnx

    shapes = {HEADS[0]: (len(net.anchors), len(net.classes) + 1), HEADS[1]: (len(net.anchors), 4)}
    model = to_onnx(*inference_graph(net, raw_heads=True), net.size, shapes)
    more: Dict[str, Any] = {}
    if calibration:
        model, more = int8_onnx(model, calibration), {"calibration": calibration.as_dict()}
    if formats.raw_heads:
        more["anchors"] = net.anchors.tolist()
    else:
        append_detections(model, net.anchors, compare.rules, OUTPUTS)
    kind = "onnx_int8" if calibration else "onnx"
    return onnx_writer(model, net.size, formats.pixels, kind, more, partial(compare.onnx, kind))


def inference_graph(net: Any, raw_heads: bool = False) -> Tuple[mx.sym.Symbol, Dict[str, np.ndarray]]:
    """The graph of `net` for inference, and its arrays under the names of a parameter file.

    Its outputs are called `OUTPUTS`, and what the heads say, inside, `HEADS`; with `raw_heads` these are its
    outputs. MXNet appends ``_output``.
    """
    data = mx.sym.var(INPUT_NAME)
    heads = list(net.heads(data))
    arrays = read_arrays(net.heads if raw_heads else net)
    outputs = heads if raw_heads else list(net(data))
    graph = Graph(mx.sym.Group(outputs), {name: value.shape for name, value in arrays.items()})
    # Traced a second time, the heads' nodes have the same names: a block counts them anew on each call.
    traced = {symbol.name: new_name for symbol, new_name in zip(heads, HEADS)}
    for node in graph.nodes():
        node.name = traced.get(node.name, node.name)
    for (node, _), new_name in zip(graph.outputs, HEADS if raw_heads else OUTPUTS):
        node.name = new_name
    return fold(graph, arrays)


class _Comparing:
    """Compares files with the network that they were made of, on images; in methods by engine.

    They raise ExportError where an export differs: `ParityCheck` says where, of one with rounded weights
    `QuantizationCheck`.
    """

    def __init__(
        self,
        net: Any,
        images: Sequence[PathLike],
        formats: Formats,
        progress: Optional[Callable[[int], Any]] = None,
    ) -> None:
        self._net, self._images, self._formats = net, images, formats
        self._progress = progress
        self.ctx = next(iter(net.collect_params().values())).list_ctx()[0]
        self.rules = Rules(SCORE_FLOOR, net.nms_thresh, net.nms_topk, net.post_nms)

    def mxnet(self, kind: str, symbol_path: Path, params_path: Path) -> Mapping[str, ParityResult]:
        """``'plain'``, the files as they are, and ``'fused'``, as `Detector` runs them; or ``'int8'``."""
        pixels = self._formats.pixels
        input_name = PIXELS_NAME if pixels else INPUT_NAME
        names = HEADS if self._formats.raw_heads else (*HEADS, *OUTPUTS)
        fused = import_symbol(symbol_path, params_path, self.ctx, input_name)
        fused = block_with(fused, names, input_name)
        make_fast(fused, self._net.size, self.ctx, kind == "int8", pixels)
        as_run = MXNetEngine(fused, self.ctx, pixels)
        if kind == "int8":
            return self._compare({"int8": as_run}, INT8)
        plain = import_symbol(symbol_path, params_path, self.ctx, input_name)
        inside = MXNetEngine(block_with(plain, HEADS, input_name), self.ctx, pixels)
        whole = MXNetEngine(plain, self.ctx, pixels)
        answers: Answers = (
            inside if self._formats.raw_heads else lambda images: [*inside(images), *whole(images)]
        )
        rounded = FLOAT16 if self._formats.fp16_weights else None
        return self._compare({"plain": answers, "fused": as_run}, rounded)

    def onnx(self, kind: str, path: Path) -> Mapping[str, ParityResult]:
        """In ONNX Runtime, under the name `kind`."""
        from .formats.onnx import answering

        whole = OnnxEngine(path, self._formats.pixels)
        answers: Answers = whole
        if not self._formats.raw_heads:
            heads = OnnxEngine(answering(path, HEADS), self._formats.pixels)
            answers = lambda images: [*heads(images), *whole(images)]  # noqa: E731
        return self._compare({kind: answers}, INT8 if kind == "onnx_int8" else None)

    def _compare(self, answers: Mapping[str, Answers], rounded: Optional[Floor]) -> Dict[str, ParityResult]:
        """`rounded`: what is asked for where equal answers cannot be."""
        exact = {how: ParityCheck() for how in answers}
        near = {how: QuantizationCheck(rounded) for how in answers} if rounded else {}
        for names, pixels in self._batches():
            x = mx.nd.array(to_network_input(pixels), ctx=self.ctx)
            network = [*self._net.heads(x), *self._net(x)]
            arrays = [array.asnumpy() for array in network]
            for how, answer in answers.items():
                given = answer(pixels)
                if near:
                    near[how].add_heads(arrays[:2], given[:2], names)
                    if given[2:]:
                        near[how].add_detections(arrays[2:], given[2:])
                elif self._formats.raw_heads:
                    exact[how].add_heads(arrays[:2], given, names)
                else:
                    theirs = self._decoded([mx.nd.array(array, ctx=self.ctx) for array in given])
                    exact[how].add(self._decoded(network), theirs, self.rules, names)
            if self._progress:
                self._progress(len(names))
        for agreement in near.values():
            agreement.check()
        return dict(near or exact)

    def _batches(self) -> Iterator[Tuple[List[str], List[np.ndarray]]]:
        """Names, and pixels at the size of the network's input."""
        for start in range(0, len(self._images), BATCH):
            paths = self._images[start : start + BATCH]
            yield [str(path) for path in paths], [read_for_network(path, self._net.size)[0] for path in paths]

    def _decoded(self, outputs: Sequence[Any]) -> Answer:
        """Outputs of any network, heads first; decoded by the objects with which the network does it."""
        cls_preds, box_preds = outputs[:2]
        corners = self._net.bbox_decoder(box_preds, self._net.anchor_boxes.data(box_preds.context))
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
