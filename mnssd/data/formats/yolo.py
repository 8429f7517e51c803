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
from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject
from ..annotations.paths import ImageFinder, images_below, is_inside, referenced_files, unique_ids
from ..annotations.text_files import CLASSES_FILE, MAX_ANNOTATION_BYTES, open_text, read_classes, read_lines
from ..dataset import Dataset
from ..findings import Finding, Findings
from ..image import IMAGE_ENDINGS, image_size
from . import Format, ImageFiles, difficult_notes, formats

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")
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
            return {n: description[n] for n in LISTS if isinstance(description.get(n), (str, list))}
        if not _classes_file(root).is_file() or not (root / "labels").is_dir():
            return {}
        names = [name for name in LISTS if (root / "images" / name).is_dir()]
        return {name: f"images/{name}" for name in names} or {"all": "images"}

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        paths, result = _image_paths(root, self.place(root, split)), AnnotationList()
        result.declared = _class_names(root)
        ids = unique_ids([os.path.relpath(path, root) for path in paths])
        for path in paths:
            try:
                size = image_size(path)
                labels = _label_file(path, root)
                objects = _read_labels(labels, result.declared, size, result.findings) if labels else []
                if not labels:
                    result.findings.add("labels-missing", path)
                result.add(ids[os.path.relpath(path, root)], path, str(labels or path), size, objects)
            except (AnnotationError, ImageError) as error:
                result.skip(error, path)
        result.check_skipped(f"{root}, list {split}", len(paths))
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        for split, dataset in parts.items():
            _write_labels(dataset, folder / "labels" / split, files[split])
        names = dict(enumerate(next(iter(parts.values())).classes))
        description = {**{split: f"images/{split}" for split in parts}, "names": names}
        write_text(folder / DESCRIPTIONS[0], yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
        return difficult_notes(parts, "lose this flag, which YOLO does not have")

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
            if "labels" in labels.parts and labels.name != CLASSES_FILE:
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
            with open_text(path, "a description of the dataset", MAX_ANNOTATION_BYTES) as file:
                content = yaml.safe_load(file)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid YAML ({error})") from error
        if isinstance(content, dict) and "names" in content:
            return content
    return None


def _classes_file(root: Path) -> Path:
    path = root / CLASSES_FILE
    return path if path.is_file() else root / "labels" / CLASSES_FILE


def _class_names(root: Path) -> Tuple[str, ...]:
    description = _description(root)
    if description is None:
        return read_classes(_classes_file(root))
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
    parts = place if isinstance(place, list) else [place]
    for part in (part for part in parts if isinstance(part, str)):
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
    for number, line in read_lines(path, "a list of images"):
        try:
            yield finder.find(line)
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


def _read_labels(path: Path, names: Sequence[str], size: Size, findings: Findings) -> List[BoxObject]:
    try:
        lines = read_lines(path, "labels", MAX_ANNOTATION_BYTES)
    except DataError as error:
        raise AnnotationError(str(error)) from error
    objects: List[BoxObject] = []
    for number, line in lines:
        try:
            objects.append(_parse_object(line.split(), names, size))
        except BoxError as error:
            findings.add(error.code, str(path), str(error), f"line {number}")
    return objects


def _parse_object(words: Sequence[str], names: Sequence[str], size: Size) -> BoxObject:
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
            raise BoxError("boxes-in-pixels", f"{names[number]}: box appears to be in pixels, not 0 to 1")
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
            file.writelines(f"{line}\n" for line in lines)


formats.register(YoloFormat.name, YoloFormat())
