"""Reads the files that it is told of, one a line on its input, and says what became of each.

It runs in a process of its own (`test_fuzz_files`): where a reader crashes, this process ends, and the last
line that it wrote names the file. No more memory is given to it than an honest file could need.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any, Callable, Dict

MEMORY = 6 << 30
"""Address space: MXNet, OpenCV and ONNX Runtime map 3 GB without doing anything."""


def readers() -> Dict[str, Callable[[Path], Any]]:
    """By kind: what the product does first with such a file."""
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
            """The file lies in its export, whose description is made to fit it."""
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
        "onnx": export("onnx", "onnxruntime"),
    }


def main() -> None:
    """``KIND<tab>PATH`` lines in; ``try PATH``, then ``read``, ``refused: ...`` or ``fault: ...`` out."""
    from mnssd.errors import MnssdError

    known = readers()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        kind, path = line.rstrip("\n").split("\t")
        print(f"try {path}", flush=True)
        try:
            known[kind](Path(path))
        except MnssdError as error:
            print(f"refused: {str(error).splitlines()[0]}", flush=True)
        except BaseException as error:  # whatever it is, it is a fault, and is told
            print(f"fault: {type(error).__name__}: {error!r}"[:500], flush=True)
        else:
            print("read", flush=True)


if __name__ == "__main__":
    main()
