"""Train an SSD detector.

Without arguments it trains on the built-in dataset `shapes`. A run is a folder under runs/ with its
configuration, log, last checkpoint, best weights and, after training, a report.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import MnssdError
from ..options import add_options, from_mapping, given, option
from ..train.options import DetectionTraining
from ..train.run_folder import RunFolder


@dataclass(frozen=True)
class ReportOption:
    """After training."""

    report: bool = option(True, "write RUN/report/index.html, unless --val-interval is 0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for group in (*DetectionTraining.groups, ReportOption):
        add_options(parser, group, DetectionTraining.defaults)


def run(args: argparse.Namespace) -> int:
    from ..tasks.run import train_detector

    folder = train_detector(given(args, *DetectionTraining.groups))
    if from_mapping(ReportOption, given(args, ReportOption)).report and not os.environ.get("DMLC_ROLE"):
        _write_report(folder)
    return 0


def _write_report(run: Path) -> None:
    """Write the report of a run that is validated; a failure is only a warning, since the run is complete."""
    if not RunFolder(run).read_config().options.loop.val_interval:
        return
    from .report import ReportOptions, report_on

    try:
        report_on(run, ReportOptions())
    except MnssdError as error:
        print(f"warning: no report: {error}. `mnssd report {run}` writes it later", file=sys.stderr)
