"""What is wrong with a dataset, or worth knowing: each kind once, and what becomes of it in training."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
"""An error loses something that was meant to be learned, or makes what is measured untrue."""

_NAMED = 5  # so many places are named in a line


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes
    ----------
    level : str
        One of `LEVELS`.
    headline : str
        What it is and what happens with it; kinds of one headline are counted together.
    """

    level: str
    headline: str


_UNUSABLE = "Boxes that cannot be used, dropped"
_SKIPPED = "Images skipped"

KINDS: Dict[str, Kind] = {
    # ---- annotations and images that cannot be used
    "image-missing": Kind(ERROR, _SKIPPED),
    "image-outside": Kind(ERROR, _SKIPPED),
    "image-unreadable": Kind(ERROR, "Images that cannot be decoded whole, replaced by others in training"),
    "annotation-missing": Kind(ERROR, _SKIPPED),
    "annotation-unreadable": Kind(ERROR, _SKIPPED),
    "image-nameless": Kind(ERROR, "Images without a file name, skipped"),
    "image-without-id": Kind(ERROR, "Images without an id, skipped"),
    # ---- boxes
    "box-inverted": Kind(ERROR, _UNUSABLE),
    "box-without-area": Kind(ERROR, _UNUSABLE),
    "box-not-numbers": Kind(ERROR, _UNUSABLE),
    "box-not-finite": Kind(ERROR, _UNUSABLE),
    "box-missing": Kind(ERROR, _UNUSABLE),
    "object-nameless": Kind(ERROR, _UNUSABLE),
    "object-astray": Kind(ERROR, _UNUSABLE),
    "class-not-listed": Kind(ERROR, _UNUSABLE),
    "polygon-odd": Kind(ERROR, _UNUSABLE),
    "box-outside": Kind(ERROR, "Boxes without area inside their images, dropped"),
    "boxes-as-shares": Kind(ERROR, _UNUSABLE),
    "boxes-as-pixels": Kind(ERROR, _UNUSABLE),
    "boxes-as-corners": Kind(ERROR, "Boxes that look like corners, read as a corner with width and height"),
    "box-clipped": Kind(WARNING, "Boxes partly outside their images, clipped"),
    "box-over-edge": Kind(NOTE, "Boxes over the edge by a pixel or less, clipped"),
    "box-repeated": Kind(WARNING, "Boxes that stand there twice, each counted"),
    "box-two-classes": Kind(WARNING, "Boxes with objects of two classes in one place, both learned"),
    "box-tiny": Kind(WARNING, "Boxes of a few pixels in the network's input, hardly to be learned"),
    "box-whole-image": Kind(NOTE, "Boxes that cover their whole image"),
    "boxes-unmatched": Kind(WARNING, "Boxes that overlap no anchor enough, learned by one anchor each"),
    # ---- images
    "size-differs": Kind(WARNING, "Annotations that state another size than their image has"),
    "size-turned": Kind(
        ERROR,
        "Annotations whose width and height are exchanged: boxes, perhaps, of an image before its EXIF turn",
    ),
    "image-turned": Kind(NOTE, "Images with an EXIF orientation, turned as viewers show them"),
    "image-repeated": Kind(WARNING, "Images with the same pixels, each learned"),
    "image-in-two-lists": Kind(ERROR, "Images in two lists, so that what is measured was learned"),
    "image-listed-twice": Kind(WARNING, "Images listed twice, taken once"),
    "image-unlisted": Kind(NOTE, "Images with annotations that no list names, not used"),
    "image-unannotated": Kind(WARNING, "Images without an annotation that no list names, not used"),
    "annotation-orphaned": Kind(WARNING, "Annotations without an image, not used"),
    "labels-missing": Kind(WARNING, "Images without a file of labels, taken as without objects"),
    "image-empty": Kind(NOTE, "Images without objects, learned as background"),
    "image-small": Kind(NOTE, "Images smaller than the network's input, enlarged"),
    "ending-untrue": Kind(NOTE, "Images whose ending is another format's, read as what they are"),
    # ---- classes
    "class-misspelt": Kind(ERROR, "Classes whose names nearly agree, taken as different ones"),
    "class-similar": Kind(
        WARNING, "Rare classes whose names are much like another's, taken as different ones"
    ),
    "classes-from-one": Kind(ERROR, "Class numbers that seem to be counted from 1"),
    "class-ignored": Kind(NOTE, "Classes that are not wanted, their objects left out"),
    "class-unused": Kind(WARNING, "Classes without an object, not to be learned"),
    "class-rare": Kind(WARNING, "Classes with few objects, hardly to be learned"),
}


class Finding(NamedTuple):
    """One place where something is wrong, or worth knowing.

    Attributes
    ----------
    code : str
        A key of `KINDS`.
    file : str
    where : str
        Within the file: ``line 3``, ``annotation 5``; may be empty.
    text : str
        What there is to say beyond the kind's headline; may be empty.
    """

    code: str
    file: str
    where: str
    text: str

    @property
    def level(self) -> str:
        """One of `LEVELS`."""
        return KINDS[self.code].level

    def line(self, whole_path: bool = False) -> str:
        """For people: the file, by its name or whole path, the place in it, the text."""
        file = self.file if whole_path else os.path.basename(self.file) or self.file
        place = f"{file}, {self.where}" if self.where else file
        return f"{place}: {self.text}" if self.text else place

    def as_dict(self) -> Dict[str, Any]:
        """For JSON."""
        kind = KINDS[self.code]
        return {
            "code": self.code, "level": kind.level, "file": self.file, "where": self.where, "text": self.text,
            "effect": kind.headline,
        }  # fmt: skip


class Findings:
    """Collects what is found while a dataset is read."""

    def __init__(self) -> None:
        self.found: List[Finding] = []

    def add(self, code: str, file: str, text: str = "", where: str = "") -> None:
        """One more."""
        assert code in KINDS, code
        self.found.append(Finding(code, file, where, text))

    def lines(self) -> List[str]:
        """A line a headline: how many, and the first places."""
        return summary(self.found)


def summary(found: Iterable[Finding]) -> List[str]:
    """A line for each headline, in order of appearance: how many, and the first places."""
    by_headline: Dict[str, List[Finding]] = {}
    for finding in found:
        by_headline.setdefault(KINDS[finding.code].headline, []).append(finding)
    lines = []
    for headline, places in by_headline.items():
        more = "" if len(places) <= _NAMED else f" and {len(places) - _NAMED} more"
        shown = "; ".join(place.line(headline == _SKIPPED) for place in places[:_NAMED])
        lines.append(f"{headline}: {len(places)} ({shown}{more})")
    return lines


def count_levels(found: Iterable[Finding]) -> Dict[str, int]:
    """How many of each of `LEVELS`."""
    counts = Counter(finding.level for finding in found)
    return {level: counts[level] for level in LEVELS}
