"""What was found in many images, on disk: a line for each as they come, and formats made of the lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Optional, Sequence, Set, Tuple

from ..errors import MnssdError
from ..files import atomic_write
from .results import coco_box


class Lines:
    """JSON lines, each written at once: ``{"image", "width", "height", "detections": [...]}``, see
    `DetectionResult.to_dict`; ``"frame"`` for one of a video; ``{"image", "error"}`` where one could not be read.

    Parameters
    ----------
    path : str or Path
    resume : bool
        Whether to go on behind the last whole line of an earlier file.

    Attributes
    ----------
    done : int
        Lines that were there.
    last : dict or None
        The last of them.
    failed : set of int
        Numbers, from 0, of those that say an error.

    Raises
    ------
    MnssdError
        When the file is there already and is not to be gone on with, or holds something else.
    """

    def __init__(self, path: str, resume: bool) -> None:
        self.path, self.done = path, 0
        self.last: Optional[Dict[str, Any]] = None
        self.failed: Set[int] = set()
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        there = os.path.exists(path) and os.path.getsize(path) > 0
        if there and not resume:
            raise MnssdError(f"{path}: is there already; go on with it by --resume, or remove it")
        whole = self._read_whole() if there else 0
        mode = "r+b" if there else "wb"
        self._file: IO[bytes] = open(path, mode, buffering=0)  # noqa: SIM115 - closed by close()
        self._file.truncate(whole)
        self._file.seek(whole)

    def _read_whole(self) -> int:
        """Count the lines; returns the length up to the end of the last whole one."""
        whole = 0
        with open(self.path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break  # torn when the process was killed
                try:
                    self.last = dict(json.loads(line))
                    if "image" not in self.last:
                        raise KeyError("image")
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    raise MnssdError(
                        f"{self.path}: line {self.done + 1} is none of `mnssd detect`; choose another --jsonl"
                    ) from error
                if "error" in self.last:
                    self.failed.add(self.done)
                self.done += 1
                whole += len(line)
        return whole

    def add(self, record: Dict[str, Any]) -> None:
        """Append a record, and hand it over to the system.

        Raises
        ------
        MnssdError
            When it cannot be written.
        """
        rest = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            while rest:  # where the disk is nearly full, a part of it is written first
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise MnssdError(
                f"{self.path}: cannot be written ({error.strerror}); when it can, go on with --resume"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def records(path: str) -> Iterator[Dict[str, Any]]:
    """Of a file by `Lines`, one after the other, without those that say an error."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            if "error" not in record:
                yield record


def write_json(path: str, lines: str, classes: Sequence[str]) -> None:
    """One file: ``{"classes": [...], "images": [...]}``, the records of `lines`."""
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(f'{{\n"classes": {json.dumps(list(classes))},\n"images": [')
        _join(file, records(lines))
        file.write("]\n}\n")


def write_coco(path: str, lines: str, classes: Sequence[str]) -> None:
    """A COCO dataset: every image an image, every detection an annotation with its score."""
    Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
        file.write(f'{{\n"categories": {json.dumps(categories)},\n"images": [')
        _join(file, (_coco_image(number, record) for number, record in _numbered(lines)))
        file.write('],\n"annotations": [')
        _join(file, _coco_annotations(lines, classes))
        file.write("]\n}\n")


def _numbered(lines: str) -> Iterator[Tuple[int, Dict[str, Any]]]:
    return enumerate(records(lines), 1)


def _coco_image(number: int, record: Dict[str, Any]) -> Dict[str, Any]:
    frame = {"frame": record["frame"]} if "frame" in record else {}
    size = {"width": record["width"], "height": record["height"]}
    return {"id": number, "file_name": record["image"], **frame, **size}


def _coco_annotations(lines: str, classes: Sequence[str]) -> Iterator[Dict[str, Any]]:
    count, ids = 0, {name: index + 1 for index, name in enumerate(classes)}
    for number, record in _numbered(lines):
        for found in record["detections"]:
            count += 1
            box = coco_box(found["box"])
            yield {
                "id": count,
                "image_id": number,
                "category_id": ids[found["class"]],
                "bbox": box,
                "area": round(box[2] * box[3], 3),
                "iscrowd": 0,
                "score": found["score"],
            }


def _join(file: IO[str], items: Iterator[Dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write(("," if number else "") + "\n" + json.dumps(item, allow_nan=False))
    file.write("\n")
