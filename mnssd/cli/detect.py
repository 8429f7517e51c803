"""Find objects in pictures, with an exported or a trained detector.

Prints a line for each picture. With --output, draws labelled boxes; with --json, writes all detections into
one file: {"classes": [...], "images": [{"image", "width", "height", "detections": [{"class", "score",
"box": [xmin, ymin, xmax, ymax]}]}]}, boxes in pixels of the picture, counted from 0.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Tuple

from ..errors import ImageError, MnssdError
from ..options import add_arguments as add_options
from ..options import from_mapping, given, option

if TYPE_CHECKING:
    import numpy as np

    from ..data.sample import Detections

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings under which OpenCV writes a picture; others become .png."""


@dataclass(frozen=True)
class DetectOptions:
    """Detecting."""

    output: Optional[str] = option(None, "draw labelled boxes and write the pictures here", metavar="DIR")
    # deploy.detector.DISPLAY_SCORE, said again so that --help need not load NumPy
    score: float = option(0.5, "lowest score of a detection, 0 to 1")
    json: Optional[str] = option(None, "write the detections into this file", metavar="FILE")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    # deploy.engines.ENGINES, said again so that --help need not load NumPy
    engine: str = option(
        "auto",
        "what computes: auto is MXNet where its files are there",
        choices=("auto", "mxnet", "onnxruntime"),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"score is from 0 to 1, not {self.score}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the detector, the pictures and the options."""
    parser.add_argument("detector", metavar="EXPORT_OR_RUN", help="folder of an export or a run")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture files")
    add_options(parser, DetectOptions)


def run(args: argparse.Namespace) -> int:
    """Detect in one picture after the other; 1 when some could not be read, else 0."""
    options = from_mapping(DetectOptions, given(args, DetectOptions))

    from .. import runtime

    runtime.suit_single_images()
    # These load MXNet, which chooses its engine while it is loaded.
    from ..data.image import image_size, read_image
    from ..deploy.detector import Detector

    detector = Detector.load(args.detector, options.ctx, options.engine)
    names = _Names(options.output, args.images) if options.output else None
    found_in: List[Dict[str, Any]] = []
    for path in args.images:
        try:
            found, size = detector(path, options.score), image_size(path)
            image = read_image(path) if names else None
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        line = f"{path}: {_summary(found, detector.classes)}"
        if names and image is not None:
            target = names.choose(path)
            _write_picture(target, image, found, detector.classes)
            line += f" -> {target}"
        print(line, flush=True)
        found_in.append(_as_dict(path, size, found, detector.classes))
    if options.json:
        _write_json(options.json, {"classes": list(detector.classes), "images": found_in})
    unreadable = len(args.images) - len(found_in)
    if unreadable:
        print(f"error: {unreadable} of {len(args.images)} pictures could not be read", file=sys.stderr)
    return 1 if unreadable else 0


class _Names:
    """Chooses where pictures go: under their own names, numbered where one would be lost, be it an input."""

    def __init__(self, folder: str, images: Sequence[str]) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise MnssdError(f"{folder}: is a file; --output is the folder for the pictures") from error
        self._taken: Set[str] = {os.path.realpath(image) for image in images}

    def choose(self, image: str) -> Path:
        """A path that has not been chosen before."""
        stem, ending = os.path.splitext(os.path.basename(image))
        ending = ending if ending.lower() in WRITABLE else f"{ending}.png"
        path, number = self._folder / (stem + ending), 1
        while os.path.realpath(path) in self._taken:
            number += 1
            path = self._folder / f"{stem}-{number}{ending}"
        self._taken.add(os.path.realpath(path))
        return path


def _write_picture(path: Path, image: np.ndarray, found: Detections, classes: Sequence[str]) -> None:
    import cv2

    from ..deploy.draw import draw

    drawn = cv2.cvtColor(draw(image, found, classes), cv2.COLOR_RGB2BGR)
    written, content = cv2.imencode(path.suffix, drawn)
    if not written:
        raise MnssdError(
            f"{path}: OpenCV cannot write this kind of picture of {image.shape[1]}x{image.shape[0]}"
        )
    path.write_bytes(content.tobytes())


def _summary(found: Detections, classes: Sequence[str]) -> str:
    """``2 found: cat 0.98, dog 0.71``."""
    shown = ", ".join(f"{classes[label]} {score:.2f}" for label, score in zip(found.labels, found.scores))
    return f"{len(found.labels)} found" + (f": {shown}" if shown else "")


def _as_dict(path: str, size: Tuple[int, int], found: Detections, classes: Sequence[str]) -> Dict[str, Any]:
    detections = [
        {
            "class": classes[label],
            "score": round(float(score), 6),
            "box": [round(float(edge), 3) for edge in box],
        }
        for label, score, box in zip(found.labels, found.scores, found.boxes)
    ]
    return {"image": path, "width": size[0], "height": size[1], "detections": detections}


def _write_json(path: str, report: Dict[str, Any]) -> None:
    import json

    from ..files import replacing

    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with replacing(path) as file:
        json.dump(report, file, indent=2, allow_nan=False)
        file.write("\n")
