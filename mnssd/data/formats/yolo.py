"""YOLO's text files: a line an object, ``class x y width height``, as shares of the image's sides.

x and y are those of the box's centre. A box over the columns 3 to 7 of 10 is 5 wide, from the left edge of
one to the right edge of the other, with its centre at 5.5: x 0.55, width 0.5. Lines of more numbers are
polygons, of which the box is taken.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import yaml

from ...errors import DataError, ImageError
from ...files import atomic_write, write_text
from ..annotations.annotation import (
    AnnotationError,
    BoxError,
    Reading,
    make_annotation,
    make_dataset,
    read_classes,
)
from ..annotations.paths import Images, images_below, referenced_files, unique_ids
from ..annotations.voc_xml import MAX_ANNOTATION_BYTES
from ..dataset import Dataset
from ..findings import Finding, Findings
from ..image import IMAGE_ENDINGS, image_size
from . import Format, formats

DESCRIPTION, CLASSES = ("data.yaml", "data.yml", "dataset.yaml"), "classes.txt"
_DIGITS = 3  # of a pixel
ROLES = ("train", "val", "valid", "test")


def yolo_splits(root: Path) -> Dict[str, str]:
    """The lists of a dataset, their names and where their images are; none where it is another format's."""
    description = _description(root)
    if description is not None:
        return {role: description[role] for role in ROLES if isinstance(description.get(role), (str, list))}
    if not (root / CLASSES).is_file() and not (root / "labels" / CLASSES).is_file():
        return {}
    if not (root / "labels").is_dir():
        return {}
    parts = [role for role in ROLES if (root / "images" / role).is_dir()]
    return {role: f"images/{role}" for role in parts} or {"all": "images"}


def _description(root: Path) -> Optional[Dict[str, Any]]:
    for name in DESCRIPTION:
        path = root / name
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > MAX_ANNOTATION_BYTES:
                raise DataError(f"{path}: far too large for a description")
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as YAML ({error})") from error
        if isinstance(content, dict) and "names" in content:
            return content
    return None


def read_yolo(
    root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
) -> Dataset:
    """Read one list of a dataset with YOLO's text files.

    Parameters
    ----------
    root : Path
        It holds ``data.yaml``, or ``classes.txt`` with the folders ``images`` and ``labels``.
    split : str
        A key of `yolo_splits`.
    classes : sequence of str, optional
        Wanted, in the order of the labels; by default all, in the order of their numbers.
    allow_absent : bool
        Accept classes that the dataset has not.

    Raises
    ------
    DataError
        When something of the layout is missing, or more than half of the images cannot be used.
    """
    places = yolo_splits(root)
    if split not in places:
        raise DataError(
            f"{root}: no list {split!r} in YOLO's format; there are: {', '.join(places) or 'none'}"
        )
    names = _names(root)
    reading = Reading()
    findings = reading.findings
    pictures = _pictures(root, places[split])
    ids = unique_ids([os.path.relpath(path, root) for path in pictures])
    for path in pictures:
        name = os.path.relpath(path, root)
        try:
            size = image_size(path)
            labels = _label_file(path, root)
            rows = _rows(labels, names, size, findings) if labels else []
            if not labels:
                findings.add("labels-missing", path)
            reading.records.append(
                make_annotation(
                    ids[name], path, str(labels) if labels else path, size,
                    [row[0] for row in rows], [row[1] for row in rows], [False] * len(rows), findings,
                )
            )  # fmt: skip
        except (AnnotationError, ImageError) as error:
            reading.skip(error, path)
    reading.check(f"{root}, {split}", len(pictures))
    wanted = names if classes is None else tuple(classes)
    return make_dataset(f"{root.name} {split}", reading.records, wanted, names, allow_absent, findings)


def _names(root: Path) -> Tuple[str, ...]:
    description = _description(root)
    if description is not None:
        names = description["names"]
        if isinstance(names, dict):
            numbered = {int(key): name for key, name in names.items() if str(key).isdigit()}
            if len(numbered) < len(names) or sorted(numbered) != list(range(len(names))):
                raise DataError(f"{root}: 'names' in its description does not count from 0 without gaps")
            names = [numbered[number] for number in range(len(names))]
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, (str, int)) for name in names)
        ):
            raise DataError(f"{root}: 'names' in its description is no list of class names")
        return tuple(str(name).strip() for name in names)
    path = root / CLASSES if (root / CLASSES).is_file() else root / "labels" / CLASSES
    return read_classes(path)


def _pictures(root: Path, place: Any) -> List[str]:
    """Paths of the images of a list, in order: a folder, a file with a line each, or several of these."""
    description = _description(root) or {}
    base = root
    if isinstance(description.get("path"), str) and os.path.isdir(root / description["path"]):
        base = root / description["path"]
    found: List[str] = []
    inside = Images(root, [root, base])
    for part in place if isinstance(place, list) else [place]:
        if not isinstance(part, str):
            continue
        # Roboflow writes '../train/images' though the folder lies beside the description.
        tried = [base / part, root / part, root / part.lstrip("./")]
        path = next((p for p in tried if os.path.exists(p) and _is_below(p, root)), None)
        if path is None:
            raise DataError(f"{root}: {part!r}, which its description names, is not in it")
        if path.is_dir():
            names = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())
            found += [str(p) for p in names if _is_below(p, root)]
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of images ({error})") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    found.append(inside.find(line.strip()))
                except AnnotationError as error:
                    raise DataError(f"{path}, line {number}: {error}") from error
    return list(dict.fromkeys(found))


