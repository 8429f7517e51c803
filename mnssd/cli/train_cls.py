"""Train a MobileNet for image classification.

Without arguments it trains on crops of the built-in images. A run is a folder under runs/ with its
configuration, log, last checkpoint and best weights; `train-ssd --weights RUN/best.params` starts from them.
"""

from __future__ import annotations

import argparse

from ..options import add_options, given
from ..train.options import ClassificationTraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for group in ClassificationTraining.groups:
        add_options(parser, group, ClassificationTraining.defaults)


def run(args: argparse.Namespace) -> int:
    from ..tasks.run import train_classifier

    train_classifier(given(args, *ClassificationTraining.groups))
    return 0
