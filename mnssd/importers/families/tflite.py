"""TensorFlow Lite: SSD MobileNets of the Object Detection API, and MobileNet classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from . import EngineOutputs, Family, families

if TYPE_CHECKING:
    import numpy as np

    from ..graph import ReadNetwork

IDENTIFIER = b"TFL3"
"""Of TensorFlow Lite's flatbuffers, after four bytes."""


class TFLiteFamily(Family):
    """Files with float32, uint8 or int8 weights."""

    name = "tflite"
    description = "TensorFlow Lite (.tflite): SSD MobileNet with or without its post-processing, MobileNet"
    engine = "ai-edge-litert"

    def recognizes(self, path: str, start: bytes) -> bool:
        return start[4:8] == IDENTIFIER

    def read(self, path: str) -> ReadNetwork:
        from ..flatbuffer import read_flatbuffer
        from ..tflite_graph import read_network

        with open(path, "rb") as file:
            return read_network(path, read_flatbuffer(path, file.read()))

    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError:
            return None
        import numpy as np

        interpreter = Interpreter(
            model_path=path, experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )  # fmt: skip
        interpreter.allocate_tensors()
        details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
        source = interpreter.get_input_details()[0]
        wanted = [*read.class_tensors, *read.box_tensors] or [read.logits]
        rows = []
        for image in images:
            interpreter.set_tensor(source["index"], _as_input(image, source, read))
            interpreter.invoke()
            parts = [_real(interpreter.get_tensor(int(t)), details[int(t)]) for t in wanted]
            rows.append([part.reshape(-1) for part in parts])
        outputs = read.heads([np.stack(values) for values in zip(*rows)])
        return EngineOutputs(f"{self.engine} (TensorFlow Lite)", *outputs, "float" not in read.source)


def _as_input(image: np.ndarray, source: Any, read: ReadNetwork) -> np.ndarray:
    """An image as the interpreter takes it: its own integers, or normalized floats."""
    import numpy as np

    if source["dtype"] == np.uint8:
        return image[None]
    if source["dtype"] == np.int8:
        return (image[None].astype(np.int16) - 128).astype(np.int8)
    return read.pixels.normalize(image[None]).transpose(0, 2, 3, 1)


def _real(values: np.ndarray, detail: Any) -> np.ndarray:
    """Real numbers of a tensor of the interpreter."""
    import numpy as np

    scale, zero = detail["quantization"]
    return (values.astype(np.float64) - zero) * scale if scale else values.astype(np.float64)


families.register("tflite", TFLiteFamily())
