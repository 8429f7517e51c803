"""Read the files listed on stdin and print the outcome of each; the child process of test_fuzz_files.py.

If a reader crashes, the last line printed names the file. Memory is limited to what valid files need.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any, Callable, Dict

MEMORY = 6 << 30
"""Address space; importing MXNet, OpenCV and ONNX Runtime maps 3 GB."""


def readers() -> Dict[str, Callable[[Path], Any]]:
    """Reader of each kind of file."""
    from mnssd.runtime import settings

    settings.use_synchronous_engine()

    import numpy as np

    from mnssd import zoo
    from mnssd.export.sidecar import describe_file
    from mnssd.inference.detector import Detector
    from mnssd.inference.output import JsonLines
    from mnssd.train.checkpoint import read_checkpoint
    from mnssd.train.options import DetectionTraining
    from mnssd.train.recipes import read_recipe
    from mnssd.weights import read_params
    from mnssd.weights.state_dict import read_state_dict

    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)

    def export(kind: str, engine: str) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            """Load an export after updating the digest of the damaged file in its JSON file."""
            import json

            if kind:
                sidecar = json.loads((path.parent / "pets.json").read_text())
                sidecar["files"][kind] = describe_file(path)
                (path.parent / "pets.json").write_text(json.dumps(sidecar))
            return Detector.load(path.parent, "cpu", engine)(image, 0.5)

        return read

    return {
        "checkpoint": read_checkpoint,
        "params": lambda path: read_params(str(path)),
        "state_dict": lambda path: read_state_dict(str(path)),
        "recipe": lambda path: read_recipe(str(path), DetectionTraining),
        "config": lambda path: zoo.load_detector(str(path.parent)),
        "lines": lambda path: JsonLines(str(path), True).close(),
        "sidecar": export("", "auto"),
        "symbol": export("symbol", "mxnet"),
        "symbol params": export("params", "mxnet"),
        "int8 symbol": export("int8_symbol", "mxnet-int8"),
        "int8 params": export("int8_params", "mxnet-int8"),
        "shared params": export("shared_params", "mxnet-shared"),
        "onnx": export("onnx", "onnxruntime"),
        "openvino": export("openvino_xml", "openvino"),
        "tflite": export("tflite", "tflite"),
        "ncnn text": export("ncnn_param", "ncnn"),
        "ncnn weights": export("ncnn_bin", "ncnn"),
    }


def main() -> None:
    """Read lines ``KIND<tab>PATH``; print ``try PATH``, then ``read``, ``refused: ...`` or ``fault: ...``."""
    from mnssd.errors import MnssdError

    reader_of = readers()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split("\t")
        print(f"try {path}", flush=True)
        try:
            reader_of[kind](Path(path))
        except MnssdError as error:
            print(f"refused: {str(error).splitlines()[0]}", flush=True)
        except BaseException as error:  # any other exception is a bug
            print(f"fault: {type(error).__name__}: {error!r}"[:500], flush=True)
        else:
            print("read", flush=True)


if __name__ == "__main__":
    main()
