"""Write an HTML report about a training run: learning curves, average precision, errors, data and options.

The report is RUN/report/index.html, with its plots as PNG files beside it; it needs no network.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from ..options import add_options, from_mapping, given, option
from ..tasks.given_datasets import DATASET_AGAIN, check_named


@dataclass(frozen=True)
class ReportOptions:
    """Report."""

    dataset: str = option("", DATASET_AGAIN, metavar="NAME")
    data_root: str = option(
        "", "folder of the dataset, if it has moved", metavar="DIR", shown="that of the run"
    )
    output: str = option("", "folder to write", metavar="DIR", shown="RUN/report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of a detector")
    add_options(parser, ReportOptions)


def run(args: argparse.Namespace) -> int:
    options = from_mapping(ReportOptions, given(args, ReportOptions))
    check_named(args.run, options.dataset)
    report_on(Path(args.run), options)
    return 0


def report_on(run: Path, options: ReportOptions) -> None:
    """Write the report of a run and print its path."""
    from tqdm import tqdm

    from ..report.collect import collect
    from ..report.page import write_report

    with tqdm(unit="image", desc="report", disable=None, leave=False) as bar:
        data = collect(run, options.data_root, bar.update)
    page = write_report(data, Path(options.output or run / "report"))
    print(f"report: {page}")
