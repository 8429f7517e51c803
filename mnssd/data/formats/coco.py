"""COCO's JSON: boxes of images, with categories.

A box is ``[x, y, width, height]`` in pixels; columns 3 to 7 are x 3 and width 5, so here xmin 3 and xmax 7.
Boxes of crowds (``iscrowd``) are regions in which nothing is to be counted: they become difficult ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ...errors import DataError
from ...files import atomic_write
from ..annotations.annotation import AnnotationError, BoxError, Reading, make_annotation, make_dataset
from ..annotations.paths import MAX_BYTES, Images, unique_ids
from ..dataset import Dataset
from ..findings import Finding, Findings
from . import Format, formats

NAMES = ("instances_{split}.json", "{split}.json", "instances_{split}2017.json", "instances_{split}2014.json")
"""How the file of a list is called: as in COCO, and as most tools write it."""

MANY_CLIPPED = 0.2
"""Share of boxes beyond their images above which they look like corners read as sizes."""

FOLDERS = ("", "annotations")
OWN_FOLDER = "_annotations.coco.json"
"""In a folder of each list's own, with its images (Roboflow's way)."""


def coco_files(root: Path) -> Dict[str, Path]:
    """The lists of a dataset, their names and files; none where there is no JSON of COCO's."""
    found: Dict[str, Path] = {}
    if not root.is_dir():
        return found
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*.json")) if (root / folder).is_dir() else ():
            name = path.stem
            if _is_coco(path):
                plain = name[len("instances_") :] if name.startswith("instances_") else name
                found.setdefault(plain[:-4] if plain[-4:] in ("2017", "2014") else plain, path)
    for path in sorted(root.glob(f"*/{OWN_FOLDER}")):
        found.setdefault(path.parent.name, path)
    return found


def _is_coco(path: Path) -> bool:
    """By its first kilobytes and its last: a file of hundreds of megabytes is not read twice."""
    try:
        with open(path, "rb") as file:
            start = file.read(1 << 16)
            file.seek(max(0, path.stat().st_size - (1 << 16)))
            end = file.read()
    except OSError:
        return False
    return start.lstrip()[:1] == b"{" and any(b'"images"' in part for part in (start, end))


