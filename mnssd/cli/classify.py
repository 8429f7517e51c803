"""Classify images with an exported or trained classifier.

Prints a line per image. --json writes all predictions to one file:
{"classes": [...], "images": [{"image", "predictions": [{"class", "probability"}]}]}.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from ..errors import ImageError
from ..export.formats import engine_names
from ..files import printable, write_json
from ..options import add_options, from_mapping, given, option, require


@dataclass(frozen=True)
class ClassifyOptions:
    """Classifying."""

    top: int = option(3, "most predictions per image")
    json: Optional[str] = option(None, "write the predictions to this file", metavar="FILE")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    engine: str = option(
        "auto",
        "inference engine for an export; auto is the fastest by `mnssd bench export`, else the first",
        choices=engine_names,
    )

    def __post_init__(self) -> None:
        require(self, "at least 1", lambda value: value >= 1, "top")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("classifier", metavar="EXPORT_OR_RUN", help="export or run folder")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    add_options(parser, ClassifyOptions)


def run(args: argparse.Namespace) -> int:
    """Classify one image after the other; returns 1 if some could not be read, else 0."""
    options = from_mapping(ClassifyOptions, given(args, ClassifyOptions))
    from ..runtime import settings

    settings.use_synchronous_engine()
    from ..inference.classifier import Classifier

    classifier = Classifier.load(args.classifier, options.ctx, options.engine)
    images: List[Dict[str, Any]] = []
    for path in args.images:
        try:
            predictions = classifier(path, options.top)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        print(
            f"{printable(path)}: {', '.join(f'{p.name} {p.probability:.2f}' for p in predictions)}",
            flush=True,
        )
        entries = [{"class": p.name, "probability": round(p.probability, 6)} for p in predictions]
        images.append({"image": path, "predictions": entries})
    if options.json:
        write_json(options.json, {"classes": list(classifier.classes), "images": images})
    unreadable = len(args.images) - len(images)
    if unreadable:
        print(f"error: {unreadable} of {len(args.images)} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0
