"""Files of detections: JSON lines, written image by image, and formats derived from them."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Mapping, Optional, Sequence, Set, Tuple

from ..errors import MnssdError
from ..files import atomic_write, fit_name
from .results import coco_box
from .sources import Sequences

_ANNOTATION_FOLDERS = ("annotations", "labels", "coco", "json")
"""Folders beside those of the images, in lower case."""


class JsonLines:
    """A file of one JSON object per image, each written at once.

    ``{"image", "width", "height", "detections": [...]}`` as from `DetectionResult.to_dict`, with ``"frame"``
    for a frame of a video; ``{"image", "error"}`` for an image that could not be read. Tracked detections
    have an ``"id"``, and with lines and zones there are ``"counts"``.

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
        if os.path.exists(path) and not os.path.isfile(path):
            raise MnssdError(f"{path}: not a regular file, which could be continued; choose a file")
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


def read_lines(path: str, with_errors: bool = False) -> Iterator[Dict[str, Any]]:
    """The entries of a file by `JsonLines`, one at a time; those of unreadable images if `with_errors`."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            if with_errors or "error" not in entry:
                yield entry


def write_json(path: str, lines: str, classes: Sequence[str]) -> None:
    """Write one JSON file, ``{"classes": [...], "images": [...]}``, from a file by `JsonLines`."""
    _write_lists(path, "classes", list(classes), {"images": read_lines(lines)})


def write_coco(path: str, lines: str, classes: Sequence[str]) -> None:
    """Write a COCO dataset whose annotations are the detections with their scores.

    File names are relative to the folder of `path` if all images are below it; else to the folder around it
    if it only holds annotations, and to the folder around all images.
    """
    categories = [{"id": index, "name": name} for index, name in enumerate(classes, 1)]
    root = image_root(path, lines)
    images = (_coco_image(image_id, entry, root) for image_id, entry in enumerate(read_lines(lines), 1))
    annotations = _coco_annotations(lines, classes)
    _write_lists(path, "categories", categories, {"images": images, "annotations": annotations})


def write_mot(folder: str, lines: str) -> None:
    """Write the tracks of each video or folder of images in the format of the MOT Challenge, as ``NAME.txt``.

    Lines are ``frame, id, left, top, width, height, score, -1, -1, -1``. Frames, ids and pixels count from 1.
    Detections without a track are left out. `folder` is new or empty.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, entries in _tracked_sequences(lines):
        with atomic_write(_new_path(Path(folder), name)) as file:
            for frame, entry in entries:
                for detection in entry["detections"]:
                    if detection["id"] is not None:
                        left, top, width, height = coco_box(detection["box"])
                        box = [round(left + 1, 3), round(top + 1, 3), width, height]
                        values = [frame + 1, detection["id"], *box, detection["score"], -1, -1, -1]
                        file.write(",".join(map(str, values)) + "\n")


def _tracked_sequences(lines: str) -> Iterator[Tuple[str, Iterator[Tuple[int, Dict[str, Any]]]]]:
    """Name of each sequence, and its frames: number from 0, and entry."""
    sequences, count = Sequences(), itertools.count()

    def numbered() -> Iterator[Tuple[int, str, int, Dict[str, Any]]]:
        sequence = 0
        for entry in read_lines(lines, with_errors=True):
            if "error" in entry:
                sequences.add_failed(entry["image"])
                continue
            if sequences.add(entry["image"], entry.get("frame")):
                sequence = next(count)
            yield sequence, sequences.name, sequences.frame, entry

    for (_, name), group in itertools.groupby(numbered(), key=lambda item: item[:2]):
        yield name, ((frame, entry) for _, _, frame, entry in group)


def _new_path(folder: Path, sequence: str) -> Path:
    """A path in `folder` that does not exist, for a video, camera, address or folder."""
    is_folder = os.path.isdir(sequence or os.curdir)
    name = os.path.basename(os.path.abspath(sequence) if is_folder else sequence)
    stem = (name if is_folder else os.path.splitext(name)[0]).replace(":", "") or "sequence"
    path, number = folder / fit_name(stem, ".txt"), 1
    while path.exists():
        number += 1
        path = folder / fit_name(stem, f"-{number}.txt")
    return path


def _files(lines: str) -> Iterator[Dict[str, Any]]:
    """The entries of files, without those of cameras and streams."""
    return (entry for entry in read_lines(lines) if os.path.lexists(entry["image"]))


def image_root(path: str, lines: str) -> str:
    """Folder that the names of the images in a file `path` of annotations are relative to."""
    own = os.path.dirname(os.path.abspath(path))
    parent, name = os.path.split(own)
    real = [
        _real_folder(folder, own) for folder in {os.path.dirname(entry["image"]) for entry in _files(lines)}
    ]
    for root in (own, parent) if name.lower() in _ANNOTATION_FOLDERS else (own,):
        if all(_is_below(folder, root) for folder in real):
            return root
    return os.path.commonpath(real)


def _real_folder(folder: str, root: str) -> str:
    """Absolute path of a folder; if it is outside of `root`, without symbolic links."""
    path = os.path.abspath(folder)
    return path if _is_below(path, root) else os.path.realpath(folder)


def _is_below(path: str, root: str) -> bool:
    return os.path.commonpath([path, root]) == root


def name_below(root: str, image: str) -> str:
    """Path of an image file relative to `root`, with ``/``; the name of a camera or stream."""
    if not os.path.lexists(image):
        return image
    folder = _real_folder(os.path.dirname(image), root)
    return os.path.relpath(os.path.join(folder, os.path.basename(image)), root).replace(os.sep, "/")


def _coco_image(image_id: int, entry: Dict[str, Any], root: str) -> Dict[str, Any]:
    frame = {"frame": entry["frame"]} if "frame" in entry else {}
    size = {"width": entry["width"], "height": entry["height"]}
    return {"id": image_id, "file_name": name_below(root, entry["image"]), **frame, **size}


def _coco_annotations(lines: str, classes: Sequence[str]) -> Iterator[Dict[str, Any]]:
    numbers, ids = itertools.count(1), {name: index for index, name in enumerate(classes, 1)}
    for image_id, entry in enumerate(read_lines(lines), 1):
        for detection in entry["detections"]:
            box = coco_box(detection["box"])
            yield {
                "id": next(numbers), "image_id": image_id, "category_id": ids[detection["class"]],
                "bbox": box, "area": round(box[2] * box[3], 3), "iscrowd": 0, "score": detection["score"],
                **({"track_id": detection["id"]} if detection.get("id") else {}),
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
