"""Train an SSD detector.

With no arguments it trains on the built-in dataset `shapes`. A run is a folder under runs/ with its
configuration, log, last checkpoint, best weights and, in the end, a report.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

from ..errors import MnssdError
from ..options import add_arguments as add_option_arguments
from ..options import from_mapping, given, option
from ..train.options import DETECTION_KINDS
from ..train.run_folder import RunFolder


@dataclass(frozen=True)
class EndOptions:
    """Afterwards."""

    report: bool = option(True, "write RUN/report/index.html, unless --val-interval is 0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, network, augmentation and training."""
    for kind in (*DETECTION_KINDS, EndOptions):
        add_option_arguments(parser, kind)


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    from ..tasks.run import train_detector

    values: Dict[str, Any] = {
        key: value for kind in DETECTION_KINDS for key, value in given(args, kind).items()
    }
    output = train_detector(values)
    if from_mapping(EndOptions, given(args, EndOptions)).report:
        _report(output)
    return 0


def _report(run: Path) -> None:
    """Write the page of a run that measures itself; what hinders it is said, for the training was done."""
    if os.environ.get("DMLC_ROLE") or not RunFolder(run).read_config()["options"].get("val_interval"):
        return
    from .report import ReportOptions, report_on

    try:
        report_on(run, ReportOptions())
    except MnssdError as error:
        print(f"warning: no report: {error}. `mnssd report {run}` makes it later", file=sys.stderr)
