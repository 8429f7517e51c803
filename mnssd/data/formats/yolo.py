"""YOLO's text files: one object per line, ``class x y width height``, normalized by the image size.

x and y are the center of the box. A box over the columns 3 to 7 of 10 is 5 wide, from the left edge of column
3 to the right edge of column 7, with its center at 5.5: x 0.55, width 0.5. Lines with more numbers are
polygons, which are read as their bounding boxes.
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
    AnnotationList,
    BoxError,
    BoxObject,
    choose_classes,
    make_dataset,
    read_classes,
)  # fmt: skip
from ..annotations.paths import ImageFinder, images_below, is_inside, referenced_files, unique_ids
from ..annotations.voc_xml import MAX_ANNOTATION_BYTES
from ..dataset import Dataset
from ..findings import Finding, Findings
from ..image import IMAGE_ENDINGS, image_size
from . import Format, formats

DESCRIPTIONS, CLASSES = ("data.yaml", "data.yml", "dataset.yaml"), "classes.txt"
LISTS = ("train", "val", "valid", "test")
_DECIMALS = 3  # of a pixel: normalized values of six to nine digits do not restore whole pixels exactly


class YoloFormat(Format):
    """YOLO's text files."""

    name = "yolo"
    description = "YOLO text files: one object per line, normalized center and size"
    layout = "data.yaml, or classes.txt with the folders images and labels"
    contents = "YOLO labels"
    priority = 30

    def lists(self, root: Path) -> Dict[str, Any]:
        """Lists by name: a path, or a list of paths, to folders of images and files that list images."""
        description = _description(root)
        if description is not None:
            return {
                name: description[name] for name in LISTS if isinstance(description.get(name), (str, list))
            }
        if not (root / CLASSES).is_file() and not (root / "labels" / CLASSES).is_file():
            return {}
        if not (root / "labels").is_dir():
            return {}
        names = [name for name in LISTS if (root / "images" / name).is_dir()]
        return {name: f"images/{name}" for name in names} or {"all": "images"}

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        paths = _image_paths(root, self.place(root, split))
        names, result = _class_names(root), AnnotationList()
        ids = unique_ids([os.path.relpath(path, root) for path in paths])
        for path in paths:
            try:
                size = image_size(path)
                labels = _label_file(path, root)
                objects = _read_labels(labels, names, size, result.findings) if labels else []
                if not labels:
                    result.findings.add("labels-missing", path)
                result.add(ids[os.path.relpath(path, root)], path, str(labels or path), size, objects)
            except (AnnotationError, ImageError) as error:
                result.skip(error, path)
        result.check_skipped(f"{root}, list {split}", len(paths))
        chosen = choose_classes(classes, names, root)
        return make_dataset(
            f"{root.name} {split}", result.annotations, chosen, names, allow_absent, result.findings
        )

    def write(
        self, parts: Mapping[str, Dataset], folder: Path, files: Mapping[str, Mapping[str, str]]
    ) -> List[str]:
        notes = []
        for split, dataset in parts.items():
            _write_labels(dataset, folder / "labels" / split, files[split])
            difficult = sum(int(sample.difficult.sum()) for sample in dataset)
            if difficult:
                notes.append(
                    f"{split}: {difficult} difficult objects lose this flag, which YOLO does not have"
                )
        names = dict(enumerate(next(iter(parts.values())).classes))
        lists = {split: f"images/{split}" for split in parts}
        content = yaml.safe_dump({**lists, "names": names}, sort_keys=False, allow_unicode=True)
        write_text(folder / DESCRIPTIONS[0], content)
        return notes

    def check(self, dataset: Dataset) -> Iterator[Finding]:
        count = len(dataset.classes)
        codes = [f.text.startswith(f"class {count},") for f in dataset.findings if f.code == "class-unknown"]
        if any(codes) and not any((sample.labels == 0).any() for sample in dataset):
            text = f"{sum(codes)} objects of class {count} and none of class 0, {dataset.classes[0]}"
            yield Finding("classes-start-at-one", dataset.name, "", text)

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        referenced = referenced_files(parts)
        for path in sorted(images_below(root) - referenced):
            yield Finding("image-unlisted", path, "", "")
        stems = {os.path.splitext(path)[0] for path in referenced}
        for labels in sorted(root.rglob("*.txt")):
            if "labels" in labels.parts and labels.name != CLASSES:
                image = _replace_last(labels, "labels", "images")
                if os.path.splitext(os.path.realpath(image))[0] not in stems:
                    yield Finding("annotation-without-image", str(labels), "", "")


def _description(root: Path) -> Optional[Dict[str, Any]]:
    """Content of ``data.yaml``; None if there is no such file with class names."""
    for name in DESCRIPTIONS:
        path = root / name
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > MAX_ANNOTATION_BYTES:
                raise DataError(
                    f"{path}: larger than {MAX_ANNOTATION_BYTES >> 20} MiB; expected a description"
                )
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid YAML ({error})") from error
        if isinstance(content, dict) and "names" in content:
            return content
    return None


