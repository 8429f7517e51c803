"""Files of detections: JSON lines, written image by image, and formats derived from them."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Mapping, Optional, Sequence, Set

import cv2
import numpy as np

from ..errors import MnssdError
from ..files import atomic_write, fit_name
from .results import coco_box

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings of images that OpenCV writes; drawings of others are written as .png."""


class JsonLines:
    """A file of one JSON object per image, each written at once.

    ``{"image", "width", "height", "detections": [...]}`` as from `DetectionResult.to_dict`, with ``"frame"``
    for a frame of a video; ``{"image", "error"}`` for an image that could not be read.

    With `resume`, an existing file is continued after its last complete line.

    Attributes
    ----------
    count : int
        Lines of the existing file.
    last : dict or None
        The last of them.
    failed : set of int
        Numbers, from 0, of the lines with an error.

    Raises
    ------
    MnssdError
        If the file exists and `resume` is False, or if it holds something else.
    """

    def __init__(self, path: str, resume: bool) -> None:
        self.path, self.count = path, 0
        self.last: Optional[Dict[str, Any]] = None
        self.failed: Set[int] = set()
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        exists = os.path.exists(path) and os.path.getsize(path) > 0
        if exists and not resume:
            raise MnssdError(f"{path}: exists already; continue it with --resume, or remove it")
        end = self._read() if exists else 0
        mode = "r+b" if exists else "wb"
        self._file: IO[bytes] = open(path, mode, buffering=0)  # noqa: SIM115 - closed by close()
        self._file.truncate(end)
        self._file.seek(end)

    def _read(self) -> int:
        """Read the existing lines; returns the position after the last complete one."""
        end = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # incomplete, because the process was killed
                try:
                    self.last = dict(json.loads(line))
                    if "image" not in self.last:
                        raise KeyError("image")
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    raise MnssdError(
                        f"{self.path}: line {self.count + 1} is not by mnssd detect; choose another --jsonl"
                    ) from error
                if "error" in self.last:
                    self.failed.add(self.count)
                self.count += 1
                end += len(line)
        return end

    def add(self, entry: Dict[str, Any]) -> None:
        """Append a line and hand it to the operating system; raises MnssdError if that fails."""
        rest = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            while rest:  # on a nearly full disk a write may be partial
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise MnssdError(
                f"{self.path}: cannot be written ({error.strerror}); fix this and continue with --resume"
            ) from error

    def close(self) -> None:
        self._file.close()


def read_lines(path: str) -> Iterator[Dict[str, Any]]:
    """The entries of a file by `JsonLines`, one at a time, without those of unreadable images."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if "error" not in entry:
                yield entry


class OutputPaths:
    """Names for output files: those of the inputs, numbered where they would replace an output or an input.

    Parameters
    ----------
    folder : str
        Created if it is missing.
    inputs : sequence of str
        Input files and folders; existing files among them and below them are never chosen.
    option : str
        Option that names the folder, for messages.
    """

    def __init__(self, folder: str, inputs: Sequence[str], option: str) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise MnssdError(f"{folder}: is a file, but {option} takes a folder") from error
        self._inputs = [os.path.realpath(path) for path in inputs]
        self._taken: Set[str] = set()

    def choose(self, image: str, ending: str) -> Path:
        """A path that was not chosen before; an empty `ending` keeps that of `image` if it is writable."""
        stem, own = os.path.splitext(os.path.basename(image))
        if not ending:
            ending = own if own.lower() in WRITABLE else f"{own}.png"
        path, number = self._folder / fit_name(stem, ending), 1
        while self._is_taken(os.path.realpath(path)):
            number += 1
            path = self._folder / fit_name(stem, f"-{number}{ending}")
        self._taken.add(os.path.realpath(path))
        return path

    def _is_taken(self, path: str) -> bool:
        if path in self._taken:
            return True
        is_input = (path == entry or path.startswith(entry + os.sep) for entry in self._inputs)
        return any(is_input) and os.path.exists(path)


def write_image(path: Path, image: np.ndarray) -> Path:
    """Write ``(height, width, 3)`` RGB uint8 in the format of the path's ending; returns the path."""
    success, content = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not success:
        height, width = image.shape[:2]
        raise MnssdError(f"{path}: OpenCV cannot write an image of {width}x{height} in this format")
    path.write_bytes(content.tobytes())
    return path


def write_json(path: str, lines: str, classes: Sequence[str]) -> None:
    """Write one JSON file, ``{"classes": [...], "images": [...]}``, from a file by `JsonLines`."""
    _write_lists(path, "classes", list(classes), {"images": read_lines(lines)})


def write_coco(path: str, lines: str, classes: Sequence[str]) -> None:
    """Write a COCO dataset whose annotations are the detections with their scores."""
    categories = [{"id": index, "name": name} for index, name in enumerate(classes, 1)]
    images = (_coco_image(image_id, entry) for image_id, entry in enumerate(read_lines(lines), 1))
    annotations = _coco_annotations(lines, classes)
    _write_lists(path, "categories", categories, {"images": images, "annotations": annotations})


def _coco_image(image_id: int, entry: Dict[str, Any]) -> Dict[str, Any]:
    frame = {"frame": entry["frame"]} if "frame" in entry else {}
    size = {"width": entry["width"], "height": entry["height"]}
    return {"id": image_id, "file_name": entry["image"], **frame, **size}


def _coco_annotations(lines: str, classes: Sequence[str]) -> Iterator[Dict[str, Any]]:
    numbers, ids = itertools.count(1), {name: index for index, name in enumerate(classes, 1)}
    for image_id, entry in enumerate(read_lines(lines), 1):
        for detection in entry["detections"]:
            box = coco_box(detection["box"])
            yield {
                "id": next(numbers), "image_id": image_id, "category_id": ids[detection["class"]],
                "bbox": box, "area": round(box[2] * box[3], 3), "iscrowd": 0, "score": detection["score"],
            }  # fmt: skip


def _write_lists(path: str, name: str, value: Any, lists: Mapping[str, Iterator[Dict[str, Any]]]) -> None:
    """Write the object ``{name: value, **lists}``; the items of the lists are not held in memory."""
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(f"{{\n{json.dumps(name)}: {json.dumps(value)}")
        for list_name, items in lists.items():
            file.write(f",\n{json.dumps(list_name)}: [")
            for number, item in enumerate(items):
                file.write(("," if number else "") + "\n" + json.dumps(item, allow_nan=False))
            file.write("\n]")
        file.write("\n}\n")
