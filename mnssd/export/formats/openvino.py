"""Export format ``openvino``: OpenVINO's intermediate representation, made from the ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from . import FLOAT16, Tolerance, export_formats
from .onnx import OnnxFormat

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork
    from ..options import ExportOptions


class OpenVINOFormat(OnnxFormat):
    """``NAME.xml`` and ``NAME.bin``.

    `precision` is that of `openvino_model.compile_model`.
    """

    name = "openvino"
    description = "OpenVINO IR"
    engine = "openvino"
    priority = 2
    files: Mapping[str, str] = {"openvino_xml": ".xml", "openvino_bin": ".bin"}
    requirements: Mapping[str, str] = {"onnx": "onnx>=1.16,<1.17", "openvino": "openvino>=2024.4"}
    precision = "f32"

    def weights(self, options: ExportOptions) -> str:
        """Type in which the weights are stored."""
        return "float16" if options.fp16_weights else "float32"

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        from ..onnx_model import with_float16
        from ..openvino_model import save_ir

        model, details = self.build(network, name)
        weights = self.weights(network.options)
        if weights == "float16":
            model = with_float16(model, network.large_axes)
        save_ir(model.SerializeToString(), self.new_paths(folder, name))
        return network.describe_format(weights=weights, **details)

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """See `ExportFormat.load`; runs on the CPU whatever `ctx` is."""
        from ..openvino_model import OpenVINOEngine, check_ports, read_ir, with_outputs
        from ..sidecar import takes_pixels

        paths, section = self.paths(folder, sidecar), sidecar[self.section]
        model = read_ir(paths)
        shapes = [entry["shape"] for entry in sidecar["heads" if "anchors" in section else "outputs"]]
        expected = {section["input"]["name"]: section["input"]["shape"]}
        check_ports(model, {**expected, **dict(zip(section["outputs"], shapes))}, paths[0])
        if tensors:
            model = with_outputs(model, tensors, paths[0])
        return OpenVINOEngine(model, takes_pixels(sidecar, self.section), paths[0], self.precision)

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        """Rounded weights need a tolerance."""
        return FLOAT16 if options.fp16_weights else None


export_formats.register("openvino", OpenVINOFormat())
