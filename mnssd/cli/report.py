"""Make a page about a run: curves, precision, mistakes as images, data and settings.

The page is RUN/report/index.html; it needs no network and no other file. Plots lie beside it as PNG files.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ..options import add_arguments as add_options
from ..options import from_mapping, given, option


@dataclass(frozen=True)
class ReportOptions:
    """The report."""

    data_root: str = option("", "where the run's data lies now, if it has moved", metavar="DIR")
    output: str = option("", "folder of the page (default: RUN/report)", metavar="DIR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the options."""
    parser.add_argument("run", metavar="RUN", help="run folder of a detector")
    add_options(parser, ReportOptions)


def run(args: argparse.Namespace) -> int:
    """Measure, write, say where; returns the exit status."""
    options = from_mapping(ReportOptions, given(args, ReportOptions))
    report_on(Path(args.run), options)
    return 0


def report_on(run: Path, options: ReportOptions) -> None:
    """Write the page of a run and print where it lies."""
    from tqdm import tqdm

    from ..report.collect import collect
    from ..report.page import write_report

    with tqdm(unit="image", desc="report", disable=None, leave=False) as bar:
        data = collect(run, options.data_root, bar.update)
    page = write_report(data, Path(options.output) if options.output else run / "report")
    print(f"report: {page}")
