"""Train a MobileNet to tell images apart.

With no arguments it trains on crops of the built-in images. A run is a folder under runs/ with its
configuration, log, last checkpoint and best weights; `train-ssd --weights RUN/best.params` starts from them.
"""

from __future__ import annotations

import argparse
from typing import Any, Dict

from ..options import add_arguments as add_option_arguments
from ..options import given
from ..train.options import CLASSIFICATION_KINDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, network, augmentation and training."""
    for kind in CLASSIFICATION_KINDS:
        add_option_arguments(parser, kind)


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    from ..tasks.run import train_classifier

    values: Dict[str, Any] = {
        key: value for kind in CLASSIFICATION_KINDS for key, value in given(args, kind).items()
    }
    train_classifier(values)
    return 0
