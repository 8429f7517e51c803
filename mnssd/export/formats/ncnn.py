"""Export format ``ncnn``: ncnn's text and weights, for phones and small computers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Sequence

from . import ExportFormat, export_formats

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork


class NcnnFormat(ExportFormat):
    """``NAME.ncnn.param`` and ``NAME.ncnn.bin``.

    The input is always pixels, which the network normalizes. The files of a detector end with the heads,
    which the engine decodes, and have the anchors as a further output.
    """

    name = "ncnn"
    description = "ncnn model"
    engine = "ncnn"
    priority = 13
    files: Mapping[str, str] = {"ncnn_param": ".ncnn.param", "ncnn_bin": ".ncnn.bin"}
    requirements: Mapping[str, str] = {"ncnn": "ncnn"}
    decodes_heads = True
    needs_mxnet = False
    weights = "float32"

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..ncnn_model import to_ncnn
        from ..sidecar import describe_planes

        softmax = "" if network.decodable else network.outputs[0]
        anchors = network.net.anchors if network.decodable else None
        text, content = to_ncnn(network.layers, self.weights, softmax, anchors)
        param, weights = self.new_paths(folder, name)
        param.write_bytes(text.encode())
        weights.write_bytes(content)
        return network.describe_undecoded(input=describe_planes(network.size), weights=self.weights)

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """See `ExportFormat.load`; runs on the CPU whatever `ctx` is."""
        from ...errors import ExportError
        from ..decoding import HEADS, OUTPUTS, DecodingEngine, read_decoder
        from ..ncnn_engine import ANCHORS, NcnnEngine

        paths, section = self.paths(folder, sidecar), sidecar[self.section]
        decodes = "anchors" in section
        try:
            entries = sidecar["heads" if decodes else "outputs"]
            outputs = {name: tuple(entry["shape"][1:]) for name, entry in zip(section["outputs"], entries)}
            if decodes:
                outputs[ANCHORS] = (len(section["anchors"]), 4)
                if tuple(section["outputs"]) != HEADS:
                    raise ValueError("outputs")
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(
                f"{paths[0]}: its description is damaged ({error!r}); export it again"
            ) from error

        def engine(names: Sequence[str]) -> Engine:
            return NcnnEngine(paths, self.weights, sidecar["input"]["size"], outputs, names)

        if not decodes:
            return engine(tensors or section["outputs"])
        decoder = read_decoder(sidecar, self.section, str(paths[0]))
        return DecodingEngine(engine(HEADS), decoder, tensors or OUTPUTS)


export_formats.register("ncnn", NcnnFormat())
