"""Export format ``tflite``: TensorFlow Lite's flatbuffers, for LiteRT on phones and small computers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Sequence, Tuple

from . import ExportFormat, export_formats

if TYPE_CHECKING:
    from ..engines import Engine
    from ..layers import LayerGraph
    from ..network import ExportedNetwork
    from ..tflite_quantize import Integers

LITERT, PREDECESSOR = ("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime")

RUNTIME = LITERT if sys.version_info >= (3, 9) else PREDECESSOR
"""Module and package of the interpreter; LiteRT has no wheels for Python 3.8."""


class TFLiteFormat(ExportFormat):
    """``NAME.tflite``.

    The file of a detector ends with the heads: TensorFlow Lite has no non-maximum suppression that is the
    same as here. The engine decodes them.
    """

    name = "tflite"
    description = "TensorFlow Lite model"
    engine = "tflite"
    priority = 8
    files: Mapping[str, str] = {"tflite": ".tflite"}
    requirements: Mapping[str, str] = {
        "tflite": "tflite", "flatbuffers": "flatbuffers", RUNTIME[0]: RUNTIME[1],
    }  # fmt: skip
    decodes_heads = True
    needs_mxnet = False
    weights = "float32"

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..sidecar import describe_format_input
        from ..tflite_model import to_tflite

        softmax, pixels = "" if network.decodable else network.outputs[0], network.options.pixels
        content = to_tflite(*self.prepared(network), pixels, self.weights, softmax)
        self.new_paths(folder, name)[0].write_bytes(content)
        entry = describe_format_input(network.size, pixels, channels_last=True)
        details = {"calibration": network.calibration.as_dict()} if self.needs_calibration else {}
        return network.describe_undecoded(input=entry, weights=self.weights, **details)

    def prepared(self, network: ExportedNetwork) -> Tuple[LayerGraph, Mapping[str, Integers]]:
        """Layers, and their 8-bit integers if the format has them."""
        return network.layers, {}

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """See `ExportFormat.load`; runs on the CPU whatever `ctx` is."""
        from ..decoding import OUTPUTS, DecodingEngine, read_decoder
        from ..engines import JoinedEngine
        from ..sidecar import takes_pixels
        from ..tflite_engine import Ports, TFLiteEngine, with_output

        (path,), section = self.paths(folder, sidecar), sidecar[self.section]
        content, entry = path.read_bytes(), section["input"]
        pixels = takes_pixels(sidecar, self.section)

        def engine(content: bytes, names: Sequence[str], kind: str) -> Engine:
            shapes = [tensor["shape"] for tensor in sidecar[kind]]
            ports = Ports({entry["name"]: entry["shape"]}, dict(zip(names, shapes)))
            return TFLiteEngine(content, pixels, path, ports)

        if "anchors" in section:
            decoder = read_decoder(sidecar, self.section, str(path))
            return DecodingEngine(engine(content, section["outputs"], "heads"), decoder, tensors or OUTPUTS)
        whole = engine(content, section["outputs"], "outputs")
        if not tensors:
            return whole
        heads = [name for name in tensors if name not in section["outputs"]]
        return JoinedEngine(*(engine(with_output(content, name), [name], "heads") for name in heads), whole)


export_formats.register("tflite", TFLiteFormat())