def _is_below(path: Path, root: Path) -> bool:
    real, top = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, top]) == top


def _label_file(image: str, root: Path) -> Optional[Path]:
    """``labels`` in place of the last ``images`` of the path, or beside the image; None if in neither."""
    path = Path(image)
    parts = list(path.parts)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    for candidate in (Path(*parts), path):
        text = candidate.with_name(f"{path.stem}.txt")
        if text.is_file() and _is_below(text, root):
            return text
    return None


_Row = Tuple[str, Tuple[float, float, float, float]]


def _rows(path: Path, names: Sequence[str], size: Tuple[int, int], findings: Findings) -> List[_Row]:
    try:
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise AnnotationError(f"{path.name}: far too large for labels")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AnnotationError(f"{path.name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path.name}: no text that can be read ({error.reason})") from error
    rows: List[_Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(_row(line.split(), names, size))
        except BoxError as error:
            findings.add(error.code, str(path), str(error), f"line {number}")
    return rows


def _row(words: Sequence[str], names: Sequence[str], size: Tuple[int, int]) -> _Row:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise BoxError("box-not-numbers", f"not numbers: {' '.join(words)[:60]}") from None
    if len(values) < 5 or not all(math.isfinite(value) and abs(value) < 1e6 for value in values):
        code = "box-missing" if len(values) < 5 else "box-not-finite"
        raise BoxError(code, f"not a class and four finite numbers: {' '.join(words)[:60]}")
    number = int(values[0])
    if number != values[0] or not 0 <= number < len(names):
        raise BoxError("class-not-listed", f"class {words[0]}, but classes are 0 to {len(names) - 1}")
    if len(values) > 6:  # a polygon; six numbers are a box with a score behind it
        if len(values) % 2 == 0:
            raise BoxError("polygon-odd", "a polygon with an odd number of coordinates")
        xs, ys = values[1::2], values[2::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    else:
        x, y, width, height = values[1:5]
        if width > 1.5 and height > 1.5:
            raise BoxError(
                "boxes-as-pixels", f"{names[number]}: pixels, it seems; YOLO's boxes are shares of the sides"
            )
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    columns, lines = size
    if (right - left) * columns <= 1 or (bottom - top) * lines <= 1:
        code = "box-inverted" if right < left or bottom < top else "box-without-area"
        raise BoxError(code, f"{names[number]} without area: {' '.join(words)[:60]}")
    corners = (left * columns, top * lines, right * columns - 1, bottom * lines - 1)
    # Shares of six to nine digits do not give whole pixels back to the last bit; rounded they do.
    x, y, far_x, far_y = (round(corner, _DIGITS) for corner in corners)
    return names[number], (x, y, far_x, far_y)


def write_yolo(dataset: Dataset, folder: Path, files: Mapping[str, str]) -> None:
    """Write the text file of each image into `folder`, under the names of `files` with another ending.

    The format cannot say that an object is difficult.
    """
    for sample in dataset:
        width, height = sample.size
        lines = []
        for (left, top, right, bottom), label in zip(sample.boxes.tolist(), sample.labels):
            centre = ((left + right + 1) / 2 / width, (top + bottom + 1) / 2 / height)
            sides = ((right - left + 1) / width, (bottom - top + 1) / height)
            lines.append(f"{int(label)} " + " ".join(f"{value:.9g}" for value in (*centre, *sides)))
        path = folder / f"{os.path.splitext(files[sample.image_id])[0]}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in lines))


class YoloFormat(Format):
    """YOLO text files."""

    name = "yolo"
    description = "YOLO text files: one line per object, normalized center and size"
    layout = "data.yaml, or classes.txt with the folders images and labels"
    contents = "YOLO labels"
    priority = 30

    def lists(self, root: Path) -> Dict[str, Any]:
        return yolo_splits(root)

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        return read_yolo(root, split, classes, allow_absent=allow_absent)

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
        notes = []
        for split, dataset in parts.items():
            write_yolo(dataset, folder / "labels" / split, files[split])
            difficult = sum(int(sample.difficult.sum()) for sample in dataset)
            if difficult:
                notes.append(f"{split}: {difficult} difficult objects lose that flag; YOLO has none")
        names = dict(enumerate(next(iter(parts.values())).classes))
        lists = {split: f"images/{split}" for split in parts}
        content = yaml.safe_dump({**lists, "names": names}, sort_keys=False, allow_unicode=True)
        write_text(folder / "data.yaml", content)
        return notes

    def check(self, dataset: Dataset) -> Iterator[Finding]:
        number = len(dataset.classes)
        beyond = f"class {number},"
        over = sum(f.code == "class-not-listed" and f.text.startswith(beyond) for f in dataset.findings)
        if over and not any((sample.labels == 0).any() for sample in dataset):
            text = f"{over} objects of class {number} and none of class 0, {dataset.classes[0]}"
            yield Finding("classes-from-one", dataset.name, "", text)

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        referenced = referenced_files(parts)
        for path in sorted(images_below(root) - referenced):
            yield Finding("image-unlisted", path, "", "")
        stems = {os.path.splitext(path)[0] for path in referenced}
        for labels in sorted(root.rglob("*.txt")):
            where = list(labels.parts)
            if "labels" in where and labels.name != "classes.txt":
                where[len(where) - 1 - where[::-1].index("labels")] = "images"
                if os.path.splitext(os.path.realpath(Path(*where)))[0] not in stems:
                    yield Finding("annotation-orphaned", str(labels), "", "")


formats.register(YoloFormat.name, YoloFormat())
