"""In which formats a network is exported. Imports nothing heavy, so that ``--help`` costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Tuple

from ..errors import OptionError

NAMES = ("symbol", "onnx")


@dataclass(frozen=True)
class Formats:
    """What to write.

    Attributes
    ----------
    names : tuple of str
        Of `NAMES`.
    onnx_pixels : bool
        The ONNX file takes ``(batch, height, width, 3)`` uint8 RGB and normalises it itself.
    raw_heads : bool
        A detector's ONNX file ends with class scores and box offsets, without decoding and suppression, for
        runtimes that have no such operators.
    """

    names: Tuple[str, ...] = ("symbol",)
    onnx_pixels: bool = False
    raw_heads: bool = False


SYMBOL = Formats()


def check_installed(formats: Formats) -> None:
    """Raise OptionError where a package that a format needs is missing."""
    if "onnx" not in formats.names:
        return
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise OptionError(
            f"--format onnx needs {' and '.join(missing)}; install with: pip install 'onnx<1.15' onnxruntime"
        )
