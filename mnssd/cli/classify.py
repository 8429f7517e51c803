"""Say what images show, with an exported or a trained classifier.

Prints a line for each image. With --json, writes all guesses into one file:
{"classes": [...], "images": [{"image", "guesses": [{"class", "probability"}]}]}.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from ..errors import ImageError
from ..export.options import ENGINES
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option


@dataclass(frozen=True)
class ClassifyOptions:
    """Classifying."""

    top: int = option(3, "guesses for each image")
    json: Optional[str] = option(None, "write the guesses into this file", metavar="FILE")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    engine: str = option(
        "auto", "what computes; auto is the first of these whose files are there", choices=("auto", *ENGINES)
    )

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top must be at least 1, not {self.top}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the classifier, the images and the options."""
    parser.add_argument("classifier", metavar="EXPORT_OR_RUN", help="folder of an export or a run")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    add_options(parser, ClassifyOptions)


def run(args: argparse.Namespace) -> int:
    """Classify one image after the other; 1 when some could not be read, else 0."""
    options = from_mapping(ClassifyOptions, given(args, ClassifyOptions))

    from ..runtime import settings

    settings.use_synchronous_engine()
    # These load MXNet, which chooses its engine while it is loaded.
    from ..files import write_json
    from ..inference.classifier import Classifier

    classifier = Classifier.load(args.classifier, options.ctx, options.engine)
    answers: List[Dict[str, Any]] = []
    for path in args.images:
        try:
            guesses = classifier(path, options.top)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        print(f"{path}: {', '.join(f'{g.name} {g.probability:.2f}' for g in guesses)}", flush=True)
        found = [{"class": g.name, "probability": round(g.probability, 6)} for g in guesses]
        answers.append({"image": path, "guesses": found})
    if options.json:
        report = {"classes": list(classifier.classes), "images": answers}
        write_json(options.json, report)
    unreadable = len(args.images) - len(answers)
    if unreadable:
        print(f"error: {unreadable} of {len(args.images)} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0
