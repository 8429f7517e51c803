"""Export format ``onnx``: an ONNX model with its decoding, for ONNX Runtime and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Sequence, Tuple

from . import ExportFormat, export_formats

if TYPE_CHECKING:
    from ..engines import Engine
    from ..network import ExportedNetwork


WEIGHT_BITS = 7
"""Bits of the weights in 8-bit integers, see `export.onnx_quantize`."""


class OnnxFormat(ExportFormat):
    """``NAME.onnx``."""

    name = "onnx"
    description = "ONNX model"
    engine = "onnxruntime"
    priority = 1
    files: Mapping[str, str] = {"onnx": ".onnx"}
    needs_mxnet = False
    requirements: Mapping[str, str] = {"onnx": "onnx>=1.16,<1.17", "onnxruntime": "onnxruntime"}

    def build(self, network: ExportedNetwork, name: str) -> Tuple[Any, Dict[str, Any]]:
        """The `onnx.ModelProto` of an export called `name`, and how it was calibrated, for the sidecar."""
        from ..onnx_model import finish_model, to_onnx

        details: Dict[str, Any] = {}
        if self.needs_calibration:
            details = {"bits": WEIGHT_BITS, "calibration": network.calibration.as_dict()}
        key = "ONNX model, 8-bit" if self.needs_calibration else "ONNX model"
        if key not in network.shared:
            graph = network.equalized_graph if self.needs_calibration else network.graph
            model = to_onnx(*graph(raw_heads=True), network.size, network.head_shapes())
            if self.needs_calibration:
                from ..onnx_quantize import int8_onnx

                model = int8_onnx(model, network.calibration)
            if not network.raw_heads:
                network.append_onnx_outputs(model)
            finish_model(model, name, network.size, network.options.pixels)
            network.shared[key] = model
        return network.shared[key], details

    def write(self, network: ExportedNetwork, folder: Path, name: str) -> Dict[str, Any]:
        import onnx

        from ..onnx_model import OPSET

        model, details = self.build(network, name)
        onnx.save(model, str(self.new_paths(folder, name)[0]))
        return {"opset": OPSET, **network.describe_format(**details)}

    def load(self, folder: Path, sidecar: Mapping[str, Any], ctx: Any, tensors: Sequence[str] = ()) -> Engine:
        """See `ExportFormat.load`; runs on the CPU whatever `ctx` is."""
        from ..engines import OnnxEngine
        from ..sidecar import may_saturate, takes_pixels

        options = takes_pixels(sidecar, self.section), may_saturate(sidecar, self.section)
        (path,) = self.paths(folder, sidecar)
        if not tensors:
            return OnnxEngine(path, *options)
        import onnx

        from ..onnx_model import with_outputs

        model = with_outputs(onnx.load(str(path)), tensors)
        return OnnxEngine(model, *options)

    def engines_to_check(
        self, network: ExportedNetwork, folder: Path, sidecar: Mapping[str, Any]
    ) -> Dict[str, Engine]:
        """The unchanged file, beside a copy of it that returns the heads."""
        from ..engines import JoinedEngine

        whole = self.load(folder, sidecar, network.ctx)
        if network.raw_heads:
            return {self.section: whole}
        return {self.section: JoinedEngine(self.load(folder, sidecar, network.ctx, network.heads), whole)}


export_formats.register("onnx", OnnxFormat())
