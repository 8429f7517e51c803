"""Train an SSD detector.

With no arguments it trains on the built-in data set `shapes`. A run is a folder under runs/ with its
configuration, log, last checkpoint and best weights.
"""

from __future__ import annotations

import argparse
from typing import Any, Dict

from ..data.augment_options import AugmentOptions
from ..options import add_arguments as add_option_arguments
from ..options import given
from ..train.options import DetectionOptions, LoopOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, network and training."""
    add_option_arguments(parser, DetectionOptions)
    add_option_arguments(parser, AugmentOptions)
    add_option_arguments(parser, LoopOptions)


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    from ..train.run import train_detector

    kinds = (DetectionOptions, AugmentOptions, LoopOptions)
    values: Dict[str, Any] = {key: value for kind in kinds for key, value in given(args, kind).items()}
    train_detector(values)
    return 0
