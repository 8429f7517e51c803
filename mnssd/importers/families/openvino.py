"""OpenVINO IR of Open Model Zoo's SSDs with MobileNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from . import EngineOutputs, Family, families

if TYPE_CHECKING:
    import numpy as np

    from ..graph import ReadNetwork


class OpenVINOFamily(Family):
    """An XML with its ``.bin`` file beside it, in float32 or float16."""

    name = "openvino"
    description = "OpenVINO IR (.xml, with its .bin beside it): SSD MobileNet of Open Model Zoo"
    engine = "openvino"

    def recognizes(self, path: str, start: bytes) -> bool:
        return b"<net " in start

    def read(self, path: str) -> ReadNetwork:
        from ..ir_file import IRFile
        from ..ir_graph import read_network

        return read_network(IRFile(path))

    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        import numpy as np

        from ...export.openvino_model import compile_model
        from ...runtime.openvino import openvino_core

        try:
            model = openvino_core().read_model(path)
        except ImportError:
            return None
        nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
        first = len(model.outputs)
        model.add_outputs([nodes[name].output(0) for name in (*read.class_tensors, *read.box_tensors)])
        compiled = compile_model(model)
        rows = []
        for image in images:
            x = image[None, ..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)  # BGR, 0 to 255
            outputs = list(compiled(x).values())[first:]
            rows.append([np.asarray(output).transpose(0, 2, 3, 1).reshape(-1) for output in outputs])
        return EngineOutputs("OpenVINO", *read.heads([np.stack(values) for values in zip(*rows)]), False)


families.register("openvino", OpenVINOFamily())
