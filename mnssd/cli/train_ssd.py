"""Train an SSD detector.

With no arguments it trains on the built-in data set `shapes`. A run is a folder under runs/ with its
configuration, log, last checkpoint and best weights.
"""

from __future__ import annotations

import argparse
from typing import Any, Dict

from ..options import add_arguments as add_option_arguments
from ..options import given
from ..train.options import DETECTION_KINDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, network, augmentation and training."""
    for kind in DETECTION_KINDS:
        add_option_arguments(parser, kind)


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    from ..train.run import train_detector

    values: Dict[str, Any] = {
        key: value for kind in DETECTION_KINDS for key, value in given(args, kind).items()
    }
    train_detector(values)
    return 0
