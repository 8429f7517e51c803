"""Find objects in images, folders of them, videos or a camera, with an exported or a trained detector.

Prints a line for each image or frame. --output draws labelled boxes. The detections go to --jsonl, a line
of JSON for each image as it comes ({"image", "width", "height", "detections": [{"class", "score", "box":
[xmin, ymin, xmax, ymax]}]}, "frame" too in a video), from which --resume goes on after an interruption; to
--json, one file {"classes": [...], "images": [...]}; to --coco, a COCO dataset; to --voc, an annotation for
each image. Boxes are in pixels of the image, counted from 0; in --voc from 1, as there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Set, Tuple, Union

from ..errors import ImageError, MnssdError, OptionError
from ..export.options import ENGINES
from ..options import FLOAT, NAMES, from_mapping, given, option
from ..options import add_arguments as add_options

if TYPE_CHECKING:
    import numpy as np

    from ..inference.output import Lines
    from ..inference.sources import Frame, Unreadable, VideoFile

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings under which OpenCV writes an image; others become .png."""

INTERMIXED = True
"""Images may stand on both sides of options, and the detector be left out."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@dataclass(frozen=True)
class DetectOptions:
    """Detecting."""

    output: Optional[str] = option(None, "draw labelled boxes; images and videos go here", metavar="DIR")
    # deploy.detector.DISPLAY_SCORE, said again so that --help need not load NumPy
    score: float = option(0.5, "lowest score of a detection, 0 to 1")
    iou: Optional[float] = option(
        None, "of two boxes of one class that overlap by more, the better stays (default: the network's)",
        type=FLOAT,
    )  # fmt: skip
    max_detections: int = option(-1, "most detections in one image; -1 for all")
    classes: Optional[List[str]] = option(
        None, "wanted classes, separated by commas (default: all)", type=NAMES
    )
    jsonl: Optional[str] = option(None, "write a line for each image as it comes", metavar="FILE")
    resume: bool = option(False, "go on behind the last image in --jsonl")
    json: Optional[str] = option(None, "write the detections into this file", metavar="FILE")
    coco: Optional[str] = option(None, "write a COCO dataset with these detections", metavar="FILE")
    voc: Optional[str] = option(None, "write Pascal VOC's annotations of images here", metavar="DIR")
    show: bool = option(False, "show them in a window, too; q ends it")
    ctx: str = option("auto", "where to compute: auto, cpu, gpu or gpu:N")
    engine: str = option(
        "auto", "what computes; auto is the first of these whose files are there", choices=("auto", *ENGINES)
    )

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"score is from 0 to 1, not {self.score}")
        if self.iou is not None and not 0 <= self.iou <= 1:
            raise ValueError(f"iou is from 0 to 1, not {self.iou}")
        if self.resume and not self.jsonl:
            raise ValueError("resume goes on behind the last image in a file of lines; give --jsonl FILE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the detector, the images and the options."""
    parser.add_argument(
        "detector", nargs="?", metavar="EXPORT_OR_RUN",
        help="folder of an export or a run; without it the built-in detector of the built-in images",
    )  # fmt: skip
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE",
        help="image and video files, folders, patterns such as 'photos/*.jpg', camera:0",
    )  # fmt: skip
    add_options(parser, DetectOptions)


def run(args: argparse.Namespace) -> int:
    """Detect in one image after the other; 1 when some could not be read, else 0."""
    options = from_mapping(DetectOptions, given(args, DetectOptions))
    chosen, images = _detector_and_images(args.detector, args.images)
    if options.show:
        _check_display()

    from ..runtime import settings

    settings.use_synchronous_engine()
    # These load MXNet, which chooses its engine while it is loaded.
    from ..inference.detector import Detector
    from ..inference.output import Lines, write_coco, write_json

    detector = Detector.load(chosen, options.ctx, options.engine)
    with contextlib.ExitStack() as stack:
        path = options.jsonl or os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "lines")
        lines = Lines(path, options.resume)
        stack.callback(lines.close)
        work = _Work(detector, options, images, lines)
        stack.callback(work.close)
        status = work.go_through()
        for write, target in ((write_json, options.json), (write_coco, options.coco)):
            if target:
                write(target, path, detector.classes)
    return status


