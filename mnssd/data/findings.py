"""Problems in datasets and facts worth knowing: each kind once, with its effect on training."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Dict, Iterable, List, NamedTuple

from ..files import printable

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
"""Severest first. An error means that objects would not be learned, or that results would be wrong."""

_SHOWN = 5  # places shown per line


class Kind(NamedTuple):
    """Level and headline of findings: the problem and its effect. Findings are counted by headline."""

    level: str
    headline: str


_SKIPPED = "Images skipped"
SKIPPED_CODES = (
    "image-missing", "image-outside", "annotation-missing", "annotation-unreadable",
)  # fmt: skip
"""Findings about images that are skipped: nothing of them is in the dataset."""

_INVALID_BOX_CODES = (
    "box-inverted", "box-without-area", "box-not-numeric", "box-not-finite", "box-missing",
    "object-without-class", "object-without-image", "class-unknown", "polygon-invalid", "boxes-normalized",
    "boxes-in-pixels", "columns-unexpected",
)  # fmt: skip

KINDS: Dict[str, Kind] = {
    # ---- images and annotations that cannot be used
    **dict.fromkeys(SKIPPED_CODES, Kind(ERROR, _SKIPPED)),
    "image-unsupported": Kind(ERROR, "Annotated images of a kind that cannot be read, not used"),
    "image-unsupported-unannotated": Kind(WARNING, "Images of a kind that cannot be read, not used"),
    "file-unknown": Kind(WARNING, "Files of an unknown kind, not used"),
    "image-unreadable": Kind(ERROR, "Images that cannot be decoded, replaced by others in training"),
    "image-without-name": Kind(ERROR, "Images without a file name, skipped"),
    "image-without-id": Kind(ERROR, "Images without an id, skipped"),
    # ---- boxes
    **dict.fromkeys(_INVALID_BOX_CODES, Kind(ERROR, "Invalid boxes, dropped")),
    "box-outside": Kind(ERROR, "Boxes outside their images, dropped"),
    "boxes-exceed": Kind(ERROR, "Lists with many boxes that exceed their images, clipped"),
    "boxes-as-corners": Kind(ERROR, "Boxes that look like corners, read as corner and size"),
    "box-clipped": Kind(WARNING, "Boxes partly outside their images, clipped"),
    "box-over-edge": Kind(NOTE, "Boxes at most one pixel outside their images, clipped"),
    "box-duplicate": Kind(WARNING, "Duplicate boxes, each counted"),
    "box-two-classes": Kind(WARNING, "Identical boxes with different classes, both learned"),
    "box-tiny": Kind(WARNING, "Boxes of a few pixels at the input size of the network, hard to learn"),
    "box-whole-image": Kind(NOTE, "Boxes that cover the whole image"),
    "boxes-unmatched": Kind(WARNING, "Boxes with a low IoU to every anchor, each learned by one anchor"),
    "difficult-unknown": Kind(WARNING, "Values of difficult other than 0 and 1, read as not difficult"),
    # ---- datasets
    "objects-missing": Kind(ERROR, "Lists without objects, nothing to learn or to evaluate"),
    "not-fixed": Kind(ERROR, "Errors of the original dataset that its copy inherits"),
    # ---- images
    "size-differs": Kind(ERROR, "Annotations whose image size differs from the image, boxes in doubt"),
    "size-unused": Kind(WARNING, "Annotations without objects whose image size differs from the image"),
    "boxes-unrotated": Kind(ERROR, "Images whose boxes ignore the EXIF rotation"),
    "size-swapped": Kind(
        ERROR, "Annotations with width and height swapped; the boxes may ignore the image's EXIF rotation"
    ),
    "image-rotated": Kind(NOTE, "Images with an EXIF orientation, rotated accordingly"),
    "image-duplicate": Kind(WARNING, "Images with identical pixels, each learned"),
    "image-in-two-lists": Kind(ERROR, "Images in two lists: validation on training images"),
    "image-entries-joined": Kind(NOTE, "Images with several entries, whose boxes are joined"),
    "annotation-listed-twice": Kind(WARNING, "Annotations listed twice, used once"),
    "image-listed-twice": Kind(WARNING, "Images listed twice, used once"),
    "filename-differs": Kind(ERROR, "Annotations that name another image than the one with their own name"),
    "filename-stale": Kind(WARNING, "Annotations that name an image with an annotation of its own"),
    "image-negative": Kind(NOTE, "Images that the list of a class marks with -1, which lack it, not used"),
    "image-unlisted": Kind(NOTE, "Images with annotations that are in no list, not used"),
    "image-unannotated": Kind(WARNING, "Images without annotations that are in no list, not used"),
    "annotation-without-image": Kind(WARNING, "Annotations without an image, not used"),
    "list-missing": Kind(WARNING, "Lists that the dataset names and that do not exist, left out"),
    "labels-missing": Kind(WARNING, "Images without a label file, read as images without objects"),
    "image-without-objects": Kind(NOTE, "Images without objects, learned as background"),
    "image-small": Kind(NOTE, "Images smaller than the network input, enlarged"),
    "image-wrong-extension": Kind(
        NOTE, "Images with the file name extension of another format, read correctly"
    ),
    # ---- classes
    "class-misspelled": Kind(
        ERROR, "Class names that differ only in case or spacing, read as different classes"
    ),
    "class-similar": Kind(
        WARNING, "Rare classes whose names resemble another one, read as different classes"
    ),
    "classes-start-at-one": Kind(ERROR, "Class numbers that appear to start at 1 instead of 0"),
    "class-ignored": Kind(NOTE, "Classes that were not requested, objects ignored"),
    "class-dropped": Kind(ERROR, "Classes that the dataset does not declare, objects ignored"),
    "class-column-missing": Kind(NOTE, "Tables without a column for the class, read as one class"),
    "class-unused": Kind(WARNING, "Classes without objects, not learned"),
    "class-rare": Kind(WARNING, "Classes with few objects, hard to learn"),
}


class Finding(NamedTuple):
    """A problem at one place, or a fact worth knowing; `code` is a key of `KINDS`.

    `where` is the place in the file, such as ``line 3``; it and `text`, the details, may be empty.
    """

    code: str
    file: str
    where: str
    text: str

    @property
    def level(self) -> str:
        """One of `LEVELS`."""
        return KINDS[self.code].level

    def line(self, full_path: bool = False) -> str:
        """One line for the user: the file (name or full path), the place in it, and the details."""
        file = self.file if full_path else os.path.basename(self.file) or self.file
        place = f"{file}, {self.where}" if self.where else file
        return printable(f"{place}: {self.text}" if self.text else place)

    def as_dict(self) -> Dict[str, Any]:
        """The finding as JSON data."""
        kind = KINDS[self.code]
        return {
            "code": self.code, "level": kind.level, "file": self.file, "where": self.where, "text": self.text,
            "effect": kind.headline,
        }  # fmt: skip


class Findings:
    """The findings of a dataset, collected while it is read."""

    def __init__(self) -> None:
        self.items: List[Finding] = []

    def add(self, code: str, file: str, text: str = "", where: str = "") -> None:
        """Add a finding."""
        assert code in KINDS, code
        self.items.append(Finding(code, file, where, text))


def summary(findings: Iterable[Finding]) -> List[str]:
    """One line per headline, in order of appearance: the number of findings and the first places."""
    by_headline: Dict[str, List[Finding]] = {}
    for finding in findings:
        by_headline.setdefault(KINDS[finding.code].headline, []).append(finding)
    lines = []
    for headline, places in by_headline.items():
        more = "" if len(places) <= _SHOWN else f" and {len(places) - _SHOWN} more"
        shown = "; ".join(place.line(full_path=headline == _SKIPPED) for place in places[:_SHOWN])
        lines.append(f"{headline}: {len(places)} ({shown}{more})")
    return lines


def count_levels(findings: Iterable[Finding]) -> Dict[str, int]:
    """Number of findings per level."""
    counts = Counter(finding.level for finding in findings)
    return {level: counts[level] for level in LEVELS}