def read_coco(
    root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read one list of a dataset in COCO's format.

    Parameters
    ----------
    root : Path
        The folder; its JSON files lie in it, in ``annotations``, or in a folder of each list.
    split : str
        A key of `coco_files`.
    classes : sequence of str, optional
        Wanted, in the order of the labels; by default all categories, in the order of their ids.
    allow_absent : bool
        Accept classes that are no category.

    Raises
    ------
    DataError
        When the file is not there, is no JSON of COCO's, or more than half of its images cannot be used.
    """
    files = coco_files(root)
    if split not in files:
        raise DataError(
            f"{root}: no list {split!r} in COCO's format; there are: {', '.join(files) or 'none'}"
        )
    path = files[split]
    content = _read(path)
    reading = Reading()
    findings = reading.findings
    categories = _categories(path, content)
    annotations = _by_image(path, content, categories, findings)
    pictures = _pictures(path, content, findings)
    ids = unique_ids([picture["file_name"] for picture in pictures])
    places = [root, root / "images", root / split, root / "images" / split, path.parent]
    places += [root / f"{split}{year}" for year in (2017, 2014)] + [root / "images" / f"{split}2017"]
    images = Images(root, [place for place in places if place.is_dir()])
    for picture in pictures:
        name = picture["file_name"]
        boxes = annotations.get(picture["id"], [])
        try:
            reading.records.append(
                make_annotation(
                    ids[name], images.find(name), str(path), _size(picture),
                    [box[0] for box in boxes], [box[1] for box in boxes], [box[2] for box in boxes],
                    findings, name,
                )
            )  # fmt: skip
        except AnnotationError as error:
            reading.skip(error, str(path), name)
    reading.check(str(path), len(pictures))
    names = tuple(categories.values())
    wanted = names if classes is None else tuple(classes)
    return make_dataset(f"{root.name} {split}", reading.records, wanted, names, allow_absent, findings)


def _read(path: Path) -> Dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: far too large for annotations")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON that can be read ({error})") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(f"{path}: not COCO's format; it has lists called {', '.join(lists)}")
    return content


def _categories(path: Path, content: Mapping[str, Any]) -> Dict[int, str]:
    """Names by id, in the order of the ids."""
    found: Dict[int, str] = {}
    for entry in content["categories"]:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: a category without an id and a name: {str(entry)[:80]}")
        if number in found or name.strip() in found.values():
            raise DataError(f"{path}: two categories with id {number}, or called {name!r}")
        found[number] = name.strip()
    return {number: found[number] for number in sorted(found)}


def _pictures(path: Path, content: Mapping[str, Any], findings: Findings) -> List[Dict[str, Any]]:
    found: Dict[Any, Dict[str, Any]] = {}
    names = set()
    for position, entry in enumerate(content["images"]):
        where = f"image {position + 1}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            findings.add("image-nameless", str(path), "", where)
        elif not isinstance(entry.get("id"), (int, str)):
            findings.add("image-without-id", str(path), "", where)
        elif entry["id"] in found or entry["file_name"] in names:
            findings.add("image-listed-twice", str(path), "", entry["file_name"])
        else:
            found[entry["id"]] = entry
            names.add(entry["file_name"])
    return list(found.values())


_Box = Tuple[str, Tuple[float, float, float, float], bool]


def _by_image(
    path: Path, content: Mapping[str, Any], categories: Mapping[int, str], findings: Findings
) -> Dict[Any, List[_Box]]:
    """Class, corners and whether it is difficult, of each usable box, by the id of its image."""
    found: Dict[Any, List[_Box]] = {}
    ids = (entry.get("id") for entry in content["images"] if isinstance(entry, dict))
    known = {number for number in ids if _is_key(number)}
    for position, entry in enumerate(content["annotations"]):
        try:
            image, box = _annotation(entry, categories)
            if image not in known:
                raise BoxError("object-astray", f"of an image {image!r} that is not listed")
        except BoxError as error:
            findings.add(error.code, str(path), str(error), f"annotation {position + 1}")
            continue
        found.setdefault(image, []).append(box)
    return found


def _annotation(entry: Any, categories: Mapping[int, str]) -> Tuple[Any, _Box]:
    if not isinstance(entry, dict) or not _is_key(entry.get("image_id")):
        raise BoxError("object-astray", "without an image")
    category, box = entry.get("category_id"), entry.get("bbox")
    if not isinstance(category, int) or category not in categories:
        raise BoxError("class-not-listed", f"of a category {category!r} that is not listed")
    name = categories[category]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise BoxError(_fault_of_box(box), f"{name} without a box of four numbers: {str(box)[:60]}")
    x, y, width, height = map(float, box)
    if min(width, height) > 0 and max(box) <= 1:
        raise BoxError(
            "boxes-as-shares", f"{name}: shares of the sides, it seems; COCO's boxes are in pixels"
        )
    if width <= 1 or height <= 1:  # one column of pixels, as in VOC's annotations
        code = "box-inverted" if min(width, height) < 0 else "box-without-area"
        raise BoxError(code, f"{name} with width {width:g} and height {height:g}: no area")
    return entry["image_id"], (name, (x, y, x + width - 1, y + height - 1), bool(entry.get("iscrowd")))


def _fault_of_box(box: Any) -> str:
    if not isinstance(box, list) or not box:
        return "box-missing"
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in box)
    return "box-not-finite" if numbers and len(box) == 4 else "box-not-numbers"


def _size(picture: Mapping[str, Any]) -> Optional[Tuple[int, int]]:
    width, height = picture.get("width"), picture.get("height")
    if isinstance(width, int) and isinstance(height, int) and 0 < width < 1 << 20 and 0 < height < 1 << 20:
        return (width, height)
    return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_key(value: Any) -> bool:
    return isinstance(value, str) or _is_int(value)


def _is_number(value: Any) -> bool:
    """Finite, and of a size that coordinates have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e9 < value < 1e9


def write_coco(dataset: Dataset, path: Path, files: Mapping[str, str]) -> None:
    """Write a dataset as one JSON file; difficult objects become crowds.

    Parameters
    ----------
    dataset : Dataset
    path : Path
    files : mapping of str to str
        By image id the name of its file, relative to the dataset's folder or its ``images``.
    """
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for number, sample in enumerate(dataset, 1):
        width, height = sample.size
        images.append({"id": number, "file_name": files[sample.image_id], "width": width, "height": height})
        for box, label, difficult in zip(sample.boxes.tolist(), sample.labels, sample.difficult):
            corner = [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1,
                    "bbox": corner, "area": corner[2] * corner[3], "iscrowd": int(difficult),
                }
            )  # fmt: skip
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(dataset.classes)]
    whole = {"categories": categories, "images": images, "annotations": annotations}
    with atomic_write(path) as file:
        json.dump(whole, file, allow_nan=False)


class CocoFormat(Format):
    """COCO JSON files."""

    name = "coco"
    description = "COCO JSON: one file per list, boxes as x, y, width, height"
    layout = "COCO JSON files in the folder, in annotations/, or */_annotations.coco.json"
    contents = "COCO JSON files"
    priority = 20

    def lists(self, root: Path) -> Dict[str, Any]:
        return coco_files(root)

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        return read_coco(root, split, classes, allow_absent=allow_absent)

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
        (folder / "annotations").mkdir(exist_ok=True)
        notes = []
        for split, dataset in parts.items():
            write_coco(dataset, folder / "annotations" / f"instances_{split}.json", files[split])
            difficult = sum(int(sample.difficult.sum()) for sample in dataset)
            if difficult:
                notes.append(f"{split}: {difficult} difficult objects written as crowds (iscrowd)")
        return notes

    def check(self, dataset: Dataset) -> Iterator[Finding]:
        codes = [finding.code for finding in dataset.findings]
        boxes = sum(len(sample.labels) for sample in dataset)
        outside = codes.count("box-clipped") + codes.count("box-outside")
        if outside > MANY_CLIPPED * (boxes + codes.count("box-outside")):
            text = f"{outside} of {boxes} extend beyond their images; COCO boxes are [x, y, width, height]"
            yield Finding("boxes-as-corners", dataset.name, "", text)


formats.register(CocoFormat.name, CocoFormat())