def _detector_and_images(first: Optional[str], images: List[str]) -> Tuple[str, List[str]]:
    """What the arguments mean: an image in the detector's place asks for the built-in detector."""
    from ..inference.builtin import SHAPES, is_detector

    if first is None:
        raise OptionError("say in which images: mnssd detect EXPORT_OR_RUN IMAGE ...")
    path = Path(first)
    is_picture = (path.is_file() and path.suffix != ".params") or first.startswith("camera:") or "*" in first
    if is_picture or (path.is_dir() and not images and not is_detector(path)):
        print(
            "note: no detector is given; the built-in one finds circles, squares, triangles, stars, crosses"
            " and rings like those of `mnssd shapes`",
            file=sys.stderr,
        )
        return str(SHAPES), [first, *images]
    if not images and not path.exists():
        raise OptionError(f"{first}: there is no such file or folder")
    if not images:
        raise OptionError(f"say in which images: mnssd detect {first} IMAGE ...")
    return first, images


class _Work:
    """One image after the other, and what is written of each."""

    def __init__(self, detector: Any, options: DetectOptions, inputs: Sequence[str], lines: Lines) -> None:
        from tqdm import tqdm

        self._detector, self._options, self._inputs, self._lines = detector, options, inputs, lines
        self._pictures = _Names(options.output, inputs, "--output") if options.output else None
        self._annotations = _Names(options.voc, inputs, "--voc") if options.voc else None
        self._video: Optional[VideoFile] = None
        self._bar = tqdm(unit="picture", disable=None, leave=False)
        self._seen = self._failed = 0

    def close(self) -> None:
        """Finish the video that is being written."""
        self._bar.close()
        if self._video:
            self._video.close()

    def go_through(self) -> int:
        """All images; returns the exit status."""
        from ..inference.sources import iter_frames

        begun, status = time.monotonic(), 0
        try:
            for number, view in enumerate(iter_frames(self._inputs)):
                if number < self._lines.done:
                    self._pass_by(view, number)
                elif not self._one(view):
                    break
        except KeyboardInterrupt:
            status = INTERRUPTED
            go_on = f"; go on with: --jsonl {self._lines.path} --resume" if self._options.jsonl else ""
            print(f"interrupted{go_on}", file=sys.stderr)
        rate = self._seen / max(time.monotonic() - begun, 1e-9)
        before = f", {self._lines.done} were there" if self._lines.done else ""
        noun = "picture" if self._seen == 1 else "pictures"
        self._say(f"{self._seen} {noun}, {rate:.1f} a second{before}")
        if self._failed:
            total = self._seen + self._failed
            print(f"error: {self._failed} of {total} images could not be read", file=sys.stderr)
        return status or int(self._failed > 0)

    def _pass_by(self, view: Union[Frame, Unreadable], number: int) -> None:
        """One that an earlier call has done: the names that it chose then stay taken."""
        from ..inference.sources import Frame

        last = self._lines.last or {}
        if number == self._lines.done - 1 and last["image"] != view.name:
            raise MnssdError(
                f"{self._lines.path}: ends with {last['image']}, but image {number + 1} is now {view.name};"
                " give the same images as before, or another --jsonl"
            )
        if not isinstance(view, Frame) or number in self._lines.failed:
            return
        if self._pictures and not view.frame:
            self._pictures.choose(*_file_of(view))
        if self._annotations and view.frame is None:
            self._annotations.choose(view.name, ".xml")

    def _one(self, view: Union[Frame, Unreadable]) -> bool:
        """Detect, write, print; whether to go on."""
        from ..data.image import read_image
        from ..inference.sources import Frame

        opt = self._options
        try:
            if not isinstance(view, Frame):
                raise ImageError(view.error)
            found = self._detector(view.picture, opt.score, opt.iou, opt.max_detections, opt.classes)
            pixels: Optional[np.ndarray] = None
            if isinstance(view.picture, str):
                pixels = read_image(view.picture) if self._pictures or opt.show else None
            else:
                pixels = view.picture
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            self._failed += 1
            self._lines.add({"image": view.name, "error": str(error)})
            return True
        line = f"{view.name}{'' if view.frame is None else f' frame {view.frame}'}: {found!r}"
        drawn = found.draw(pixels) if pixels is not None and (self._pictures or opt.show) else None
        if self._pictures and drawn is not None:
            target = self._write_drawn(view, drawn)
            line += f" -> {target}" if target else ""
        if self._annotations and view.frame is None:
            annotation = self._annotations.choose(view.name, ".xml")
            annotation.write_text(found.to_voc(os.path.basename(view.name)), encoding="utf-8")
        self._say(line)
        self._lines.add({**view.key(), **found.to_dict()})
        self._seen += 1
        self._bar.update()
        return not (opt.show and drawn is not None and _show(drawn))

    def _write_drawn(self, view: Frame, drawn: np.ndarray) -> Optional[Path]:
        """The path of what was begun: an image, or a video at its first frame."""
        from ..inference.sources import VideoFile

        assert self._pictures
        if view.frame is None:
            return _write_picture(self._pictures.choose(*_file_of(view)), drawn)
        path = None
        if view.frame == 0 or self._video is None:
            if self._video:
                self._video.close()
            path = self._pictures.choose(*_file_of(view))
            self._video = VideoFile(path, (drawn.shape[1], drawn.shape[0]), view.rate)
        self._video.add(drawn)
        return path

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()


