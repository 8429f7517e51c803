"""Options of an export. Imports nothing heavy, so that ``--help`` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple, Union

from ..options import ValueType, option, parse_names, unknown_name
from .formats import by_priority, export_formats

CALIBRATIONS = ("naive", "percentile", "entropy")
"""Methods that choose the ranges of 8-bit integers; see `export.calibrate.find_ranges`."""


def parse_formats(formats: Union[str, Sequence[str]]) -> Tuple[str, ...]:
    """Names of export formats, from a sequence or text such as ``'symbol,onnx'``; ``'all'`` means all."""
    names = parse_names(formats) if isinstance(formats, str) else list(dict.fromkeys(formats))
    if names == ["all"]:
        return tuple(entry.name for entry in by_priority())
    if not names:
        raise ValueError(f"no export format; choose from {', '.join(export_formats.names())}")
    for name in names:
        if name not in export_formats:
            raise ValueError(unknown_name("export format", name, [*export_formats.names(), "all"]))
    return tuple(names)


@dataclass(frozen=True)
class ExportOptions:
    """What to write."""

    format: Tuple[str, ...] = option(
        ("symbol",), "export formats, separated by commas, or all; see below", type=ValueType(parse_formats)
    )
    pixels: bool = option(False, "the exported network takes uint8 RGB pixels and normalizes them itself")
    raw_heads: bool = option(
        False, "end a detector before decoding and suppression, for runtimes such as OpenCV's DNN module"
    )
    fp16_weights: bool = option(False, "store the weights of symbol files as float16, in half the space")
    calibration: str = option(
        "naive", "method that chooses the ranges of 8-bit integers", choices=CALIBRATIONS
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", parse_formats(self.format))
        if self.calibration not in CALIBRATIONS:
            raise ValueError(unknown_name("calibration", self.calibration, CALIBRATIONS))
        if self.fp16_weights and "symbol" not in self.format:
            raise ValueError("fp16_weights applies to symbol files; add --format symbol")

    @property
    def needs_calibration(self) -> bool:
        """Whether a format needs calibration images."""
        return any(export_formats[name].needs_calibration for name in self.format)
