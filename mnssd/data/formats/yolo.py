"""YOLO's text files: one object per line, ``class x y width height``, normalized by the image size.

x and y are the center of the box. A box over the columns 3 to 7 of 10 is 5 wide, from the left edge of column
3 to the right edge of column 7, with its center at 5.5: x 0.55, width 0.5. Lines with more numbers are
polygons, which are read as their bounding boxes, or boxes with keypoints; see `annotations.yolo_labels`.
"""

from __future__ import annotations

import contextlib
import os
import re
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import DataError, ImageError
from ...files import NAME_ERRORS, atomic_write, write_yaml
from ...options import Size
from ..annotations.annotation import AnnotationError, AnnotationList, BoxError, BoxObject
from ..annotations.paths import ImageFinder, images_below, is_inside, referenced_files, unique_ids
from ..annotations.roles import role_of
from ..annotations.text_files import MAX_ANNOTATION_BYTES, read_lines
from ..annotations.yolo_label_files import LabelFinder, no_labels, relative_path, text_files
from ..annotations.yolo_labels import LabelRow, check_boxes, parse_row, pose_columns, to_object
from ..annotations.yolo_layout import MAX_PATH, Layout, read_layout
from ..annotations.yolo_yaml import DESCRIPTIONS, OTHER_KEYS
from ..dataset import Dataset
from ..findings import Finding, Findings
from ..image import image_size
from ..image_files import files_below, is_image_file, is_unreadable_image
from . import Format, ImageFiles, difficult_notes, formats


class _LabeledImage(NamedTuple):
    """An image and its rows of labels, with their line numbers."""

    path: str
    file: str
    size: Size
    rows: Dict[int, LabelRow]


class YoloFormat(Format):
    """YOLO's text files."""

    name = "yolo"
    description = "YOLO text files: one object per line, normalized center and size"
    layout = (
        "data.yaml; obj.data and obj.names; or classes.txt, with labels in text files named like the images"
    )
    contents = "YOLO labels"
    priority = 30

    def lists(self, root: Path) -> Dict[str, Any]:
        """Lists by name: folders of images and files that list images."""
        layout = read_layout(root)
        if layout is None:
            return {}
        return layout.lists or {name: [] for name in layout.missing}

    def evidence(self, root: Path) -> str:
        layout = read_layout(root)
        return super().evidence(root) if layout is not None and layout.names else ""

    def weak_evidence(self, root: Path) -> str:
        layout = read_layout(root)
        if layout is not None and layout.lists and not layout.names:
            raise _no_class_names(root, layout)
        return ""

    def default_splits(self, root: Path, role: str) -> str:
        layout = read_layout(root)
        if layout is not None and not any(role_of(name) in ("", "train") for name in layout.lists):
            for name in (name for name in layout.missing if role_of(name) == "train"):
                raise _missing_list(root, layout, name)
        return super().default_splits(root, role)

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        layout, result = read_layout(root), AnnotationList()
        place = f"{root}, list {split}"
        if layout is not None and split in layout.missing:
            raise _missing_list(root, layout, split)
        self.place(root, split)
        assert layout is not None
        if not layout.names:
            raise _no_class_names(root, layout)
        if split == next(iter(layout.lists)):
            for name, text in layout.missing.items():
                result.findings.add("list-missing", str(layout.source), f"{name}: {text}")
        result.declared = layout.names
        paths, skipped = _image_paths(root, layout, split, result)
        images = list(_read_labels(root, split, paths, result))
        pose = _pose_columns(root, layout, split, images, place)
        ids = unique_ids([relative_path(path, root) for path in paths])
        for image in images:
            objects = _objects(image, layout, pose, result.findings)
            try:
                result.add(ids[relative_path(image.path, root)], image.path, image.file, image.size, objects)
            except AnnotationError as error:
                result.skip(error, image.path)
        result.check_skipped(place, len(paths) + skipped)
        return result

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        for split, dataset in parts.items():
            _write_labels(dataset, folder / "labels" / split, files[split])
        names = dict(enumerate(next(iter(parts.values())).classes))
        keys = {split: f"list_{split}" if split.lower() in OTHER_KEYS else split for split in parts}
        description = {**{keys[split]: f"images/{split}" for split in parts}, "names": names}
        write_yaml(folder / DESCRIPTIONS[0], description)
        return difficult_notes(parts, "lose this flag, which YOLO does not have")

    def check(self, dataset: Dataset) -> Iterator[Finding]:
        count = len(dataset.classes)
        codes = [f.text.startswith(f"class {count},") for f in dataset.findings if f.code == "class-unknown"]
        if any(codes) and not any((sample.labels == 0).any() for sample in dataset):
            text = f"{sum(codes)} objects of class {count} and none of class 0, {dataset.classes[0]}"
            yield Finding("classes-start-at-one", dataset.name, "", text)

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        for path in sorted(images_below(root) - referenced_files(parts)):
            yield Finding("image-unlisted", path, "", "")
        used = {os.path.realpath(f.file) for dataset in parts.values() for f in dataset.findings}
        for split, dataset in parts.items():
            paths = [sample.image_path for sample in dataset]
            finder = LabelFinder(root, paths, split)
            for path in paths:
                with contextlib.suppress(AnnotationError):
                    used.add(os.path.realpath(finder.find(path) or path))
        folders = {os.path.dirname(path) for path in used if path.lower().endswith(".txt")}
        layout = read_layout(root)
        lists = {os.path.realpath(path) for path in chain(*(layout.lists.values() if layout else ()))}
        for labels in text_files(root):
            real = os.path.realpath(labels)
            is_label = os.path.dirname(real) in folders or "labels" in Path(labels).parts
            if is_label and real not in used and real not in lists:
                yield Finding("annotation-without-image", labels, "", "")


