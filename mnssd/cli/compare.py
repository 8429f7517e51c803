"""Compare networks: parameters, multiply-adds, latency of one image and published ImageNet accuracy.

--output plots accuracy over cost and latency.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import List, Optional, Tuple

from ..errors import MnssdError
from ..files import write_json
from ..nn.backbones import backbones
from ..options import FLOATS, INTS, NAMES, add_options, from_mapping, given, option, require, unknown_name


@dataclass(frozen=True)
class CompareOptions:
    """Comparison."""

    networks: Optional[List[str]] = option(
        None, "networks to compare", type=NAMES, metavar="NAME,...", shown="all"
    )
    widths: Tuple[float, ...] = option(
        (1.0, 0.75, 0.5, 0.25), "width multipliers", type=FLOATS, metavar="W,..."
    )
    sizes: Tuple[int, ...] = option(
        (224, 192, 160, 128, 96), "input sizes in pixels", type=INTS, metavar="N,..."
    )
    seconds: float = option(0.5, "approximate duration of each measurement; 0 skips it")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    output: Optional[str] = option(None, "plot the results to this file", metavar="FILE.png")
    json: Optional[str] = option(None, "also write the results to this file", metavar="FILE")
    markdown: bool = option(False, "print a Markdown table")

    def __post_init__(self) -> None:
        for name in self.networks or ():
            if name not in backbones:
                raise ValueError(f"networks: {unknown_name('network', name, backbones.names())}")
        require(self, "values above 0", lambda widths: widths and min(widths) > 0, "widths")
        require(self, "values of at least 32", lambda sizes: sizes and min(sizes) >= 32, "sizes")
        require(self, "a finite number of at least 0", lambda value: 0 <= value < float("inf"), "seconds")
        if self.output and not self.output.lower().endswith((".png", ".svg", ".pdf")):
            raise ValueError(f"output: expected a .png, .svg or .pdf file, got {self.output!r}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, CompareOptions)
    parser.epilog = f"networks: {', '.join(backbones.names())}"


def run(args: argparse.Namespace) -> int:
    options = from_mapping(CompareOptions, given(args, CompareOptions))
    from ..runtime import settings

    settings.use_synchronous_engine()
    # Loads MXNet, which reads its settings when it is imported.
    from ..bench.measure import format_table
    from ..bench.tradeoff import draw, points

    networks, ctx = options.networks or backbones.names(), settings.pick_context(options.ctx)
    results = list(points(networks, options.widths, options.sizes, options.seconds, ctx))
    head = ("network", "width", "size", "parameters", "multiply-adds", "ms", "published top-1")
    rows = []
    for point in results:
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
        write_json(options.json, {"machine": machine, "points": list(map(asdict, results))})
    if options.output:
        try:
            draw(results, options.output)
        except OSError as error:
            raise MnssdError(f"{options.output}: cannot write ({error.strerror})") from error
        print(f"\nplot: {options.output}")
    return 0