def _class_names(root: Path) -> Tuple[str, ...]:
    description = _description(root)
    if description is None:
        path = root / CLASSES if (root / CLASSES).is_file() else root / "labels" / CLASSES
        return read_classes(path)
    names = description["names"]
    if isinstance(names, dict):
        numbered = {int(key): name for key, name in names.items() if str(key).isdigit()}
        if len(numbered) < len(names) or sorted(numbered) != list(range(len(names))):
            raise DataError(f"{root}: 'names' in the YAML file must be numbered from 0 without gaps")
        names = [numbered[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, int)) for name in names):
        raise DataError(f"{root}: 'names' in the YAML file is not a list of class names")
    return tuple(str(name).strip() for name in names)


def _image_paths(root: Path, place: Any) -> List[str]:
    """Image paths of a list, in order: a folder, a file with one path per line, or several of these."""
    base = (_description(root) or {}).get("path")
    bases = [root / base, root] if isinstance(base, str) and os.path.isdir(root / base) else [root]
    finder = ImageFinder(root, [root, *bases])
    paths: List[str] = []
    for part in place if isinstance(place, list) else [place]:
        if not isinstance(part, str):
            continue
        # Roboflow writes '../train/images' although the folder is beside the description.
        candidates = [*(folder / part for folder in bases), root / part.lstrip("./")]
        path = next((p for p in candidates if os.path.exists(p) and is_inside(p, root)), None)
        if path is None:
            raise DataError(f"{root}: no {part!r}, which the YAML file names")
        if path.is_dir():
            inner = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS and p.is_file())
            paths += [str(p) for p in inner if is_inside(p, root)]
        else:
            paths += _listed_images(path, finder)
    return list(dict.fromkeys(paths))


def _listed_images(path: Path, finder: ImageFinder) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of images ({error})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield finder.find(line.strip())
            except AnnotationError as error:
                raise DataError(f"{path}, line {number}: {error}") from error


def _replace_last(path: Path, old: str, new: str) -> Path:
    """The path with its last part that is `old` replaced by `new`; unchanged if there is none."""
    parts = list(path.parts)
    if old in parts:
        parts[len(parts) - 1 - parts[::-1].index(old)] = new
    return Path(*parts)


def _label_file(image: str, root: Path) -> Optional[Path]:
    """Label file of an image: in ``labels`` instead of ``images``, or beside the image; None if missing."""
    path = Path(image)
    for candidate in (_replace_last(path, "images", "labels"), path):
        labels = candidate.with_name(f"{path.stem}.txt")
        if labels.is_file() and is_inside(labels, root):
            return labels
    return None


def _read_labels(
    path: Path, names: Sequence[str], size: Tuple[int, int], findings: Findings
) -> List[BoxObject]:
    try:
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise AnnotationError(f"{path.name}: larger than {MAX_ANNOTATION_BYTES >> 20} MiB")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AnnotationError(f"{path.name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path.name}: not a text file ({error.reason})") from error
    objects: List[BoxObject] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                objects.append(_parse_object(line.split(), names, size))
            except BoxError as error:
                findings.add(error.code, str(path), str(error), f"line {number}")
    return objects


def _parse_object(words: Sequence[str], names: Sequence[str], size: Tuple[int, int]) -> BoxObject:
    shown = " ".join(words)[:60]
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise BoxError("box-not-numeric", f"not numbers: {shown}") from None
    if len(values) < 5 or not all(math.isfinite(value) and abs(value) < 1e6 for value in values):
        code = "box-missing" if len(values) < 5 else "box-not-finite"
        raise BoxError(code, f"expected a class and four finite numbers, got {shown}")
    number = int(values[0])
    if number != values[0] or not 0 <= number < len(names):
        raise BoxError("class-unknown", f"class {words[0]}, expected 0 to {len(names) - 1}")
    if len(values) > 6:  # a polygon; six numbers are a box and its score
        if len(values) % 2 == 0:
            raise BoxError("polygon-invalid", "polygon with an odd number of coordinates")
        xs, ys = values[1::2], values[2::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    else:
        x, y, width, height = values[1:5]
        if width > 1.5 and height > 1.5:
            raise BoxError(
                "boxes-in-pixels", f"{names[number]}: box appears to be in pixels; expected 0 to 1"
            )
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    columns, lines = size
    if (right - left) * columns <= 1 or (bottom - top) * lines <= 1:
        code = "box-inverted" if right < left or bottom < top else "box-without-area"
        raise BoxError(code, f"{names[number]}: no area, {shown}")
    corners = (left * columns, top * lines, right * columns - 1, bottom * lines - 1)
    return BoxObject(names[number], [round(corner, _DECIMALS) for corner in corners])


def _write_labels(dataset: Dataset, folder: Path, files: Mapping[str, str]) -> None:
    for sample in dataset:
        width, height = sample.size
        lines = []
        for (left, top, right, bottom), label in zip(sample.boxes.tolist(), sample.labels):
            center = ((left + right + 1) / 2 / width, (top + bottom + 1) / 2 / height)
            sides = ((right - left + 1) / width, (bottom - top + 1) / height)
            lines.append(f"{int(label)} " + " ".join(f"{value:.9g}" for value in (*center, *sides)))
        path = folder / f"{os.path.splitext(files[sample.image_id])[0]}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write("".join(f"{line}\n" for line in lines))


formats.register(YoloFormat.name, YoloFormat())
