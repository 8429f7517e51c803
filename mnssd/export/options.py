"""Options of an export. Imports nothing heavy, so that ``--help`` is fast."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple, Union

from ..options import INT, ValueType, option, parse_names, require, unknown_name
from .formats import by_priority, export_formats

_log = logging.getLogger(__name__)

CALIBRATIONS = ("naive", "percentile", "entropy")
"""Methods that choose the ranges of 8-bit integers; see `export.calibrate.find_ranges`."""

SHARED_BITS = (4, 8)
"""Fewest and most bits per weight of shared files."""

DEFAULT_SHARED_BITS = 5
"""The fewest that lose less than a point of mAP; see benchmarks/SMALL-NETWORKS.md."""


def parse_formats(formats: Union[str, Sequence[str]]) -> Tuple[str, ...]:
    """Names of export formats, from a sequence or text such as ``'symbol,onnx'``.

    ``'all'`` means all that need no download and can be written here; a note tells which cannot.
    """
    names = parse_names(formats) if isinstance(formats, str) else list(dict.fromkeys(formats))
    if names == ["all"]:
        obstacles = {entry.name: entry.obstacle() for entry in by_priority() if entry.in_all}
        for name, obstacle in obstacles.items():
            if obstacle:
                _log.warning(f"--format all: without {name}, because {obstacle}")
        return tuple(name for name, obstacle in obstacles.items() if not obstacle)
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
        (), "export formats, separated by commas, or all, which leaves out web and web-file; see below",
        type=ValueType(parse_formats), shown="symbol; shared with --shared-bits or --huffman",
    )  # fmt: skip
    pixels: bool = option(False, "the exported network takes uint8 RGB pixels and normalizes them itself")
    raw_heads: bool = option(
        False, "end a detector before decoding and suppression, for runtimes such as OpenCV's DNN module"
    )
    fp16_weights: bool = option(
        False, "store the weights of symbol and openvino files as float16, in half the space"
    )
    shared_bits: Optional[int] = option(
        None, "bits per weight of shared files, 4 to 8", type=INT, shown=str(DEFAULT_SHARED_BITS)
    )
    huffman: bool = option(False, "store the weights of shared files as a Huffman code, without further loss")
    calibration: str = option(
        "naive", "method that chooses the ranges of 8-bit integers", choices=CALIBRATIONS
    )

    def __post_init__(self) -> None:
        shares = self.shared_bits is not None or self.huffman
        if self.format == ():
            object.__setattr__(self, "format", "shared" if shares else "symbol")
        object.__setattr__(self, "format", parse_formats(self.format))
        if self.calibration not in CALIBRATIONS:
            raise ValueError(unknown_name("calibration", self.calibration, CALIBRATIONS))
        if self.fp16_weights and not {"symbol", "openvino"} & set(self.format):
            raise ValueError("fp16_weights applies to symbol and openvino files; add --format symbol")
        if shares and "shared" not in self.format:
            raise ValueError("shared_bits and huffman apply to shared files; add --format shared")
        pages = [name for name in self.format if name in ("web", "web-file")]
        if self.raw_heads and pages:
            raise ValueError(
                f"raw_heads: the page of --format {pages[0]} shows detections; export it without"
            )
        if self.shared_bits is not None:
            low, high = SHARED_BITS
            require(self, f"{low} to {high}", lambda bits: low <= bits <= high, "shared_bits")

    @property
    def needs_calibration(self) -> bool:
        """Whether a format needs calibration images."""
        return any(export_formats[name].needs_calibration for name in self.format)
