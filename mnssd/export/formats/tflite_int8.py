"""Export format ``tflite-int8``: a TensorFlow Lite model with 8-bit convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional, Tuple

from . import INT8, Tolerance, export_formats
from .tflite import TFLiteFormat

if TYPE_CHECKING:
    from ..layers import LayerGraph
    from ..network import ExportedNetwork
    from ..options import ExportOptions
    from ..tflite_quantize import Integers


class TFLiteInt8Format(TFLiteFormat):
    """``NAME-int8.tflite``: 8-bit integers from the first convolution to the last, floats outside."""

    name = "tflite-int8"
    description = "TensorFlow Lite model, 8-bit convolutions"
    engine = "tflite-int8"
    priority = 12
    files = {"tflite_int8": "-int8.tflite"}  # noqa: RUF012
    needs_calibration = True
    weights = "int8"

    def prepared(self, network: ExportedNetwork) -> Tuple[LayerGraph, Mapping[str, Integers]]:
        from ..layers import read_layers
        from ..tflite_quantize import calibrate

        symbol, parameters = network.equalized_graph(raw_heads=True)
        graph = read_layers(symbol, parameters, network.size, network.heads)
        return graph, calibrate(symbol, parameters, graph, network.calibration, network.ctx)

    def tolerance(self, options: ExportOptions) -> Optional[Tolerance]:
        return INT8


export_formats.register("tflite-int8", TFLiteInt8Format())