def _no_class_names(root: Path, layout: Layout) -> DataError:
    where = f"{layout.source} has no 'names'" if layout.source != root else "there is no classes.txt"
    return DataError(
        f"{root}: YOLO labels without class names: {where}. Write {root / 'classes.txt'} with one name per "
        "line, in the order of the class numbers"
    )


def _missing_list(root: Path, layout: Layout, name: str) -> DataError:
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    return DataError(
        f"{layout.source}: no {layout.missing[name]!r} in {root}, named for {name}; folders there: "
        f"{', '.join(folders) or 'none'}"
    )


def _image_paths(root: Path, layout: Layout, split: str, result: AnnotationList) -> Tuple[List[str], int]:
    """Image paths of a list, in order, and the number of images that are missing or unreadable."""
    paths: Dict[str, None] = {}
    skipped = 0
    for place in layout.lists[split]:
        finder = ImageFinder(root, [root, *layout.bases, place.parent], split)
        is_folder = place.is_dir()
        names = (
            enumerate(files_below(place))
            if is_folder
            else read_lines(place, "a list of images", errors=NAME_ERRORS)
        )
        for number, name in names:
            file, where = (name, "") if is_folder else (str(place), f"line {number}")
            try:
                path = _image_in_folder(name, root) if is_folder else _listed_image(name, finder, root)
            except AnnotationError as error:
                result.skip(error, file, where)
                skipped += 1
                continue
            if path in paths and not is_folder:
                result.findings.add("image-listed-twice", file, path, where)
            if path is not None:
                paths[path] = None
    return list(paths), skipped


def _image_in_folder(path: str, root: Path) -> Optional[str]:
    """The path if it is an image; raises AnnotationError if it cannot be read."""
    if is_unreadable_image(path):
        raise AnnotationError(
            "images of this kind cannot be read; convert it to JPEG or PNG", "image-unsupported"
        )
    if not is_image_file(path):
        return None
    if not is_inside(path, root):
        raise AnnotationError(f"{path!r} is outside of the dataset's folder", "image-outside")
    return path


def _listed_image(name: str, finder: ImageFinder, root: Path) -> str:
    """Path of an image in a list, which may be relative to the working directory of another tool."""
    try:
        return finder.find(name)
    except AnnotationError as error:
        plain = re.sub(r"^(\.{1,2}[\\/])+", "", name)
        if error.code != "image-missing" or len(name) > MAX_PATH:
            raise
        parts = plain.replace("\\", "/").split("/")
        for path in (os.path.join(root, *parts[start:]) for start in range(len(parts))):
            if os.path.isfile(path) and is_inside(path, root):
                return path
        if plain == name:
            raise
        return finder.find(plain)


def _pose_columns(root: Path, layout: Layout, split: str, images: Sequence[_LabeledImage], place: str) -> int:
    """`pose_columns` of a list, judged by all lists if its own rows do not tell."""
    rows = _rows(images)
    check_boxes(rows, place)
    try:
        return pose_columns(rows, layout.keypoints, place)
    except DataError:
        for other in (name for name in layout.lists if name != split):
            ignored = AnnotationList()
            paths, _ = _image_paths(root, layout, other, ignored)
            with contextlib.suppress(DataError):
                rows += _rows(list(_read_labels(root, other, paths, ignored)))
        return pose_columns(rows, layout.keypoints, place)


def _rows(images: Sequence[_LabeledImage]) -> List[LabelRow]:
    return [row for image in images for row in image.rows.values()]


def _read_labels(root: Path, split: str, paths: List[str], result: AnnotationList) -> Iterator[_LabeledImage]:
    """Rows of labels of each image; raises DataError if no image has a label file."""
    finder, labeled = LabelFinder(root, paths, split), False
    for path in paths:
        try:
            size = image_size(path)
            labels = finder.find(path)
            labeled = labeled or labels is not None
            rows = _parse_file(labels, result.findings) if labels else {}
        except (AnnotationError, ImageError) as error:
            labeled = labeled or isinstance(error, AnnotationError)
            result.skip(error, path)
            continue
        if labels is None:
            result.findings.add("labels-missing", path)
        yield _LabeledImage(path, str(labels or path), size, rows)
    if paths and not labeled:
        raise no_labels(root, split, paths)


def _parse_file(path: Path, findings: Findings) -> Dict[int, LabelRow]:
    try:
        lines = read_lines(path, "labels", MAX_ANNOTATION_BYTES)
    except DataError as error:
        raise AnnotationError(str(error)) from error
    rows: Dict[int, LabelRow] = {}
    for number, line in lines:
        try:
            rows[number] = parse_row(line)
        except BoxError as error:
            findings.add(error.code, str(path), str(error), f"line {number}")
    return rows


def _objects(image: _LabeledImage, layout: Layout, pose: int, findings: Findings) -> List[BoxObject]:
    objects: List[BoxObject] = []
    for number, row in image.rows.items():
        try:
            objects.append(to_object(row, layout.names, image.size, pose))
        except BoxError as error:
            findings.add(error.code, image.file, str(error), f"line {number}")
    return objects


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
