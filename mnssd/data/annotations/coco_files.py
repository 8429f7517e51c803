"""Which JSON files of a folder are in COCO's format, judged without parsing them."""

from __future__ import annotations

import codecs
import mmap
import re
from functools import lru_cache
from pathlib import Path
from typing import FrozenSet, List, Mapping, Sequence, Tuple

LIST_FILE = "_annotations.coco.json"
"""File in a folder of each list, beside its images (Roboflow's layout)."""

AFFIXES = "^(instances|person_keypoints|captions|image_info|panoptic|stuff)[-_]|(2017|2014)$"
"""What names of files have beside the name of their list: COCO's kinds of annotations and years."""

KEYS = ("images", "annotations", "categories")

_COMPLETE = "}"  # among the keys: the file ends as an object does
_LIST = "["  # among the keys: the file contains a list, not an object
_WITHOUT_BOXES = re.compile("(captions|image_info|panoptic)[-_.]", re.I)
_BESIDE_INSTANCES = re.compile("(person_keypoints|stuff)[-_.]", re.I)
_EDGE = 1 << 16

# Formats of other tools: keys that show them, and what to do about it.
_OTHERS: Mapping[str, Tuple[Tuple[str, ...], str]] = {
    "Labelme": (("shapes", "imagePath"), "convert them with labelme2coco or labelme2voc"),
    "a VIA project": (("_via_img_metadata",), "in VIA choose Annotation > Export Annotations (COCO format)"),
    "a VIA export": (("regions", "file_attributes"), "in VIA choose Export Annotations (COCO format)"),
    "Apple's CreateML": ((_LIST, "annotations", "coordinates"), "export the dataset as COCO or VOC"),
    "Label Studio": ((_LIST, "annotations", "completed_by"), "export the project as COCO or VOC XML"),
    "Supervisely": (("objects", "classTitle"), "export the dataset as COCO or VOC"),
    "VoTT": (("asset", "regions"), "export the project as CSV or Pascal VOC"),
    "Datumaro": ((*KEYS[1:], "items", "media"), "export the dataset as COCO or VOC"),
    "detection results": ((_LIST, "image_id", "bbox"), "the file with images and categories is needed"),
}


def json_keys(path: Path) -> FrozenSet[str]:
    """Keys known here that occur in a JSON file, at any depth; empty if it is not a JSON file."""
    try:
        state = path.stat()
        return _json_keys(str(path), state.st_mtime_ns, state.st_size)
    except (OSError, ValueError):  # ValueError: empty
        return frozenset()


@lru_cache(maxsize=1 << 14)
def _json_keys(path: str, time: int, size: int) -> FrozenSet[str]:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start, end = content[:_EDGE], content[-_EDGE:]
        encoding = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(
            start[:2], "utf-8"
        )
        first = start.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")[:1]
        if first not in ("{", "["):
            return frozenset()
        keys = {_LIST} if first == "[" else set()
        if end.decode(encoding, "ignore").rstrip("\0 \t\r\n")[-1:] == "}":
            keys.add(_COMPLETE)

        def has(key: str) -> bool:
            quoted = f'"{key}"'.encode(encoding)
            return quoted in start or quoted in end or content.find(quoted) >= 0

        keys |= {key for key in KEYS if has(key)}
        if not keys.issuperset(KEYS):
            others = {key for names, _ in _OTHERS.values() for key in names} | {"caption"}
            keys |= {key for key in others - {_LIST} if has(key)}
    return frozenset(keys)


def is_coco(path: Path) -> bool:
    """Whether a JSON file has at least the list ``images`` of COCO's format, or the name of such a file."""
    keys = json_keys(path)
    return _LIST not in keys and ("images" in keys or (bool(keys) and path.name == LIST_FILE))


def has_annotations(path: Path) -> bool:
    """Whether a JSON file is probably in COCO's format, and not only has a key that is called ``images``."""
    return path.name == LIST_FILE or len(json_keys(path).intersection(KEYS)) > 1


def detection_files(paths: Sequence[Path]) -> List[Path]:
    """The files with boxes of `paths`, which pass `is_coco`; all of them if none has.

    COCO's captions, panoptic segments and lists of images without annotations are left out, and with its
    ``instances_*`` files also those of keypoints and stuff. Damaged files are kept: reading them says so.
    """
    likely = [path for path in paths if has_annotations(path)] or list(paths)
    kept = [path for path in likely if not _WITHOUT_BOXES.match(path.name) and _may_have_boxes(path)]
    if any(re.match("instances[-_.]", path.name, re.I) for path in kept):
        kept = [path for path in kept if not _BESIDE_INSTANCES.match(path.name)]
    return kept or likely


def _may_have_boxes(path: Path) -> bool:
    keys = json_keys(path)
    is_captions = "caption" in keys and "categories" not in keys
    return _COMPLETE not in keys or ("annotations" in keys and not is_captions)


def other_format(paths: Sequence[Path]) -> str:
    """The first JSON file of another tool, and what to do about it, for the user; empty if there is none."""
    for path in paths:
        keys = json_keys(path)
        for tool, (needed, cure) in _OTHERS.items():
            if keys.issuperset(needed) and not keys.issuperset(KEYS):
                return f"{path} is in the JSON format of {tool}, which is not COCO's: {cure}"
    return ""


def json_files(root: Path) -> List[Path]:
    """Some JSON files in a folder and its direct subfolders, for `other_format`."""
    found = [path for pattern in ("*.json", "*/*.json") for path in sorted(root.glob(pattern))[:20]]
    return [path for path in found if path.is_file() and not path.name.startswith(".")]