def _file_of(view: Frame) -> Tuple[str, str]:
    """The name after which what is drawn of it is called, and the ending, if not the name's own."""
    return (view.name, "") if view.frame is None else (view.name.replace(":", ""), ".mp4")


class _Names:
    """Chooses where files go: under the images' names, numbered where one would be lost, be it an input."""

    def __init__(self, folder: str, images: Sequence[str], which: str) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise MnssdError(f"{folder}: is a file; {which} takes a folder") from error
        self._images = [os.path.realpath(image) for image in images]
        self._taken: Set[str] = set()

    def choose(self, image: str, ending: str) -> Path:
        """A path that has not been chosen before; with an ending of its own, or the image's."""
        stem, own = os.path.splitext(os.path.basename(image))
        if not ending:
            ending = own if own.lower() in WRITABLE else f"{own}.png"
        path, number = self._folder / (stem + ending), 1
        while self._is_taken(os.path.realpath(path)):
            number += 1
            path = self._folder / f"{stem}-{number}{ending}"
        self._taken.add(os.path.realpath(path))
        return path

    def _is_taken(self, path: str) -> bool:
        """By an earlier choice, or by an input: one that was named, or lies in a folder that was."""
        if path in self._taken:
            return True
        inside = (path == image or path.startswith(image + os.sep) for image in self._images)
        return any(inside) and os.path.exists(path)


def _write_picture(path: Path, drawn: np.ndarray) -> Path:
    import cv2

    written, content = cv2.imencode(path.suffix, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if not written:
        raise MnssdError(
            f"{path}: OpenCV cannot write this kind of image of {drawn.shape[1]}x{drawn.shape[0]}"
        )
    path.write_bytes(content.tobytes())
    return path


def _check_display() -> None:
    """Raise OptionError where no window can be opened."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise OptionError("--show: there is no display here (DISPLAY is not set); use --output")
    import cv2

    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise OptionError(
            "--show: this OpenCV opens no windows; install opencv-python in place of opencv-python-headless"
        )


def _show(drawn: np.ndarray) -> bool:
    """Show an image; whether the user has had enough."""
    import cv2

    cv2.imshow("mnssd", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    return (cv2.waitKey(1) & 0xFF) == ord("q")
