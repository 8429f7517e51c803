"""Detect objects in images, folders, videos or a camera, with an exported or trained detector.

Prints a line per image or frame. --output draws labeled boxes. Detections are written to

  --jsonl  a line of JSON per image, at once: {"image", "width", "height", "detections": [{"class", "score",
           "box": [xmin, ymin, xmax, ymax]}]}, and "frame" for a frame of a video; --resume continues it
  --json   one file: {"classes": [...], "images": [...]}
  --coco   a COCO dataset
  --voc    Pascal VOC annotations, one per image
  --mot    tracks in the format of the MOT Challenge, a text file per video
  --cvat   annotations that CVAT imports, as "CVAT for images 1.1"
  --label-studio  tasks with predictions that Label Studio imports, and its labeling configuration

Boxes are in pixels of the image, counted from 0, and from 1 in --voc and --mot.

--track gives the detections of an object the same "id" in all frames of a video, camera or stream, or in the
images of a folder, which are taken as the frames of one video in the order of the numbers in their names.
--count-line and --count-zone add their "counts" so far to each line of --jsonl, and print the sums.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import glob
import itertools
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, Tuple, Union

from ..data.tiles import NONE, parse_tiles
from ..errors import ImageError, MnssdError, OptionError
from ..export.formats import engine_names
from ..files import printable
from ..inference import DISPLAY_SCORE
from ..inference.regions import parse_line, parse_zone
from ..options import FLOAT, NAMES, ValueType, add_options, from_mapping, given, option, require
from .detect_outputs import check_outputs, write_files
from .display import check_display, show
from .main import EXIT_INTERRUPTED

if TYPE_CHECKING:
    import numpy as np

    from ..inference.output import JsonLines
    from ..inference.results import DetectionResult
    from ..inference.stream import FrameResult
    from ..inference.video import Frame

INTERMIXED = True

BUILTIN_DETECTOR = Path(__file__).resolve().parents[1] / "pretrained" / "shapes"
"""Export of a run of ``train_ssd.py --recipe shapes-demo --head ssdlite`` (seed 0, VOC07 mAP .897), with
``--fp16-weights``. It detects the six shapes of the built-in dataset, nothing else: the terms of Pascal VOC
and ImageNet, on which a detector for photographs would be trained, do not mention weights."""


DETECTOR_FILES = (".params", ".onnx", ".pb", ".pth", ".tflite", ".xml")
"""Endings of files of networks; all but ``.params`` are refused, with the remedy."""


@dataclass(frozen=True)
class DetectOptions:
    """Detecting."""

    detector: Optional[str] = option(
        None, "run, export or published detector (mnssd weights), instead of the first argument",
        metavar="NAME",
    )  # fmt: skip
    output: Optional[str] = option(
        None, "draw labeled boxes and write images and videos to this folder", metavar="DIR"
    )
    score: float = option(DISPLAY_SCORE, "lowest score of a detection, 0 to 1")
    iou: Optional[float] = option(
        None, "IoU threshold of non-maximum suppression, if lower than the network's own", type=FLOAT
    )
    across_classes: bool = option(False, "drop boxes that overlap a better one of another class, too")
    max_detections: int = option(-1, "most detections per image; -1 for all")
    classes: Optional[List[str]] = option(
        None, "classes to detect, separated by commas (default: all)", type=NAMES
    )
    tiles: str = option(
        NONE, "also detect in ROWSxCOLUMNS tiles of each image, in which small objects are larger; or auto",
        type=ValueType(parse_tiles), metavar="GRID",
    )  # fmt: skip
    jsonl: Optional[str] = option(None, "write a line of JSON per image, at once", metavar="FILE")
    resume: bool = option(False, "continue after the last image in --jsonl")
    json: Optional[str] = option(None, "write the detections to this JSON file", metavar="FILE")
    coco: Optional[str] = option(None, "write a COCO dataset of the detections", metavar="FILE")
    voc: Optional[str] = option(None, "write Pascal VOC annotations to this folder", metavar="DIR")
    cvat: Optional[str] = option(None, "write annotations for CVAT to this XML file", metavar="FILE")
    label_studio: Optional[str] = option(
        None,
        "write tasks for Label Studio to this JSON file, and its configuration beside it",
        metavar="FILE",
    )
    track: bool = option(False, "give each object an id that is the same in all frames")
    count_line: Tuple[Tuple[float, ...], ...] = option(
        (), "count tracked objects that cross this line, in pixels; repeatable", type=ValueType(parse_line),
        metavar="X1,Y1,X2,Y2", repeatable=True,
    )  # fmt: skip
    count_zone: Tuple[Tuple[float, ...], ...] = option(
        (), "count tracked objects that enter and leave this polygon, in pixels; repeatable",
        type=ValueType(parse_zone), metavar="X1,Y1,X2,Y2,X3,Y3,...", repeatable=True,
    )  # fmt: skip
    mot: Optional[str] = option(
        None, "write the tracks as text files of the MOT Challenge to this new or empty folder", metavar="DIR"
    )
    show: bool = option(False, "also show the images in a window; q ends")
    ctx: str = option("auto", "device: auto, cpu, gpu or gpu:N")
    engine: str = option(
        "auto",
        "inference engine for an export; auto is the fastest by `mnssd bench export`, else the first",
        choices=engine_names,
    )

    def __post_init__(self) -> None:
        require(self, "a number from 0 to 1", lambda value: 0 <= value <= 1, "score")
        require(self, "a number from 0 to 1", lambda value: value is None or 0 <= value <= 1, "iou")
        if self.resume and not self.jsonl:
            raise ValueError("resume needs the file to continue; add --jsonl FILE")
        for name in ("count_line", "count_zone", "mot"):
            if getattr(self, name) and not self.track:
                raise ValueError(f"{name} needs tracks; add --track")
        if self.track and self.resume:
            raise ValueError("tracks cannot be resumed; leave out resume, and begin another --jsonl FILE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "first", nargs="?", metavar="EXPORT_OR_RUN",
        help="export or run folder (default: the built-in detector of the shapes dataset)",
    )  # fmt: skip
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE",
        help="image and video files, folders, patterns such as 'photos/*.jpg', camera:0",
    )  # fmt: skip
    add_options(parser, DetectOptions)


def run(args: argparse.Namespace) -> int:
    """Detect in one image after the other; returns 1 if some could not be read or written, else 0."""
    options = from_mapping(DetectOptions, given(args, DetectOptions))
    detector_path, inputs = _resolve_arguments(options.detector, args.first, args.images)
    if options.show:
        check_display()
    check_outputs(options)
    from ..runtime import settings

    settings.use_synchronous_engine()
    from ..inference.detector import Detector
    from ..inference.output import JsonLines

    detector = Detector.load(detector_path, options.ctx, options.engine)
    with contextlib.ExitStack() as stack:
        folder = "" if options.jsonl else tempfile.mkdtemp(prefix="mnssd-detect-")
        lines = JsonLines(options.jsonl or os.path.join(folder, "detections.jsonl"), options.resume)
        stack.callback(lines.close)
        detection = _DetectionRun(detector, options, inputs, lines)
        stack.callback(detection.close)
        try:
            return detection.run()
        finally:  # after an error, too: of the images before it
            write_files(options, lines.path, detector.classes)
            if folder:
                shutil.rmtree(folder)


def _resolve_arguments(
    detector: Optional[str], first: Optional[str], images: List[str]
) -> Tuple[str, List[str]]:
    """Detector and inputs; if none is given and the first argument is an image, it is the built-in one."""
    from ..export.sidecar import find_sidecars, folder_of_file
    from ..inference.inputs import match_pattern
    from ..inference.video import is_address, is_camera
    from ..zoo import CONFIG_FILE

    if first is None:
        raise OptionError("no images given: mnssd detect EXPORT_OR_RUN IMAGE ...")
    if detector:
        return detector, [first, *images]
    path = Path(first)
    is_image = is_address(first) or is_camera(first) or (path.is_file() and path.suffix not in DETECTOR_FILES)
    is_image = is_image or bool(not path.exists() and glob.has_magic(first) and match_pattern(first))
    is_image = is_image and not folder_of_file(path)
    is_detector = (path / CONFIG_FILE).exists() or find_sidecars(path)
    if is_image or (path.is_dir() and not images and not is_detector):
        print(
            "note: no detector given; using the built-in one, which detects circles, squares, triangles,"
            " stars, crosses and rings as rendered by `mnssd shapes`; for people, animals, vehicles and other"
            " classes of COCO: --detector coco",
            file=sys.stderr,
        )
        return str(BUILTIN_DETECTOR), [first, *images]
    if not images and not path.exists():
        kind = "file that matches this pattern" if glob.has_magic(first) else "file or folder"
        raise OptionError(f"{first}: no such {kind}")
    if not images:
        raise OptionError(f"no images given: mnssd detect {first} IMAGE ...")
    return first, images


class _DetectionRun:
    """Detects in all inputs and writes the outputs of each."""

    def __init__(self, detector: Any, options: DetectOptions, inputs: List[str], lines: JsonLines) -> None:
        from tqdm import tqdm

        from ..inference.annotations import AnnotationWriter
        from ..inference.drawings import DrawingWriter

        self._detector, self._options, self._inputs, self._lines = detector, options, inputs, lines
        self._drawings = DrawingWriter(options.output) if options.output else None
        self._annotations = AnnotationWriter(options.voc, inputs) if options.voc else None
        self._tracks = None
        if options.track:
            from .track import SequenceTracker  # imports SciPy

            self._tracks = SequenceTracker(options, self._note, self._print)
        self._bar = tqdm(unit="image", disable=None, leave=False)
        self._count = self._failed = self._unwritten = 0

    def close(self) -> None:
        self._bar.close()

    def run(self) -> int:
        """Process all inputs; returns the exit status."""
        from ..inference.sources import iter_frames

        start, status = time.monotonic(), 0
        frames = iter_frames(self._inputs, self._note, self._options.track)
        try:
            for number, frame in enumerate(itertools.islice(frames, self._lines.count)):
                self._skip(frame, number)
            for frame, result in self._detections(frames):
                if not self._process(frame, result):
                    break
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
            can_resume = self._options.jsonl and not self._options.track
            hint = f"; continue with: --jsonl {self._lines.path} --resume" if can_resume else ""
            print(f"interrupted{hint}", file=sys.stderr)
        finally:
            if self._tracks:
                self._tracks.finish()
            if self._drawings:
                self._attempt(self._drawings.close)
        return self._summarize(status, time.monotonic() - start)

    def _summarize(self, status: int, seconds: float) -> int:
        """Print what was done; returns the exit status."""
        done, kept = self._lines.count, self._annotations.kept if self._annotations else 0
        skipped = f"; {done} were done before" if done else ""
        self._print(
            f"{_images(self._count)}, {self._count / max(seconds, 1e-9):.1f} images per second{skipped}"
        )
        if kept:
            self._note(
                f"{_images(kept)} with annotations that were changed since, or are by another tool; kept"
            )
        problems = []
        if self._failed:
            problems.append(f"{self._failed} of {self._count + self._failed} images could not be read")
        if self._unwritten:
            problems.append(f"{self._unwritten} output files could not be written")
        if not self._count + self._failed + done and not status:
            problems.append("no image to detect in")
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
        return status or int(bool(problems))

    def _skip(self, frame: Frame, number: int) -> None:
        """Skip a frame that an earlier call has processed, but reserve the file names that it took."""
        last = self._lines.last or {}
        if number == self._lines.count - 1 and last["image"] != frame.name:
            raise MnssdError(
                f"{self._lines.path}: ends with {last['image']}, but image {number + 1} is now {frame.name};"
                " give the same images as before, or another --jsonl"
            )
        if isinstance(frame.image, ImageError) or number in self._lines.failed:
            return
        if self._drawings:
            self._drawings.reserve(frame)

    def _detections(self, frames: Iterator[Frame]) -> Iterator[FrameResult]:
        from ..inference.stream import detect_frame, detect_frames

        options, tracks = self._options, self._tracks
        names = ("score", "iou", "max_detections", "classes", "across_classes")
        limits = {name: getattr(options, name) for name in names}
        if not tracks:
            return detect_frames(self._detector, frames, limits, options.tiles)
        limits.update(score=tracks.low_score, tiles=options.tiles)
        kept = itertools.filterfalse(tracks.refuses, frames)
        return (detect_frame(self._detector, frame, limits) for frame in kept)

    def _process(self, frame: Frame, result: Union[DetectionResult, ImageError]) -> bool:
        """Track, draw and write; returns False if the user has ended the display."""
        if isinstance(result, ImageError):
            return self._fail(frame, result)
        tracks, drawn = self._tracks, None
        try:
            result = tracks.track(frame, result) if tracks else result
            if self._drawings is not None or self._options.show:
                pixels = self._pixels(frame)
                drawn = result.draw(tracks.draw(pixels) if tracks else pixels)
        except ImageError as error:
            return self._fail(frame, error)
        self._write(frame, result, drawn)
        self._count += 1
        self._bar.update()
        return not (self._options.show and drawn is not None and show(drawn))

    def _pixels(self, frame: Frame) -> np.ndarray:
        from ..data.image import read_image

        assert not isinstance(frame.image, ImageError)
        return read_image(frame.image) if isinstance(frame.image, str) else frame.image

    def _fail(self, frame: Frame, error: ImageError) -> bool:
        """Report a frame that cannot be read; returns True."""
        print(f"error: {error}", file=sys.stderr)
        if self._tracks:
            self._tracks.skip(frame.name)
        self._failed += 1
        self._lines.add({"image": frame.name, "error": str(error)})
        return True

    def _write(self, frame: Frame, result: DetectionResult, drawn: Optional[np.ndarray]) -> None:
        number = "" if frame.number is None else f" frame {frame.number}"
        line = f"{printable(frame.name)}{number}: {result!r}"
        drawings, annotations = self._drawings, self._annotations
        if drawings and drawn is not None:
            self._attempt(lambda: drawings.finish_before(frame))
            target = self._attempt(lambda: drawings.write(frame, drawn))
            line += f" -> {printable(str(target))}" if target else ""
        if annotations and frame.number is None:
            self._attempt(lambda: annotations.write(frame.name, result))
        counts = self._tracks.counts() if self._tracks else {}
        self._lines.add({**frame.as_dict(), **result.to_dict(), **counts})
        self._print(line)

    def _attempt(self, write: Callable[[], Optional[Path]]) -> Optional[Path]:
        """Write one output file; a failure is reported and counted, unless no further file can be written."""
        try:
            return write()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            problem = f"{error.filename}: cannot be written ({error.strerror})"
        except MnssdError as failure:
            problem = str(failure)
        print(f"error: {problem}", file=sys.stderr)
        self._unwritten += 1
        return None

    def _note(self, text: str) -> None:
        self._bar.write(f"note: {text}", file=sys.stderr)

    def _print(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
