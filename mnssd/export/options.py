"""In which formats a network is exported. Imports nothing heavy, so that ``--help`` costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Tuple

from ..errors import OptionError

NAMES = ("symbol", "onnx", "int8", "onnx-int8")
"""MXNet's files, and ONNX; and the same with 8-bit integers."""

ENGINES = {
    "mxnet": "symbol",
    "onnxruntime": "onnx",
    "mxnet-int8": "int8",
    "onnxruntime-int8": "onnx_int8",
}
"""Names for people, and the format that each runs (a key of `export.sidecar.FORMATS`). Of those that a folder
holds, ``auto`` is the first."""

CALIBRATIONS = ("naive", "percentile", "entropy")
"""How the ranges of an 8-bit network are found, see `export.calibrate.find_ranges`."""


@dataclass(frozen=True)
class Formats:
    """What to write.

    Attributes
    ----------
    names : tuple of str
        Of `NAMES`.
    pixels : bool
        The files take ``(batch, height, width, 3)`` uint8 RGB and normalise it themselves.
    raw_heads : bool
        A detector's files end with class scores and box offsets, without decoding and suppression, for
        runtimes that have no such operators.
    fp16_weights : bool
        ``symbol`` keeps its weights in 16 bits: half the size, and the weights are rounded.
    calibration : str
        Of `CALIBRATIONS`.
    """

    names: Tuple[str, ...] = ("symbol",)
    pixels: bool = False
    raw_heads: bool = False
    fp16_weights: bool = False
    calibration: str = "naive"

    @property
    def int8(self) -> bool:
        """Whether there is anything to calibrate."""
        return bool({"int8", "onnx-int8"} & set(self.names))


SYMBOL = Formats()


def check_installed(formats: Formats) -> None:
    """Raise OptionError where a package that a format needs is missing."""
    needed = {"onnx": "onnx", "onnxruntime": "onnxruntime", "ml_dtypes": "ml-dtypes"}
    if "onnx-int8" not in formats.names:
        del needed["ml_dtypes"]
        if "onnx" not in formats.names:
            return
    missing = [package for module, package in needed.items() if find_spec(module) is None]
    if missing:
        raise OptionError(
            f"ONNX needs {' and '.join(missing)}; install with: pip install 'onnx>=1.16,<1.17' onnxruntime"
            " 'ml-dtypes<0.5'"
        )
