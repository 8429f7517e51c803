"""The output files of `mnssd detect`: checked before the work, written after it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from ..errors import MnssdError, OptionError
from ..files import check_folder, check_writable

if TYPE_CHECKING:
    from .detect import DetectOptions


def write_files(options: DetectOptions, lines: str, classes: Sequence[str]) -> None:
    """Write the files made from all lines; an error in writing tells where the detections are."""
    from ..inference.label_tools import write_cvat, write_label_studio
    from ..inference.output import write_coco, write_json, write_mot

    problems = []
    for write, target in (
        (lambda path: write_json(path, lines, classes), options.json),
        (lambda path: write_coco(path, lines, classes), options.coco),
        (lambda path: write_mot(path, lines), options.mot),
        (lambda path: write_cvat(path, lines, classes), options.cvat),
        (lambda path: write_label_studio(path, lines, classes), options.label_studio),
    ):
        if target:
            try:
                write(target)
            except OSError as error:
                problems.append(f"{target}: cannot be written ({error.strerror}); earlier content is kept")
    if problems:
        remedy = f"To write again, add: --jsonl {lines} --resume"
        remedy = f"The detections and ids are in {lines}" if options.track else remedy
        raise MnssdError(f"{'; '.join(problems)}. {remedy}")


def check_outputs(options: DetectOptions) -> None:
    """Raise MnssdError, before any work, if an output cannot be written or would replace an image."""
    from ..data.image_files import is_image_file
    from ..inference.video import is_video_file

    paths: Dict[str, str] = {}
    for name, path in _output_files(options):
        if os.path.exists(path) and (is_image_file(path) or is_video_file(path)):
            raise OptionError(f"--{name} {path}: is an image or video; choose another file")
        check_writable(path)
        other = paths.setdefault(os.path.realpath(path), name)
        if other != name:
            raise OptionError(f"--{other} and --{name} are the same file, {path}; choose two")
    for name in ("output", "voc", "mot"):
        folder = getattr(options, name)
        if folder and os.path.exists(folder) and not os.path.isdir(folder):
            raise MnssdError(f"{folder}: is a file, but --{name} takes a folder")
        if folder:
            try:
                check_folder(folder)
            except OSError as error:
                raise MnssdError(f"{folder}: cannot be written to ({error.strerror})") from error
    if options.mot and os.listdir(options.mot):
        raise OptionError(f"--mot {options.mot}: the folder is not empty; choose a new one")


def _output_files(options: DetectOptions) -> List[Tuple[str, str]]:
    """Option and path of each file that is written."""
    from ..inference.label_tools import configuration_path

    named = [(name.replace("_", "-"), getattr(options, name)) for name in ("json", "coco", "jsonl", "cvat")]
    if options.label_studio:
        named.append(("label-studio", options.label_studio))
        named.append(("label-studio (its configuration)", configuration_path(options.label_studio)))
    return [(name, path) for name, path in named if path]
