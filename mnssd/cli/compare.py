"""Compare the MobileNets: what width and resolution cost, take here, and reach according to their authors.

A table of parameters, multiply-adds, measured milliseconds for one image and published ImageNet accuracy,
and, with --output, an image of the trade-off curves.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import List, Optional, Tuple

from ..errors import MnssdError
from ..files import write_json
from ..nn.backbones import backbones
from ..options import FLOATS, INTS, NAMES, from_mapping, given, option
from ..options import add_arguments as add_options


@dataclass(frozen=True)
class CompareOptions:
    """Comparing."""

    networks: Optional[List[str]] = option(
        None, "names (default: both)", type=NAMES, metavar="NAME,..."
    )
    widths: Optional[Tuple[float, ...]] = option(
        None, "width multipliers (default: 1,0.75,0.5,0.25)", type=FLOATS, metavar="W,..."
    )
    sizes: Optional[Tuple[int, ...]] = option(
        None, "resolutions (default: 224,192,160,128,96)", type=INTS, metavar="N,..."
    )
    seconds: float = option(0.5, "about so long is each network timed; 0 not to time")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    output: Optional[str] = option(None, "draw the trade-off curves into this image", metavar="FILE.png")
    json: Optional[str] = option(None, "write the figures to this file too", metavar="FILE")
    markdown: bool = option(False, "print a Markdown table")

    def __post_init__(self) -> None:
        for name in self.networks or ():
            if name not in backbones:
                raise ValueError(f"networks are {' and '.join(backbones.names())}, not {name}")
        if any(width <= 0 for width in self.widths or ()) or any(size < 32 for size in self.sizes or ()):
            raise ValueError("widths are above 0 and sizes at least 32")
        if not 0 <= self.seconds < float("inf"):
            raise ValueError(f"seconds must not be negative, not {self.seconds}")
        if self.output and not self.output.lower().endswith((".png", ".svg", ".pdf")):
            raise ValueError(f"output ends in .png, .svg or .pdf, not {self.output!r}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of comparing."""
    add_options(parser, CompareOptions)


def run(args: argparse.Namespace) -> int:
    """Count, time and print; returns the exit status."""
    options = from_mapping(CompareOptions, given(args, CompareOptions))

    from ..runtime import settings

    settings.suit_single_images()
    # These load MXNet, which chooses its engine while it is loaded.
    from ..bench.measure import format_table
    from ..bench.tradeoff import draw, points

    found = []
    head = ("network", "width", "size", "parameters", "multiply-adds", "ms", "published top-1")
    rows = []
    for point in points(
        options.networks or backbones.names(), options.widths or [1.0, 0.75, 0.5, 0.25],
        options.sizes or [224, 192, 160, 128, 96], options.seconds, settings.pick_context(options.ctx),
    ):  # fmt: skip
        found.append(point)
        rows.append((
            point.network, f"{point.width:g}", str(point.size), f"{point.parameters / 1e6:.3f} M",
            f"{point.multiply_adds / 1e6:.1f} M",
            "" if point.milliseconds is None else f"{point.milliseconds:.2f}",
            "" if point.published_top1 is None else f"{point.published_top1:.1f}",
        ))  # fmt: skip
    machine = settings.describe()
    print(f"{machine['cpu']}, {machine['instruction_set']}, {machine['usable_cores']} cores\n")
    print(format_table(head, rows, options.markdown))
    if options.json:
        report = {"machine": machine, "points": [point.as_dict() for point in found]}
        write_json(options.json, report)
    if options.output:
        try:
            draw(found, options.output)
        except OSError as error:
            raise MnssdError(f"{options.output}: cannot be written ({error.strerror})") from error
        print(f"\ncurves: {options.output}")
    return 0
